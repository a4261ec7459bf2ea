//! The benchmark's own hosts of the lab: three control planes and two workers.

use crate::error::{Error, Explain, Result};
use crate::lab::address::address;
use crate::lab::cache::Cache;
use crate::lab::{host, hosts, keys, kubernetes};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// The control planes.
pub const CONTROL_PLANES: [&str; 3] = ["bench-cp-1", "bench-cp-2", "bench-cp-3"];
/// The workers.
pub const WORKERS: [&str; 2] = ["bench-w-1", "bench-w-2"];

/// What all kubelets are told: the hosts share the machine's disk, and by default a kubelet throws
/// images away when less than 15% of it are free.
pub const KUBELET: &str = "\
evictionHard: {imagefs.available: 1%, nodefs.available: 1%, memory.available: 100Mi}
imageGCHighThresholdPercent: 100
";

/// What hosts are given to calm down after they booted.
const SETTLE: Duration = Duration::from_secs(3);

/// The running hosts.
pub struct Hosts {
    cache: Cache,
}

impl Hosts {
    /// Boots them, with kubelet, kubeadm and kubectl installed and all images loaded.
    pub fn boot() -> Result<Self> {
        let cache = Cache::locate()?;
        let options = hosts::Options {
            bare_images: false,
            binaries: Some(kubernetes::SOURCE_VERSION.into()),
            python: false,
        };
        hosts::up(&cache, &names(), &options)?;
        Ok(Self { cache })
    }

    /// Gives them fresh disks.
    pub fn reset(&self) -> Result<()> {
        for name in names() {
            // A connection to what was there before would only time out.
            let _ = std::fs::remove_file(self.control_socket(&name));
        }
        hosts::reset(&self.cache, &names())?;
        sleep(SETTLE);
        Ok(())
    }

    /// Ends them.
    pub fn down(&self) -> Result<()> {
        hosts::down(&self.cache, &names())
    }

    /// The key that opens them, and the file with their own keys.
    pub fn keys(&self) -> (PathBuf, PathBuf) {
        (
            keys::identity_file(&self.cache),
            keys::known_hosts(&self.cache),
        )
    }

    /// Makes a connection to a host that later commands share.
    pub fn connect(&self, name: &str) -> Result<()> {
        self.run(name, "true").map(drop)
    }

    /// Runs a script on a host and returns what it wrote to standard output.
    pub fn run(&self, name: &str, script: &str) -> Result<String> {
        let mut ssh = host::ssh(&self.cache, "root", name);
        // ssh takes options after the host's name too.
        ssh.args(["-o", "ControlMaster=auto", "-o", "ControlPersist=60", "-o"])
            .arg(format!(
                "ControlPath={}",
                self.control_socket(name).display()
            ));
        answer(ssh.arg(script), name)
    }

    /// In the lab's cache, which is a short path: a socket's path may have 107 bytes.
    fn control_socket(&self, name: &str) -> PathBuf {
        self.cache.host(name).join("bench")
    }
}

/// All names, control planes first.
pub fn names() -> Vec<String> {
    CONTROL_PLANES
        .into_iter()
        .chain(WORKERS)
        .map(str::to_owned)
        .collect()
}

/// The first control plane's address, which is also the cluster's endpoint for all contestants.
pub fn endpoint() -> Ipv4Addr {
    address(CONTROL_PLANES[0])
}

/// Runs the same on several hosts at once.
pub fn each<T: Send>(names: &[&str], action: impl Fn(&str) -> Result<T> + Sync) -> Result<Vec<T>> {
    std::thread::scope(|scope| {
        let action = &action;
        let threads: Vec<_> = names
            .iter()
            .map(|name| scope.spawn(move || action(name)))
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(Error::new("a thread of the benchmark panicked")))
            })
            .collect()
    })
}

fn answer(command: &mut Command, name: &str) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .explain(|| "cannot start `ssh`".into())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(format!(
        "a command on {name} ended with {}:\n{text}{errors}",
        output.status
    )))
}
