//! Many real hosts of the lab, brought to the state a plan wants: every later `apply` of the same
//! phases finds nothing to do.
//!
//! The phases are those that need no running cluster: kernel settings, containerd and its
//! configuration, the pod network's files and unit, keys and certificates. What they made on each
//! host is read back from the host, so that other tools get the very same list.

use super::hosts::{KUBELET, each};
use super::measured;
use crate::error::{Error, Explain, Result};
use crate::lab::address::address;
use crate::lab::cache::{Cache, create_directory, read_text, remove_directory, write_file};
use crate::lab::{hosts, keys, kubernetes};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What is applied, and then found as wanted.
const PHASES: [&str; 6] = [
    "system",
    "programs",
    "runtime",
    "pod-network",
    "authority",
    "certificates",
];

/// The running hosts.
pub struct Fleet {
    cache: Cache,
    names: Vec<String>,
    /// For this run's files; sockets too, so its path is short.
    pub scratch: PathBuf,
}

/// What a plan made on one host.
pub struct Made {
    /// The host.
    pub name: String,
    /// Files with their permission bits.
    pub files: Vec<(PathBuf, String)>,
    /// systemd units that run and are enabled.
    pub units: Vec<String>,
}

impl Fleet {
    /// Boots them, without images; the first becomes the control plane.
    pub fn boot(count: u8) -> Result<Self> {
        let cache = Cache::locate()?;
        let names: Vec<String> = (1..=count).map(|number| format!("fleet-{number}")).collect();
        let options = hosts::Options {
            bare_images: true,
            binaries: Some(kubernetes::SOURCE_VERSION.into()),
            python: true,
        };
        hosts::up(&cache, &names, &options)?;
        let scratch = std::env::temp_dir().join(format!("fleet-{}", std::process::id()));
        remove_directory(&scratch)?;
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder
            .create(&scratch)
            .explain(|| format!("cannot make {}", scratch.display()))?;
        let fleet = Self { cache, names, scratch };
        // A file of its own: another checkout's lab may write the shared one meanwhile.
        write_file(&fleet.known_hosts(), fleet.known_hosts_text()?)?;
        write_file(&fleet.plan(), fleet.plan_text())?;
        Ok(fleet)
    }

    /// Ends them.
    pub fn down(&self) -> Result<()> {
        hosts::down(&self.cache, &self.names)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Each host's name and address.
    pub fn addresses(&self) -> impl Iterator<Item = (&str, std::net::Ipv4Addr)> {
        self.names.iter().map(|name| (name.as_str(), address(name)))
    }

    /// The key that opens them, and the file with their own keys.
    pub fn keys(&self) -> (PathBuf, PathBuf) {
        (keys::identity_file(&self.cache), self.known_hosts())
    }

    fn known_hosts(&self) -> PathBuf {
        self.scratch.join("known_hosts")
    }

    fn known_hosts_text(&self) -> Result<String> {
        let mut text = String::new();
        for (name, address) in self.addresses() {
            let public = read_text(&keys::public(&keys::host_key(&self.cache, name)))?;
            let key: Vec<&str> = public.split_whitespace().take(2).collect();
            text.push_str(&format!("{address} {}\n", key.join(" ")));
        }
        Ok(text)
    }

    /// Where programs that are fetched once are kept.
    pub fn programs(&self) -> PathBuf {
        self.cache.path("peers")
    }

    fn plan(&self) -> PathBuf {
        self.scratch.join("plan.yaml")
    }

    /// `slipway apply` of the phases. Connections are in `runtime`, and stay there for the next.
    pub fn apply(&self, slipway: &Path, runtime: &Path) -> Result<Command> {
        create_directory(runtime)?;
        let mut command = Command::new(slipway);
        command.arg("apply").arg(self.plan()).arg("--yes");
        for phase in PHASES {
            command.args(["--phase", phase]);
        }
        command
            .env("XDG_RUNTIME_DIR", runtime)
            .env("XDG_STATE_HOME", &self.scratch)
            .env_remove("CI");
        Ok(command)
    }

    /// Makes them what the plan says.
    pub fn prepare(&self, slipway: &Path) -> Result<()> {
        let runtime = self.scratch.join("prepare");
        let log = self.scratch.join("prepare.log");
        let (cost, _) = measured::run(&mut self.apply(slipway, &runtime)?, &log)?;
        eprintln!("bench: {} hosts prepared in {:.0} s", self.len(), cost.elapsed);
        let (_, text) = measured::run(&mut self.apply(slipway, &runtime)?, &log)?;
        end_connections(&runtime.join("slipway"));
        nothing_to_do(&text)
    }

    /// What is on the hosts now, with a copy of each file in `copies`/HOST.
    pub fn made(&self, copies: &Path) -> Result<Vec<Made>> {
        let mut all = Vec::new();
        for names in self.names.chunks(16) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            all.extend(each(&names, |name| self.made_on(name, &copies.join(name)))?);
        }
        Ok(all)
    }

