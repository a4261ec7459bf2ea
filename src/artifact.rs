//! Artifacts: the things a host or the cluster shall have (or not have). They are data, so they
//! can be compared, printed, digested and simulated before anything is done.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::names::{Digest, HostName, Mode, RemotePath};
use crate::plan::{Effect, Taint};

pub mod maintenance;
pub mod membership;
pub mod snapshot;
pub mod undone;

use maintenance::Maintenance;
use membership::Membership;
use snapshot::Snapshot;
use undone::{Departure, Undone};

/// Bytes that must not be seen: `Debug` prints a placeholder, there is no `Display` and no
/// `Serialize`. They leave the process only through a transport.
///
/// A clone shares the bytes: thousands of hosts carry copies of one file.
#[derive(Clone)]
pub struct Secret(Arc<secrecy::SecretSlice<u8>>);

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}
impl Eq for Secret {}

impl Secret {
    /// Takes bytes into custody.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Arc::new(bytes.into().into()))
    }

    /// The bytes, for writing them to a host or reading them as PEM.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        use secrecy::ExposeSecret as _;
        self.0.expose_secret()
    }

    /// The bytes as text, if they are.
    #[must_use]
    pub fn expose_text(&self) -> Option<&str> {
        std::str::from_utf8(self.expose()).ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// What a file shall hold, and what a reviewer is shown of it.
///
/// The review is what `diff` prints and what the digest of a change set is made of. It differs
/// from the bytes in two cases: secrets, and public text that contains something drawn at random
/// in this run (a new certificate, the digest of one). Two runs over the same hosts and plan have
/// the same reviews, although their keys differ.
#[derive(Clone, PartialEq, Eq)]
pub struct Content {
    bytes: Secret,
    review: Review,
    /// Whether the bytes hold something drawn at random in this run.
    drawn: bool,
}

#[derive(Clone, PartialEq, Eq)]
enum Review {
    /// The bytes are public text and are shown as they are.
    Plain,
    /// Public, but shown as this text.
    As(String),
    /// Secret; described by this sentence.
    Hidden(String),
}

impl Content {
    /// Public text without anything random in it.
    #[must_use]
    pub fn plain(text: impl Into<String>) -> Self {
        Self { bytes: Secret::new(text.into().into_bytes()), review: Review::Plain, drawn: false }
    }

    /// Public text whose random parts are replaced in `review`.
    #[must_use]
    pub fn reviewed(text: impl Into<String>, review: impl Into<String>) -> Self {
        Self { bytes: Secret::new(text.into().into_bytes()), review: Review::As(review.into()), drawn: true }
    }

    /// A secret, described by a sentence that is the same in every run with the same meaning.
    #[must_use]
    pub fn secret(bytes: Secret, description: impl Into<String>) -> Self {
        Self { bytes, review: Review::Hidden(description.into()), drawn: false }
    }

    /// The same, marked as drawn in this run.
    #[must_use]
    pub fn drawn(self) -> Self {
        Self { drawn: true, ..self }
    }

    /// Whether the bytes hold something drawn at random in this run, so that their digest
    /// means nothing to the next run.
    #[must_use]
    pub fn is_drawn(&self) -> bool {
        self.drawn
    }

    /// The bytes in custody, shared.
    #[must_use]
    pub fn shared(&self) -> Secret {
        self.bytes.clone()
    }

    /// Takes the bytes of one that has the same, of those that were met: most files of ten thousand hosts
    /// are alike. Only of contents that are no secret, and the first that is met becomes known.
    pub fn share(&mut self, met: &mut BTreeMap<Digest, Secret>) {
        if matches!(self.review, Review::Plain) {
            self.bytes = met.entry(self.digest()).or_insert_with(|| self.bytes.clone()).clone();
        }
    }

    /// What goes to the host.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.expose()
    }

    /// The digest of the bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.bytes())
    }

    /// What may be shown: the text, or for a secret its description.
    #[must_use]
    pub fn review(&self) -> &str {
        match &self.review {
            Review::Plain => self.bytes.expose_text().unwrap_or("<binary>"),
            Review::As(text) | Review::Hidden(text) => text,
        }
    }

    /// Whether the bytes must not be shown.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        matches!(self.review, Review::Hidden(_))
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple(if self.is_secret() { "Secret" } else { "Content" }).field(&self.review()).finish()
    }
}

