//! What `reset` takes back. On a host: what slipway did there (its records say what) and what
//! Kubernetes itself left. In a cluster that goes on living without the host: its place in it.

use std::fmt;
use std::time::Duration;

use crate::eviction::Consent;
use crate::names::{HostName, RemotePath, Span};

/// One thing taken back on a host. Each can be done twice with the same result, and what slipway
/// knows of it (its record) goes after the thing itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undone {
    /// A unit stopped, and disabled if there was none of that name before.
    Stopped {
        /// Its name with suffix.
        unit: String,
    },
    /// All containers in the runtime's namespace of Kubernetes, with their processes.
    Pods,
    /// Mounts below the kubelet's directory and those of pods' sandboxes.
    Mounts,
    /// Images that were not in the runtime before.
    Images {
        /// Those that slipway brought.
        names: Vec<String>,
    },
    /// A route to another node's pods.
    Route {
        /// `-4` or `-6`.
        family: String,
        /// The other node's pod network.
        network: String,
        /// The other node.
        gateway: String,
    },
    /// Interfaces, packet filter rules and control groups of pods and services.
    PodNetwork,
    /// What Kubernetes wrote below its own directories.
    Kubernetes {
        /// Slipway did not make the cluster, so it has no note of what was there before.
        foreign: bool,
        /// The data directory of the cluster's own member of etcd; `None` where there is none, so that
        /// an etcd of somebody else keeps its data.
        etcd: Option<RemotePath>,
    },
    /// A file, link, directory or program as it was.
    Path {
        /// Where.
        path: RemotePath,
        /// Whether there was something before, which comes back.
        restored: bool,
    },
    /// A package gone that was not there before; another one held or not, as it was.
    Package {
        /// Its name.
        name: String,
        /// Whether there was one before.
        kept: bool,
    },
    /// A unit as it was.
    Unit {
        /// Its name with suffix.
        name: String,
    },
    /// A live kernel parameter as it was.
    Sysctl {
        /// Its dotted name.
        key: String,
    },
    /// A kernel module unloaded, if nothing uses it.
    Module {
        /// Its name.
        name: String,
    },
    /// Swap as it was.
    Swap,
    /// Kernel parameters and directories that Kubernetes changed or made by itself.
    Surroundings,
    /// Everything slipway kept on the host. Always the last.
    Records,
}

/// A host's place in a cluster that lives on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Departure {
    /// Its Node, emptied: it gets no new pods, and those it has are evicted as their disruption budgets
    /// allow.
    Drained {
        /// Which host.
        host: HostName,
        /// Nodes that must be ready before, so that the pods have a place to go.
        after: Vec<HostName>,
        /// How long the pods may take to leave.
        limit: Span,
        /// What may be evicted.
        consent: Consent,
        /// Its machine does not answer: when its kubelet is silent too, nobody there will end pods, and
        /// they are not waited for.
        silent: bool,
    },
    /// Its member of etcd, no longer in the membership.
    Member {
        /// Which host.
        host: HostName,
        /// The member's peer URL, which is its identity (kubeadm-facts, section 10).
        peer_url: String,
    },
    /// Its Node, deleted.
    Node {
        /// Which host.
        host: HostName,
    },
}

impl Departure {
    /// How much longer than other changes it may take.
    #[must_use]
    pub fn patience(&self) -> Duration {
        match self {
            Self::Drained { limit, .. } => limit.0,
            Self::Member { .. } | Self::Node { .. } => Duration::ZERO,
        }
    }
}

impl fmt::Display for Undone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped { unit } => write!(f, "running {unit}"),
            Self::Pods => f.write_str("pods and their containers"),
            Self::Mounts => f.write_str("mounts of pods"),
            Self::Images { names } if names.is_empty() => f.write_str("images"),
            Self::Images { names } => write!(f, "images ({} brought by slipway)", names.len()),
            Self::Route { network, gateway, .. } => write!(f, "route to {network} via {gateway}"),
            Self::PodNetwork => f.write_str("interfaces, packet filter rules and control groups of pods"),
            Self::Kubernetes { etcd, .. } => {
                f.write_str("data of Kubernetes below /etc/kubernetes, /var/lib/kubelet and /var/log/pods")?;
                etcd.as_ref().map_or(Ok(()), |directory| write!(f, ", and of etcd below {directory}"))
            }
            Self::Path { path, .. } => path.fmt(f),
            Self::Package { name, .. } => write!(f, "package {name}"),
            Self::Unit { name } => write!(f, "unit {name}"),
            Self::Sysctl { key } => write!(f, "sysctl {key}"),
            Self::Module { name } => write!(f, "module {name}"),
            Self::Swap => f.write_str("swap"),
            Self::Surroundings => f.write_str("kernel parameters and directories of Kubernetes"),
            Self::Records => f.write_str("/var/lib/slipway"),
        }
    }
}

impl fmt::Display for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drained { host, .. } => write!(f, "pods on Node/{host}"),
            Self::Member { host, peer_url } => write!(f, "etcd member {host} ({peer_url})"),
            Self::Node { host } => write!(f, "Node/{host}"),
        }
    }
}
