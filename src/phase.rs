//! The phases and their order: one table. Every edge of the graph comes from here.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::HostName;
use crate::plan::{Host, Plan};

/// A kind of work. The list is closed; the order here is the order of the usual story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Kernel modules, kernel parameters, swap.
    System,
    /// Programs that slipway brings.
    Programs,
    /// containerd's configuration and unit.
    Runtime,
    /// Images that slipway brings.
    Images,
    /// The CNI plugins' configuration and the routes between nodes.
    PodNetwork,
    /// CA pairs and the service-account pair, on the hosts that keep them.
    Authority,
    /// Leaf certificates, kubeconfigs and the public CA certificates.
    Certificates,
    /// etcd's static pod.
    Etcd,
    /// The static pods of API server, controller manager and scheduler.
    ControlPlane,
    /// The static pod of the local API proxy.
    LocalProxy,
    /// The static pod that holds the virtual address.
    Vip,
    /// The kubelet's configuration and unit.
    Kubelet,
    /// Nothing is changed: etcd and the API server of this host are waited for.
    Healthy,
    /// The in-cluster objects kubeadm makes at `init`: RBAC, ConfigMaps, bootstrap token.
    ClusterObjects,
    /// Nothing but a note on the hosts that carry the cluster: it was formed. From then on it lives.
    Formed,
    /// Labels and taints of the Nodes.
    Nodes,
    /// The network provider's objects.
    Network,
    /// CoreDNS and kube-proxy.
    Addons,
    /// What is kept from before an upgrade, before anything is changed anywhere. Only where it has changes;
    /// its order is in `graph::precaution`.
    Snapshot,
    /// Controller manager and scheduler of a new version, when all API servers have it. Only where it
    /// has changes; its order is in `OCCASIONAL_RULES`.
    Controllers,
    /// A kubelet of a new version, with its Node drained if need be. Only where it has changes; its
    /// order is in `OCCASIONAL_RULES`.
    KubeletUpgrade,
    /// Nothing is changed: Nodes are Ready and add-ons are rolled out.
    Ready,
    /// Static pods of an endpoint that the plan no longer has go, when nobody uses it any more. Only where
    /// it has changes; its order is in `OCCASIONAL_RULES`.
    FormerEndpoint,
    /// Objects that slipway made and the plan no longer wants go. Only where it has changes; its order is in
    /// `OCCASIONAL_RULES`.
    Prune,
    /// A host leaves a cluster that lives on. Only of `reset`, so it has no row in `RULES`.
    #[value(skip)]
    Leave,
    /// Everything on a host is taken back. Only of `reset`, so it has no row in `RULES`.
    #[value(skip)]
    Reset,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "system",
            Self::Programs => "programs",
            Self::Runtime => "runtime",
            Self::Images => "images",
            Self::PodNetwork => "pod-network",
            Self::Authority => "authority",
            Self::Certificates => "certificates",
            Self::Etcd => "etcd",
            Self::ControlPlane => "control-plane",
            Self::LocalProxy => "local-proxy",
            Self::Vip => "vip",
            Self::Kubelet => "kubelet",
            Self::Healthy => "healthy",
            Self::ClusterObjects => "cluster-objects",
            Self::Formed => "formed",
            Self::Nodes => "nodes",
            Self::Network => "network",
            Self::Addons => "addons",
            Self::Snapshot => "snapshot",
            Self::Controllers => "controllers",
            Self::KubeletUpgrade => "kubelet-upgrade",
            Self::Ready => "ready",
            Self::FormerEndpoint => "former-endpoint",
            Self::Prune => "prune",
            Self::Leave => "leave",
            Self::Reset => "reset",
        })
    }
}

impl Phase {
    /// Whether it starts what listens on a host's ports.
    #[must_use]
    pub const fn listens(self) -> bool {
        matches!(self, Self::Etcd | Self::ControlPlane | Self::LocalProxy | Self::Vip | Self::Kubelet)
    }
}

/// What a step works on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// One host.
    Host(HostName),
    /// The cluster, through its API.
    Cluster,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name) => name.fmt(f),
            Self::Cluster => f.write_str("cluster"),
        }
    }
}

/// A phase on a target: the name of a node of the graph. Prints as `etcd@cp-1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId {
    /// What kind of work.
    pub phase: Phase,
    /// On what.
    pub target: Target,
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.phase, self.target)
    }
}

/// Where a phase has steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// One step on every host.
    EveryHost,
    /// One step on every host that runs an etcd member.
    EtcdHosts,
    /// One step on every host that runs an API server.
    ControlPlanes,
    /// One step on every host that keeps a CA pair: control planes and etcd hosts.
    Keepers,
    /// One step on every host that has a Node but no API server.
    OtherNodes,
    /// One step for the cluster.
    Cluster,
}

impl On {
    /// Whether a phase with this rule has a step on that host.
    #[must_use]
    pub fn includes(self, plan: &Plan, host: &Host) -> bool {
        match self {
            Self::EveryHost => true,
            Self::EtcdHosts => plan.has_etcd(host),
            Self::ControlPlanes => host.is_control_plane(),
            Self::Keepers => host.is_control_plane() || plan.has_etcd(host),
            Self::OtherNodes => host.is_node() && !host.is_control_plane(),
            Self::Cluster => false,
        }
    }
}

/// What a phase waits for. A prerequisite without a step on the target is no prerequisite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// That phase on the same host.
    Here(Phase),
    /// That phase everywhere.
    Everywhere(Phase),
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// The phase.
    pub phase: Phase,
    /// Where it has steps.
    pub on: On,
    /// What it waits for.
    pub after: &'static [After],
}

use After::{Everywhere, Here};

