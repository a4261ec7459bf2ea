//! A host in memory: what is on its disk, in its kernel and running. It knows nothing of the
//! cluster. What a probe would tell of it is `facts`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;

use crate::artifact::Secret;
use crate::artifact::snapshot::Taken;
use crate::facts::{Facts, FoundFile, FoundKind, FoundPackage, FoundProgram, FoundUnit, State, System};
use crate::names::{Digest, HostName, KubernetesVersion, Mode, RemotePath};
use crate::preflight;
use crate::transport::ProbeRequest;

use super::etcd::MemberRecord;
use super::pods::Pod;

/// What slipway keeps.
pub const LIBRARY: &str = "/var/lib/slipway";

/// The commands every host has, with where they are.
static COMMANDS: LazyLock<BTreeMap<String, String>> =
    LazyLock::new(|| preflight::wanted_commands().into_iter().map(|name| (name.clone(), format!("/usr/bin/{name}"))).collect());

/// A file, directory or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Permission bits.
    pub mode: Mode,
    /// Numeric user id.
    pub owner: u32,
    /// What it is.
    pub kind: EntryKind,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// What it holds.
        content: Secret,
        /// The digest of that.
        digest: Digest,
    },
    /// A directory.
    Directory,
    /// A symbolic link and where it points.
    Link(String),
}

impl Entry {
    /// A file of root's.
    #[must_use]
    pub fn file(mode: Mode, content: impl Into<Vec<u8>>) -> Self {
        let content = Secret::new(content);
        Self::shared(mode, content)
    }

    /// A file of root's with bytes that others hold too.
    #[must_use]
    pub fn shared(mode: Mode, content: Secret) -> Self {
        let digest = Digest::of(content.expose());
        Self { mode, owner: 0, kind: EntryKind::File { content, digest } }
    }

    /// A directory of root's.
    #[must_use]
    pub fn directory(mode: Mode) -> Self {
        Self { mode, owner: 0, kind: EntryKind::Directory }
    }

    /// A link of root's.
    #[must_use]
    pub fn link(target: impl Into<String>) -> Self {
        Self { mode: Mode(0o777), owner: 0, kind: EntryKind::Link(target.into()) }
    }

    /// The bytes, if it is a file.
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        match &self.kind {
            EntryKind::File { content, .. } => Some(content.expose()),
            _ => None,
        }
    }
}

/// The version of a manifest's image.
pub(super) fn release(manifest: &str) -> Option<KubernetesVersion> {
    let image = manifest.lines().find_map(|line| line.trim_start().trim_start_matches("- ").strip_prefix("image: "))?;
    image.rsplit_once(':')?.1.trim_end_matches('"').parse().ok()
}

/// What a snapshot from before an upgrade holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Kept {
    /// Copies of files.
    pub files: BTreeMap<RemotePath, Entry>,
    /// What etcd held.
    pub objects: Option<BTreeMap<String, Value>>,
}

/// A systemd unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unit {
    /// Whether it runs.
    pub active: bool,
    /// Whether it starts at boot.
    pub enabled: bool,
    /// Whether a package of the system brought it; else it is there while its file is.
    pub packaged: bool,
    /// What it had read when it last started: digests by path.
    pub started_with: BTreeMap<RemotePath, Option<Digest>>,
}

/// A host.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// Its name.
    pub name: HostName,
    /// The address the others reach it at.
    pub addresses: Vec<IpAddr>,
    /// Whether it can be reached.
    pub reachable: bool,
    /// Its disk.
    pub files: BTreeMap<RemotePath, Entry>,
    /// Its units.
    pub units: BTreeMap<String, Unit>,
    /// Images in its runtime.
    pub images: BTreeSet<String>,
    /// Packages that slipway cares for.
    pub packages: BTreeMap<String, FoundPackage>,
    /// Loaded kernel modules.
    pub modules: BTreeSet<String>,
    /// Kernel parameters.
    pub sysctls: BTreeMap<String, String>,
    /// Active swap devices.
    pub swap: Vec<String>,
    /// What etcd has stored, by data directory.
    pub etcd: BTreeMap<RemotePath, MemberRecord>,
    /// Snapshots from before upgrades, by name.
    pub snapshots: BTreeMap<String, Kept>,
    /// Static pods that run, by the name of their manifest.
    pub pods: BTreeMap<String, Pod>,
    /// Free bytes where etcd has its data, if that is told.
    pub etcd_free_bytes: Option<u64>,
    /// Who holds its lock.
    pub lock: Option<String>,
    /// The version of the kubelet that runs, or ran last.
    pub kubelet_running: String,
    /// Whether the kubelet that runs was started when none could reach the API (`Fault::Mute`).
    pub kubelet_mute: bool,
    /// When the API last heard from its kubelet that the Node is ready, counted from the beginning of the world.
    pub ready_heard: Option<Duration>,
    /// The version of the last kubelet that the API heard and that has ended.
    pub version_heard: String,
    /// The CPU manager policy by whose notes it goes on, until those are removed.
    pub cpu_notes: Option<String>,
    /// What differs from a plain modern host.
    pub system: System,
}

