//! `slipway upgrade`: what an upgrade would meet, and the version in the plan file. It changes no host:
//! an upgrade itself is an `apply` of a plan whose version differs.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;

use super::{Output, PlanFile, check, diff, sessions};
use crate::cluster::live::LiveCluster;
use crate::failure::{Failure, Kind};
use crate::names::KubernetesVersion;
use crate::plan::load::{self, Loaded};
use crate::plan::rewrite;
use crate::planning::{self, LocalSource, Options, Planned};
use crate::preflight::Finding;
use crate::report::difference::Difference;
use crate::report::visible::{self, visible};
use crate::transport::Transport as _;
use crate::transport::ssh::SshTransport;
use crate::trust::decide::Requested;
use crate::trust::rotation::Aims;

/// What can be asked of `upgrade`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub(super) struct Arguments {
    #[command(flatten)]
    file: PlanFile,
    /// Say what the upgrade would meet, and leave the plan file as it is
    #[arg(long, group = "what")]
    check: bool,
    /// The version to go to; without `--check` it is written into the plan file if nothing stands in the way
    #[arg(long, value_name = "VERSION", group = "what")]
    to: Option<KubernetesVersion>,
    /// How results are written
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let file = &arguments.file.plan;
    let before = check::load_plan(&arguments.file, arguments.output)?;
    let from = before.plan.kubernetes.version;
    let old = before.text.clone();
    let loaded = match arguments.to.filter(|to| *to != from) {
        None => before,
        Some(to) => {
            let text = rewrite::with_version(&old, to).map_err(|error| {
                Failure::from_error(Kind::Plan, &error).hint(format!("write `version: {to}` there yourself; nothing was changed"))
            })?;
            check::shown(load::load_text(file, text), arguments.output)?
        }
    };
    let new = loaded.text.clone();
    let planned = look(loaded).await?;
    let written = !arguments.check && new != old;
    if written {
        replace(file, &old, &new)?;
    }
    show(arguments, &planned, written);
    Ok(())
}

async fn look(loaded: Loaded) -> Result<Planned<LiveCluster<SshTransport>>, Failure> {
    let transport = sessions::open(&loaded.plan)?;
    let options = Options {
        hosts: &[],
        phases: &[],
        renew: &Requested::NONE,
        lock: None,
        now: Timestamp::now(),
        local: LocalSource::Read,
        rotation: Aims::new(),
    };
    let planned = planning::plan(Arc::new(loaded.plan), transport.as_ref(), planning::live(&transport), options).await;
    transport.close().await;
    planned
}

fn show(arguments: &Arguments, planned: &Planned<LiveCluster<SshTransport>>, written: bool) {
    let difference = Difference::of(&planned.graph);
    let version = planned.plan.kubernetes.version;
    let file = arguments.file.plan.display();
    if arguments.output == Output::Json {
        let findings: Vec<String> = planned.warnings.iter().map(Finding::to_string).collect();
        let result = json!({ "version": version, "written": written, "findings": findings, "difference": difference });
        println!("{}", visible::json(&result, true));
        return;
    }
    eprint!("{}", planned.warnings());
    if !arguments.check {
        print!("{}", difference.to_text(diff::look(false)));
    }
    let order = difference.order_text.as_ref().map(|order| format!("order: {order}\n")).unwrap_or_default();
    print!("{}", if arguments.check { visible(&order) } else { String::new() });
    let changes = planned.graph.changes();
    match (written, arguments.check) {
        (true, _) => println!("{file} says {version} now; `slipway apply {file}` makes {changes} changes"),
        (false, true) => println!("nothing stands in the way of {version}: {changes} changes, none made"),
        (false, false) => println!("{file} says {version} already; `slipway apply {file}` makes {changes} changes"),
    }
}

/// Puts another text into a file, whole or not at all, unless somebody changed it meanwhile. Its mode
/// stays; a link stays a link.
fn replace(file: &Path, old: &str, new: &str) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::new(Kind::LocalFile, format!("cannot write {}: {error}", file.display()));
    let target: PathBuf = file.canonicalize().map_err(failed)?;
    let directory = target.parent().unwrap_or(Path::new("/"));
    let mut beside = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
    beside.write_all(new.as_bytes()).map_err(failed)?;
    beside.as_file().set_permissions(std::fs::metadata(&target).map_err(failed)?.permissions()).map_err(failed)?;
    beside.as_file().sync_all().map_err(failed)?;
    if load::read(&target).ok().as_deref() != Some(old) {
        return Err(Failure::new(Kind::LocalFile, format!("{} was changed by somebody else meanwhile", file.display()))
            .hint("it was left as it is; run the same command again"));
    }
    beside.persist(&target).map_err(|error| failed(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_file_is_replaced_through_its_link_with_its_mode_unless_it_changed() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("plan.yaml"), directory.path().join("link.yaml"));
        std::fs::write(&file, "old").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("plan.yaml", &link).unwrap();
        replace(&link, "old", "new").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(link.symlink_metadata().unwrap().is_symlink());
        let refused = replace(&link, "old", "newer").unwrap_err();
        assert_eq!(refused.kind, Kind::LocalFile);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "nothing is left beside it");
    }
}