/// One thing that a host or the cluster shall have, or not have.
#[derive(Debug, Clone, PartialEq)]
pub enum Artifact {
    /// A directory owned by root. Its content is not touched.
    Directory {
        /// Where.
        path: RemotePath,
        /// Permission bits.
        mode: Mode,
    },
    /// A file owned by root.
    File {
        /// Where.
        path: RemotePath,
        /// Permission bits.
        mode: Mode,
        /// What it holds.
        content: Content,
    },
    /// A symbolic link.
    Link {
        /// Where.
        path: RemotePath,
        /// Where it points.
        target: String,
    },
    /// Nothing: a file that shall not be there.
    Absent {
        /// Where.
        path: RemotePath,
    },
    /// A program, or an archive unpacked into a directory.
    Program {
        /// The installed file; for an archive, the file in it that shows it is there.
        path: RemotePath,
        /// Where the bytes come from.
        source: ProgramSource,
        /// What the bytes (of the archive) must be.
        digest: Digest,
        /// Unpack the `.tar.gz` here instead of installing the bytes as `path`.
        unpack: Option<RemotePath>,
    },
    /// A package of the operating system.
    Package {
        /// Its name.
        name: String,
        /// Its version, with any revision if it has none; `None` if any version will do.
        version: Option<String>,
        /// The program in it that units read at start.
        program: Option<RemotePath>,
        /// Whether the package manager is told to leave it as it is.
        held: bool,
    },
    /// A loaded kernel module. That it is loaded at boot is a file of its own.
    Module {
        /// Its name.
        name: String,
    },
    /// A live kernel parameter. That it is set at boot is a file of its own.
    Sysctl {
        /// Its dotted name.
        key: String,
        /// Its value.
        value: String,
    },
    /// No active swap, now and (by commenting out /etc/fstab) after a reboot.
    NoSwap,
    /// A systemd unit that runs and is enabled, and was restarted since its inputs changed.
    Unit {
        /// Its name with suffix.
        name: String,
        /// Files and programs it reads at start.
        inputs: Vec<RemotePath>,
        /// The digest over those inputs; see `stamp_of`.
        stamp: Digest,
        /// Run this check after a (re)start until it succeeds.
        check: Option<UnitCheck>,
    },
    /// A systemd unit that stands still until its own `Unit` starts it again, so that something can be
    /// done that it would get in the way of.
    Halted {
        /// Its name with suffix.
        unit: String,
        /// What it noted for itself and shall not find again.
        files: Vec<RemotePath>,
        /// End all pods of the host meanwhile.
        pods: bool,
    },
    /// Units that run are restarted as they are, or with `machine` the whole host.
    Restarted {
        /// Their names with suffix, in this order.
        units: Vec<String>,
        /// Restart the host itself instead.
        machine: bool,
    },
    /// An image in the runtime, loaded from an archive of the operator's machine.
    Image {
        /// The names it shall have there.
        names: Vec<String>,
        /// The archive.
        archive: PathBuf,
        /// A digest that changes with the archive's content (of its table of contents).
        digest: Digest,
    },
    /// An image in the runtime, pulled by the host.
    Pulled {
        /// The image.
        name: String,
    },
    /// An object in the API, applied server-side.
    Object(Object),
    /// Labels, taints and annotations of a Node.
    NodeMarks(NodeMarks),
    /// A host's place in the membership of an etcd that lives.
    Membership(Membership),
    /// A Node emptied, or taking pods again.
    Maintenance(Maintenance),
    /// What is kept of a host from before an upgrade.
    Snapshot(Snapshot),
    /// Something taken back on a host, by `reset`.
    Undone(Undone),
    /// A host's place in a cluster that lives on without it, by `reset`.
    Departed(Departure),
}

/// Where a program's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgramSource {
    /// A file of the operator's machine.
    Upload(PathBuf),
    /// Fetched by the host.
    Download(String),
}

/// How to see that a unit came up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitCheck {
    /// containerd answers on its socket.
    Containerd,
}

/// An object in the Kubernetes API.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// The whole object as JSON: `apiVersion`, `kind`, `metadata`, …
    pub value: serde_json::Value,
    /// Whether values below `data` and `stringData` must not be shown.
    pub secret: bool,
    /// When it is made.
    pub policy: ObjectPolicy,
}