impl Host {
    /// A host as it is delivered: a container runtime and a kubelet from packages, swap on.
    #[must_use]
    pub fn delivered(name: HostName, addresses: Vec<IpAddr>, kubelet_version: String) -> Self {
        let directories = [
            "/etc", "/etc/systemd/system", "/etc/containerd", "/etc/modules-load.d", "/etc/sysctl.d", "/opt", "/run",
            "/usr/local/bin", "/usr/local", "/usr/bin", "/var/lib", "/var/lib/containerd", "/var/log", "/srv",
        ];
        let files = directories.map(|path| (RemotePath::fixed(path), Entry::directory(Mode(0o755))));
        let runtime = Unit { active: true, enabled: true, packaged: true, ..Unit::default() };
        let kubelet = Unit { packaged: true, ..Unit::default() };
        let system = System {
            hostname: name.to_string(),
            machine_id: Digest::of(name.as_str()).to_string()[..32].to_owned(),
            kubelet_version,
            ..System::default()
        };
        Self {
            name,
            addresses,
            reachable: true,
            files: files.into(),
            units: [("containerd.service".to_owned(), runtime), ("kubelet.service".to_owned(), kubelet)].into(),
            images: BTreeSet::new(),
            packages: BTreeMap::new(),
            modules: BTreeSet::new(),
            sysctls: ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"].map(|key| (key.to_owned(), "0".to_owned())).into(),
            swap: vec!["/dev/sda2".to_owned()],
            etcd: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            pods: BTreeMap::new(),
            etcd_free_bytes: None,
            lock: None,
            kubelet_running: String::new(),
            kubelet_mute: false,
            ready_heard: None,
            version_heard: String::new(),
            cpu_notes: None,
            system,
        }
    }

    /// What is at a path.
    #[must_use]
    pub fn at(&self, path: &str) -> Option<&Entry> {
        self.files.get(path)
    }

