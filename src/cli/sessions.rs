//! Opens the transport over SSH, and names the run for locks and journals.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use crate::failure::{Failure, Kind};
use crate::plan::Plan;
use crate::transport::ssh::{SshOptions, SshTransport};

/// A transport to the plan's hosts. Nothing is connected until it is used.
pub(super) fn open(plan: &Plan) -> Result<Arc<SshTransport>, Failure> {
    let runtime_directory = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_dir());
    let user = std::fs::metadata("/proc/self").map_or(0, |metadata| metadata.uid());
    let in_ci = std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"));
    let options = SshOptions::usual(runtime_directory.as_deref(), std::env::home_dir().as_deref(), user)
        .keeping(plan.ssh.persist, in_ci);
    SshTransport::new(plan, options).map(Arc::new).map_err(|error| Failure::from_error(Kind::LocalFile, &error))
}

/// Who runs this, as `user@machine`, for people who meet the lock.
pub(super) fn operator() -> String {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = variable("USER").or_else(|| variable("LOGNAME")).unwrap_or_else(|| "unknown".into());
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned());
    format!("{user}@{}", machine.unwrap_or_else(|_| "unknown".into()))
}