/// The order of everything.
///
/// Two things are not in the table, because they depend on whether the cluster lives: in a
/// *living* cluster the phases from `Authority` to `Healthy` run host by host on the hosts
/// that carry the cluster, and in batches on the others (see `graph`). In a *fresh* one
/// all members of etcd must start together: a lone member never becomes healthy.
pub const RULES: &[Rule] = &[
    Rule { phase: Phase::System, on: On::EveryHost, after: &[] },
    Rule { phase: Phase::Programs, on: On::EveryHost, after: &[Here(Phase::System)] },
    Rule { phase: Phase::Runtime, on: On::EveryHost, after: &[Here(Phase::Programs)] },
    Rule { phase: Phase::Images, on: On::EveryHost, after: &[Here(Phase::Runtime)] },
    Rule { phase: Phase::PodNetwork, on: On::EveryHost, after: &[Here(Phase::System)] },
    // Every keeper has the CA before anything signed by it exists anywhere: a run that dies here
    // leaves either no trace of a CA outside the keepers, or one that all keepers know.
    Rule { phase: Phase::Authority, on: On::Keepers, after: &[] },
    Rule { phase: Phase::Certificates, on: On::EveryHost, after: &[Everywhere(Phase::Authority)] },
    // Kubeconfigs before manifests: a missing file behind a hostPath of type FileOrCreate
    // would be made, empty.
    Rule { phase: Phase::Etcd, on: On::EtcdHosts, after: &[Here(Phase::Certificates), Here(Phase::Images)] },
    Rule {
        phase: Phase::ControlPlane,
        on: On::ControlPlanes,
        after: &[Here(Phase::Certificates), Here(Phase::Images), Here(Phase::Etcd)],
    },
    Rule { phase: Phase::LocalProxy, on: On::OtherNodes, after: &[Here(Phase::Images)] },
    // Not after the API server: it holds no address before that is ready, and on a host that joins the
    // kubelet comes first of all.
    Rule { phase: Phase::Vip, on: On::ControlPlanes, after: &[Here(Phase::Images)] },
    Rule {
        phase: Phase::Kubelet,
        on: On::EveryHost,
        after: &[
            Here(Phase::Runtime),
            Here(Phase::Images),
            Here(Phase::PodNetwork),
            Here(Phase::Certificates),
            Here(Phase::Etcd),
            Here(Phase::ControlPlane),
            Here(Phase::LocalProxy),
            Here(Phase::Vip),
        ],
    },
    Rule { phase: Phase::Healthy, on: On::Keepers, after: &[Here(Phase::Kubelet)] },
    Rule { phase: Phase::ClusterObjects, on: On::Cluster, after: &[Everywhere(Phase::Healthy)] },
    Rule { phase: Phase::Formed, on: On::Keepers, after: &[Everywhere(Phase::ClusterObjects)] },
    Rule { phase: Phase::Network, on: On::Cluster, after: &[Everywhere(Phase::ClusterObjects)] },
    Rule { phase: Phase::Addons, on: On::Cluster, after: &[Everywhere(Phase::ClusterObjects)] },
    Rule {
        phase: Phase::Nodes,
        on: On::Cluster,
        after: &[Everywhere(Phase::ClusterObjects), Everywhere(Phase::Kubelet)],
    },
    Rule {
        phase: Phase::Ready,
        on: On::Cluster,
        after: &[
            Everywhere(Phase::Formed),
            Everywhere(Phase::Nodes),
            Everywhere(Phase::Network),
            Everywhere(Phase::Addons),
        ],
    },
];

/// What is added to the order where there is something of it to do: unlike those of `RULES`, a step of
/// these phases is there only if it has changes.
///
/// The first comes before everything else (`graph::precaution`). The next two are of a living cluster that
/// goes to another version. Kubernetes' version skew policy:
/// nothing is newer than the oldest API server it may talk to. So everything but API servers and etcd
/// waits until all of them have the new version. The third is of one whose endpoint changes: the old way
/// to the API servers goes when every kubelet and kube-proxy has taken the new one. The last takes away
/// objects that the plan no longer wants.
pub const OCCASIONAL_RULES: &[Rule] = &[
    Rule { phase: Phase::Snapshot, on: On::EveryHost, after: &[] },
    Rule { phase: Phase::Controllers, on: On::ControlPlanes, after: &[Everywhere(Phase::Healthy)] },
    Rule {
        phase: Phase::KubeletUpgrade,
        on: On::EveryHost,
        after: &[
            Here(Phase::Kubelet),
            Everywhere(Phase::Healthy),
            Everywhere(Phase::Controllers),
            Everywhere(Phase::Network),
            Everywhere(Phase::Addons),
        ],
    },
    Rule {
        phase: Phase::FormerEndpoint,
        on: On::EveryHost,
        after: &[Here(Phase::Kubelet), Everywhere(Phase::Kubelet), Everywhere(Phase::Ready)],
    },
    // What replaces them is there and ready.
    Rule { phase: Phase::Prune, on: On::Cluster, after: &[Everywhere(Phase::Ready)] },
];

/// The rule of a phase of `apply`. The phases of `reset` have none: their graph is made of the
/// hosts that are reset (see `teardown`), and nobody asks for their rule.
#[must_use]
pub fn rule(phase: Phase) -> &'static Rule {
    RULES.iter().chain(OCCASIONAL_RULES).find(|rule| rule.phase == phase).expect("every phase has a row")
}

/// Whether there is a cluster already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// There never was a whole cluster: hosts are empty, or carry what a bootstrap that was cut off
    /// left. No host has the note of `Phase::Formed`.
    Fresh,
    /// A cluster was formed: hosts that carry it are changed one at a time.
    Living,
}