    /// The text of a file; links are followed once.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<&str> {
        let entry = self.at(path)?;
        let bytes = match &entry.kind {
            EntryKind::Link(target) => self.files.get(&target.parse::<RemotePath>().ok()?)?.bytes(),
            _ => entry.bytes(),
        };
        std::str::from_utf8(bytes?).ok()
    }

    /// The digest of a file.
    #[must_use]
    pub fn digest(&self, path: &RemotePath) -> Option<Digest> {
        match &self.files.get(path)?.kind {
            EntryKind::File { digest, .. } => Some(*digest),
            _ => None,
        }
    }

    /// Everything below a directory, without it.
    pub fn below<'a>(&'a self, directory: &str) -> impl Iterator<Item = (&'a RemotePath, &'a Entry)> + use<'a> {
        let prefix = format!("{directory}/");
        self.files.range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded)).take_while(move |(path, _)| path.as_str().starts_with(&prefix))
    }

    /// Whether a unit of that name can be started.
    #[must_use]
    pub fn has_unit(&self, name: &str) -> bool {
        self.units.get(name).is_some_and(|unit| unit.packaged) || self.at(&format!("/etc/systemd/system/{name}")).is_some()
    }

    /// Whether the kubelet runs.
    #[must_use]
    pub fn kubelet_runs(&self) -> bool {
        self.units.get("kubelet.service").is_some_and(|unit| unit.active)
    }

    /// The CPU manager policy of the kubelet's configuration.
    #[must_use]
    pub fn cpu_policy(&self) -> String {
        let lines = self.text("/var/lib/kubelet/config.yaml").into_iter().flat_map(str::lines);
        let said = lines.filter_map(|line| line.strip_prefix("cpuManagerPolicy: ")).next_back();
        said.map_or("none", |policy| policy.trim_matches('"')).to_owned()
    }

    /// The version of a static pod, by its manifest's image.
    #[must_use]
    pub fn runs(&self, pod: &str) -> Option<KubernetesVersion> {
        release(self.text(&format!("/etc/kubernetes/manifests/{pod}.yaml"))?)
    }

    /// What a probe tells. `clock` is in seconds since 1970.
    #[must_use]
    pub fn facts(&self, request: &ProbeRequest, clock: f64) -> Facts {
        let only = |wanted: &[String], has: &BTreeSet<String>| wanted.iter().filter(|name| has.contains(*name)).cloned().collect();
        let system = System {
            clock,
            commands: COMMANDS.clone(),
            swap: self.swap.clone(),
            modules: only(&request.modules, &self.modules),
            sysctls: self.sysctls.iter().filter(|(key, _)| request.sysctls.contains(key)).map(|(k, v)| (k.clone(), v.clone())).collect(),
            ..self.system.clone()
        };
        let state = State {
            files: self.found_files(request),
            units: request.units.iter().map(|name| (name.clone(), self.found_unit(name))).collect(),
            images: self.images.clone(),
            programs: request.programs.iter().filter_map(|path| Some((path.clone(), self.found_program(path)?))).collect(),
            packages: request.packages.iter().filter_map(|name| Some((name.clone(), self.packages.get(name)?.clone()))).collect(),
            etcd_data: request.etcd_directory.as_ref().is_some_and(|directory| self.etcd.contains_key(directory)),
            etcd_bytes: request.etcd_directory.as_ref().and_then(|directory| self.etcd.get(directory)).map(|_| 20 << 20),
            etcd_free_bytes: self.etcd_free_bytes,
            snapshots: self.snapshots.iter().filter_map(|(name, kept)| Taken::read(name, kept.objects.is_some())).collect(),
            running_containers: u32::try_from(self.pods.len()).unwrap_or(u32::MAX),
        };
        Facts { system, state }
    }

    fn found_files(&self, request: &ProbeRequest) -> BTreeMap<RemotePath, FoundFile> {
        let mut found = BTreeMap::new();
        let tell = |path: &RemotePath, entry: &Entry| FoundFile {
            mode: entry.mode,
            owner: entry.owner,
            group: entry.owner,
            kind: match &entry.kind {
                EntryKind::File { .. } if request.without_content.contains(path) => FoundKind::File { digest: None, content: None },
                EntryKind::File { content, digest } => FoundKind::File { digest: Some(*digest), content: Some(content.clone()) },
                EntryKind::Directory => FoundKind::Directory,
                EntryKind::Link(target) => FoundKind::Link(target.clone()),
            },
        };
        for root in &request.roots {
            let own = self.files.get_key_value(root);
            for (path, entry) in own.into_iter().chain(self.below(root.as_str())) {
                found.insert(path.clone(), tell(path, entry));
            }
        }
        for path in &request.directories {
            if let Some(entry) = self.files.get(path).filter(|entry| entry.kind == EntryKind::Directory) {
                found.insert(path.clone(), tell(path, entry));
            }
        }
        found
    }

    fn found_unit(&self, name: &str) -> FoundUnit {
        let unit = self.units.get(name).cloned().unwrap_or_default();
        let there = self.has_unit(name);
        let enabled = match (there, unit.enabled) {
            (false, _) => "",
            (true, true) => "enabled",
            (true, false) => "disabled",
        };
        let stamp = self.text(&format!("{LIBRARY}/stamps/{name}")).and_then(|text| text.lines().next()?.parse().ok());
        FoundUnit { active: if unit.active { "active" } else { "inactive" }.into(), enabled: enabled.into(), stamp, began: None }
    }

    fn found_program(&self, path: &RemotePath) -> Option<FoundProgram> {
        let entry = self.files.get(path)?;
        let bytes = entry.bytes()?;
        let note = RemotePath::fixed(&format!("{LIBRARY}/programs")).join(&crate::transport::records::name(path)).ok()?;
        let fits = |line: &str| line.strip_prefix("is=").is_some_and(|is| Some(is) == self.digest(path).map(|is| is.to_string()).as_deref());
        let note = self.text(note.as_str()).filter(|text| text.lines().any(fits));
        let noted = note.and_then(|text| text.lines().find_map(|line| line.strip_prefix("digest=")?.parse().ok()));
        Some(FoundProgram { size: bytes.len() as u64, mode: entry.mode, noted })
    }
}
