//! What a probe saw of a host: what the host *is* (`System`) and what is there of the things
//! slipway puts on hosts (`State`). Both come back in one round trip.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::artifact::Secret;
use crate::artifact::snapshot::Taken;
use crate::names::{Digest, Mode, RemotePath};

/// Everything one probe brought back.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// What the host is.
    pub system: System,
    /// What was found of slipway's things.
    pub state: State,
}

/// What a host is: nothing here is of slipway's making. `render --facts` reads it from a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct System {
    /// The kernel's host name.
    pub hostname: String,
    /// `ID` of /etc/os-release, such as `debian`.
    pub os_id: String,
    /// `VERSION_ID` of /etc/os-release.
    pub os_version: String,
    /// `PRETTY_NAME` of /etc/os-release.
    pub os_name: String,
    /// `amd64` or `arm64` (Kubernetes' names), else what `uname -m` said.
    pub architecture: String,
    /// `uname -r`.
    pub kernel: String,
    /// Processors that can be used.
    pub cpus: u32,
    /// Physical memory in bytes.
    pub memory_bytes: u64,
    /// Active swap devices and files.
    pub swap: Vec<String>,
    /// 1 or 2.
    pub cgroup_version: u8,
    /// All addresses, by interface.
    pub addresses: Vec<InterfaceAddress>,
    /// /etc/machine-id.
    pub machine_id: String,
    /// Seconds since 1970 on the host's clock, read while the probe ran.
    pub clock: f64,
    /// TCP ports something listens on, with the program's name where it is known.
    pub listening: BTreeMap<u16, String>,
    /// Commands in root's search path, with where they are.
    pub commands: BTreeMap<String, String>,
    /// Version of containerd, such as `1.6.20`; empty if there is none.
    pub containerd_version: String,
    /// Whether something answers on the CRI socket.
    pub runtime_answers: bool,
    /// Version of the kubelet that is installed, such as `v1.34.2`; empty if there is none.
    pub kubelet_version: String,
    /// Where the standard CNI plugins were found (the directory that holds `bridge`).
    pub cni_directory: Option<String>,
    /// Whether systemd-resolved runs with /run/systemd/resolve/resolv.conf.
    pub systemd_resolved: bool,
    /// Directories of extra CAs that exist, of those kubeadm mounts.
    pub ca_directories: BTreeSet<String>,
    /// Kernel modules that are loaded or built in, of those slipway wants.
    pub modules: BTreeSet<String>,
    /// Kernel parameters, of those slipway wants.
    pub sysctls: BTreeMap<String, String>,
    /// Whether the probe ran as root (perhaps through sudo).
    pub root: bool,
    /// Free bytes on the file systems of `/var/lib`, `/etc`, `/run` and `/usr/local/bin`, by path.
    pub free_bytes: BTreeMap<String, u64>,
    /// Whether systemd is process 1.
    pub systemd: bool,
}

impl Default for System {
    /// A plain modern host: what `render` assumes where no facts are given.
    fn default() -> Self {
        Self {
            hostname: String::new(),
            os_id: "debian".into(),
            os_version: "12".into(),
            os_name: "Debian GNU/Linux 12 (bookworm)".into(),
            architecture: "amd64".into(),
            kernel: "6.1.0".into(),
            cpus: 4,
            memory_bytes: 8 << 30,
            swap: Vec::new(),
            cgroup_version: 2,
            addresses: Vec::new(),
            machine_id: String::new(),
            clock: 0.0,
            listening: BTreeMap::new(),
            commands: BTreeMap::new(),
            containerd_version: "1.7.0".into(),
            runtime_answers: true,
            kubelet_version: String::new(),
            cni_directory: Some("/opt/cni/bin".into()),
            systemd_resolved: false,
            ca_directories: ["/etc/ca-certificates", "/usr/local/share/ca-certificates", "/usr/share/ca-certificates"]
                .map(str::to_owned)
                .into(),
            modules: BTreeSet::new(),
            sysctls: BTreeMap::new(),
            root: true,
            free_bytes: BTreeMap::new(),
            systemd: true,
        }
    }
}