/// When an object is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectPolicy {
    /// It is there and as wanted, always.
    Always,
    /// It is made once, with the cluster; nobody minds if it goes later (the first bootstrap
    /// token expires). Concretely: it is wanted while the ConfigMap `cluster-info` is missing.
    WithCluster,
    /// It is not there, if slipway made it. Only its name counts.
    Absent,
}

/// Labels, taints and annotations that a Node shall have. Others are left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeMarks {
    /// Which Node.
    pub node: HostName,
    /// Labels with their values.
    pub labels: BTreeMap<String, String>,
    /// Labels that shall not be there.
    pub absent_labels: Vec<String>,
    /// Annotations with their values.
    pub annotations: BTreeMap<String, String>,
    /// Taints; one with the same key and effect is replaced, others stay.
    pub taints: Vec<Taint>,
    /// Taints that shall not be there, by key and effect.
    pub absent_taints: Vec<(String, Effect)>,
    /// The node's pod networks, set once (Kubernetes forbids changing them).
    pub pod_cidrs: Vec<ipnet::IpNet>,
}

impl Object {
    /// An object that is always wanted as it is here.
    #[must_use]
    pub fn new(value: serde_json::Value) -> Self {
        Self { value, secret: false, policy: ObjectPolicy::Always }
    }

    /// `kind/namespace/name`, or `kind/name` without a namespace.
    #[must_use]
    pub fn id(&self) -> String {
        let text = |pointer: &str| self.value.pointer(pointer).and_then(|value| value.as_str()).unwrap_or_default();
        match (text("/kind"), text("/metadata/namespace"), text("/metadata/name")) {
            (kind, "", name) => format!("{kind}/{name}"),
            (kind, namespace, name) => format!("{kind}/{namespace}/{name}"),
        }
    }
}

impl Artifact {
    /// Whether it is of the cluster, and reached through its interfaces instead of a host's shell.
    #[must_use]
    pub fn is_of_cluster(&self) -> bool {
        matches!(self, Self::Object(_) | Self::NodeMarks(_) | Self::Membership(_) | Self::Maintenance(_) | Self::Departed(_))
    }

    /// A short name that is unique within a step: the path, `unit kubelet.service`, ….
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Self::Directory { path, .. }
            | Self::File { path, .. }
            | Self::Link { path, .. }
            | Self::Absent { path }
            | Self::Program { path, .. } => path.to_string(),
            Self::Package { name, .. } => format!("package {name}"),
            Self::Module { name } => format!("module {name}"),
            Self::Sysctl { key, .. } => format!("sysctl {key}"),
            Self::NoSwap => "swap".into(),
            Self::Unit { name, .. } => format!("unit {name}"),
            Self::Halted { unit, .. } => format!("stop of {unit}"),
            Self::Restarted { machine: true, .. } => "reboot".into(),
            Self::Restarted { units, .. } => format!("restart of {}", units.join(", ")),
            Self::Image { names, archive, .. } => match names.first() {
                Some(name) => format!("image {name}"),
                None => format!("image archive {}", archive.display()),
            },
            Self::Pulled { name } => format!("image {name}"),
            Self::Object(object) => object.id(),
            Self::NodeMarks(marks) => format!("Node/{}", marks.node),
            Self::Membership(membership) => membership.to_string(),
            Self::Maintenance(maintenance) => maintenance.to_string(),
            Self::Snapshot(snapshot) => snapshot.to_string(),
            Self::Undone(undone) => undone.to_string(),
            Self::Departed(departure) => departure.to_string(),
        }
    }
}

/// The stamp of a unit: the digest over what its inputs shall hold. The inputs must be artifacts
/// of the same host; one that is not (a file somebody else owns) counts by its path only.
#[must_use]
pub fn stamp_of(inputs: &[RemotePath], artifacts: &[Artifact]) -> Digest {
    let mut text = String::new();
    for input in inputs {
        let digest = artifacts.iter().find_map(|artifact| match artifact {
            Artifact::File { path, content, .. } if path == input => Some(content.digest()),
            Artifact::Program { path, digest, .. } if path == input => Some(*digest),
            Artifact::Package { program: Some(path), version, .. } if path == input => Some(Digest::of(format!("{version:?}"))),
            _ => None,
        });
        text.push_str(input.as_str());
        text.push('=');
        text.push_str(&digest.map_or_else(|| "?".to_owned(), |digest| digest.to_string()));
        text.push('\n');
    }
    Digest::of(text)
}