    fn made_on(&self, name: &str, copy: &Path) -> Result<Made> {
        create_directory(copy)?;
        let units = "cd /var/lib/slipway/records && sed -n 's/^unit=//p' unit:*";
        let units = self.answer(name, units)?;
        let files = "cd /var/lib/slipway/records &&
            grep -lx kind=file -- * | xargs sed -n 's/^path=//p' | sed 's,^/,,' | tar -C / -cf - -T -";
        let archive = self.answer(name, files)?;
        tar::Archive::new(archive.as_slice())
            .unpack(copy)
            .explain(|| format!("cannot unpack the files of {name}"))?;
        let entries = archive_entries(&archive).explain(|| format!("cannot read the files of {name}"))?;
        let units = String::from_utf8_lossy(&units);
        Ok(Made {
            name: name.into(),
            files: entries,
            units: units.lines().map(str::to_owned).collect(),
        })
    }

    fn answer(&self, name: &str, script: &str) -> Result<Vec<u8>> {
        let (identity, known_hosts) = self.keys();
        let known_hosts = format!("UserKnownHostsFile={}", known_hosts.display());
        let output = Command::new("ssh")
            .args(["-F", "none", "-o", "BatchMode=yes", "-o", &known_hosts, "-i"])
            .arg(identity)
            .arg(format!("root@{}", address(name)))
            .arg(script)
            .stdin(Stdio::null())
            .output()
            .explain(|| "cannot start `ssh`".into())?;
        match output.status.success() {
            true => Ok(output.stdout),
            false => Err(Error::new(format!(
                "host {name}: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            ))),
        }
    }

    fn plan_text(&self) -> String {
        let (identity, known_hosts) = self.keys();
        let mut text = format!(
            "version: 1
name: fleet
kubernetes: {{version: {version}}}
endpoint: {{external: {{address: {endpoint}}}}}
runtime: {{cgroupDriver: cgroupfs}}
binaries: {{kubelet: preinstalled, kubectl: preinstalled}}
kubelet:
  configuration:
{kubelet}ssh:
  user: root
  identityFile: {identity}
  knownHostsFile: {known_hosts}
limits: {{parallelHosts: {count}}}
hosts:
",
            version = kubernetes::SOURCE_VERSION,
            endpoint = address(&self.names[0]),
            kubelet = KUBELET
                .replace("evictionHard", "    evictionHard")
                .replace("imageGC", "    imageGC"),
            identity = identity.display(),
            known_hosts = known_hosts.display(),
            count = self.len(),
        );
        for (index, (name, address)) in self.addresses().enumerate() {
            let role = if index == 0 { "control-plane" } else { "worker" };
            text.push_str(&format!("  - {{name: {name}, address: {address}, roles: [{role}]}}\n"));
        }
        text
    }
}

/// Whether slipway found everything as wanted.
pub fn nothing_to_do(text: &str) -> Result<()> {
    match text.lines().any(|line| line.starts_with("nothing to do")) {
        true => Ok(()),
        false => Err(Error::new(format!("slipway found something to do:\n{text}"))),
    }
}

/// The sockets of ssh masters in a directory.
fn connections(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let sockets = entries.filter(|entry| entry.file_type().is_ok_and(|kind| std::os::unix::fs::FileTypeExt::is_socket(&kind)));
    sockets.map(|entry| entry.path())
}

/// `true` on every host at once, through the masters that have their sockets in a directory: what
/// no tool that starts a process on each host can be faster than.
pub fn bare_round_trips(directory: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "for socket; do ssh -F none -S \"$socket\" -o BatchMode=yes any true & done; wait", "sh"]);
    command.args(connections(directory));
    command
}

/// Ends the ssh masters that have their sockets in a directory.
pub fn end_connections(directory: &Path) {
    for socket in connections(directory) {
        // One that is gone already is what was wanted.
        let _ = Command::new("ssh")
            .args(["-F", "none", "-S"])
            .arg(socket)
            .args(["-O", "exit", "any"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

fn archive_entries(archive: &[u8]) -> std::io::Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    for entry in tar::Archive::new(archive).entries()? {
        let entry = entry?;
        let mode = format!("{:o}", entry.header().mode()? & 0o7777);
        found.push((Path::new("/").join(entry.path()?), mode));
    }
    Ok(found)
}
