//! What runs below Kubernetes on the hosts: the container runtime, programs and images, and how
//! they come there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::defaults;
use super::{Document, Role};
use crate::names::{Digest, RemotePath};

/// The container runtime of all hosts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Runtime {
    /// Whether slipway writes containerd's configuration and runs its unit. If not, a runtime
    /// must already answer on the socket.
    #[serde(default = "defaults::yes")]
    pub managed: bool,
    /// The CRI socket.
    #[serde(default = "defaults::socket")]
    pub socket: RemotePath,
    /// Which cgroup driver containerd and the kubelet share.
    #[serde(default)]
    pub cgroup_driver: CgroupDriver,
    /// The pause image; left out, the one of that Kubernetes version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_image: Option<String>,
    /// Where the CNI plugins are; left out, where they are found on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cni_directory: Option<RemotePath>,
    /// Registry mirrors by registry host (`docker.io`, `registry.k8s.io`, …; `_default` for all).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mirrors: BTreeMap<String, Mirror>,
    /// Settings merged into containerd's configuration, as the tree its TOML would be, below
    /// `plugins` by plugin name or at the top level.
    #[serde(default, skip_serializing_if = "Document::is_empty")]
    pub settings: Document,
}

/// Which cgroup driver containerd and the kubelet share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CgroupDriver {
    /// systemd manages the groups.
    #[default]
    Systemd,
    /// The file system is written directly.
    Cgroupfs,
}

impl fmt::Display for CgroupDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Systemd => "systemd",
            Self::Cgroupfs => "cgroupfs",
        })
    }
}

/// Mirrors of one registry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mirror {
    /// Addresses tried in order before the registry itself, such as `https://mirror.example:5000`.
    #[schemars(length(min = 1))]
    pub endpoints: Vec<String>,
    /// Accept any certificate of the mirrors.
    #[serde(default)]
    pub skip_verify: bool,
}

/// A program that slipway can bring to hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Program {
    /// The kubelet.
    Kubelet,
    /// kubectl (optional on hosts).
    Kubectl,
    /// kubeadm (optional; slipway never runs it).
    Kubeadm,
    /// crictl (optional).
    Crictl,
    /// runc.
    Runc,
    /// The CNI plugins: a `.tgz` archive unpacked into `/opt/cni/bin`.
    CniPlugins,
    /// containerd: a `.tar.gz` archive unpacked into `/usr/local`.
    Containerd,
}

/// Where a program comes from. `{arch}` in a file name or address stands for `amd64` or `arm64`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Source {
    /// It is on the host, in the search path.
    Preinstalled,
    /// The host's package manager (apt or dnf) installs its package; see `packages`.
    Packages,
    /// A file of the operator's machine, beside the plan file or with an absolute path.
    Upload(PathBuf),
    /// The host fetches it (with curl or wget).
    #[serde(rename_all = "camelCase")]
    Download {
        /// An `https` address.
        address: String,
        /// What it must be, by architecture (`amd64`, `arm64`).
        sha256: BTreeMap<String, Digest>,
    },
}

impl Source {
    /// Whether slipway sees to it that the program is there, and in the right version.
    #[must_use]
    pub fn is_brought(&self) -> bool {
        *self != Self::Preinstalled
    }

    /// Whether it is a file that slipway itself puts in its place.
    #[must_use]
    pub fn is_file(&self) -> bool {
        matches!(self, Self::Upload(_) | Self::Download { .. })
    }
}

/// Container images.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Images {
    /// Image archives (`docker save` or OCI layout as tar) that are sent to the hosts and loaded
    /// before anything starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub archives: Vec<ImageArchive>,
    /// Pull the images of the control plane, etcd and pause before anything starts.
    #[serde(default)]
    pub pull: bool,
}

/// An image archive of the operator's machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageArchive {
    /// The file, beside the plan file or with an absolute path.
    pub file: PathBuf,
    /// Only for hosts with one of these roles; left out, for all.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub roles: BTreeSet<Role>,
}