/// An address of a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InterfaceAddress {
    /// The interface's name; empty where only the addresses were asked for.
    pub interface: String,
    /// The address.
    pub address: IpAddr,
    /// Its prefix length.
    pub prefix: u8,
}

/// What was found of slipway's things on a host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// Files, directories and links below the roots that were looked at.
    pub files: BTreeMap<RemotePath, FoundFile>,
    /// systemd units, of those slipway manages.
    pub units: BTreeMap<String, FoundUnit>,
    /// Names of images the runtime holds (all their names).
    pub images: BTreeSet<String>,
    /// Big files (programs) by path: what `stat` says, and the digest slipway noted when it
    /// installed them, if the note still fits what `stat` says.
    pub programs: BTreeMap<RemotePath, FoundProgram>,
    /// Packages of the operating system that are installed, of those that were asked for.
    pub packages: BTreeMap<String, FoundPackage>,
    /// Whether etcd's data directory holds a member.
    pub etcd_data: bool,
    /// Bytes of the member's database; none where it cannot be told.
    pub etcd_bytes: Option<u64>,
    /// Free bytes on the file system of etcd's data directory; none where it cannot be told.
    pub etcd_free_bytes: Option<u64>,
    /// Snapshots from before upgrades.
    pub snapshots: BTreeSet<Taken>,
    /// Containers of Kubernetes that the runtime runs (namespace `k8s.io`).
    pub running_containers: u32,
}

impl State {
    /// The bytes of a file whose content the probe brought.
    #[must_use]
    pub fn content(&self, path: &RemotePath) -> Option<&[u8]> {
        match &self.files.get(path)?.kind {
            FoundKind::File { content, .. } => content.as_ref().map(Secret::expose),
            _ => None,
        }
    }

    /// The text of a file whose content the probe brought, if it is UTF-8.
    #[must_use]
    pub fn text(&self, path: &RemotePath) -> Option<&str> {
        std::str::from_utf8(self.content(path)?).ok()
    }
}

/// A file, directory or link on a host.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundFile {
    /// Permission bits.
    pub mode: Mode,
    /// Numeric user id.
    pub owner: u32,
    /// Numeric group id.
    pub group: u32,
    /// What it is.
    pub kind: FoundKind,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq)]
pub enum FoundKind {
    /// A regular file. CA keys are seen without content, as are files over 1 MiB.
    File {
        /// The digest of the content, if it was brought.
        digest: Option<Digest>,
        /// The content; every file is treated as if it were secret.
        content: Option<Secret>,
    },
    /// A directory.
    Directory,
    /// A symbolic link and where it points.
    Link(String),
}

/// A systemd unit on a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FoundUnit {
    /// `active`, `inactive`, `failed`, …
    pub active: String,
    /// `enabled`, `disabled`, `static`, `masked`, … or empty if there is no such unit.
    pub enabled: String,
    /// The stamp: the digest of the unit's inputs after its last successful (re)start by slipway.
    pub stamp: Option<Digest>,
    /// When its program was started, if it runs and that can be told.
    pub began: Option<Began>,
}

/// When a program was started, in seconds since 1970 by the clock of its own host. There are two answers:
/// they differ if the clock was set since then, and neither is right for all times that were noted meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Began {
    /// What the clock said at that moment.
    pub noted: i64,
    /// What the clock that the host has now would have said.
    pub reckoned: i64,
}

impl Began {
    /// The first and the last second it may have been.
    #[must_use]
    pub fn between(self) -> (i64, i64) {
        (self.noted.min(self.reckoned), self.noted.max(self.reckoned))
    }
}

/// A package of the operating system on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundPackage {
    /// Its version with its revision.
    pub version: String,
    /// Whether the package manager leaves it as it is.
    pub held: bool,
}

/// A program on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundProgram {
    /// Size in bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: Mode,
    /// What slipway noted as the digest of its source when it installed it, if size and time of
    /// change are still those of that moment.
    pub noted: Option<Digest>,
}
