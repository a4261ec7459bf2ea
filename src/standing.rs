//! How things stand before anything is planned: whether the cluster lives, and the decisions that
//! earlier runs left on the hosts (each node's pod network, the members etcd was formed with). Pure:
//! a function of the plan and of what the probes saw.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use crate::desired::formed::FORMED_FILE;
use crate::desired::pod_network::POD_CIDRS_FILE;
use crate::facts::Facts;
use crate::names::{Digest, HostName, RemotePath};
use crate::phase::Stage;
use crate::paths;
use crate::plan::{Cni, Host, Plan, url};
use crate::trust::inspect;

mod membership;

pub use membership::{Join, member_of, strangers};

const ETCD_MANIFEST: &str = "/etc/kubernetes/manifests/etcd.yaml";
/// The API server's static pod.
pub const API_SERVER_MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";

/// How things stand.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Whether a cluster was formed.
    pub stage: Stage,
    /// Each node's pod networks, with the built-in bridge network.
    pub pod_cidrs: BTreeMap<HostName, Vec<IpNet>>,
    /// What each etcd member's `--initial-cluster` and `--initial-cluster-state` shall say.
    pub etcd: BTreeMap<HostName, InitialCluster>,
    /// Control planes that have an API server, or may have one because they were not seen.
    pub api_servers: BTreeSet<HostName>,
    /// Hosts on their way into the membership of an etcd that lives (see `with_members`).
    pub joins: BTreeMap<HostName, Join>,
}

/// How a member was, or is to be, started for the first time. etcd ignores both once it has data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitialCluster {
    /// `name=peer URL` of all first members.
    pub members: String,
    /// `new` or `existing`; `None` where the manifest (of kubeadm) does not say.
    pub state: Option<&'static str>,
}

/// Why slipway refuses to plan on these hosts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Parts of a cluster that slipway did not make.
    #[error("host {host} carries a cluster that slipway did not make: {traces}")]
    Foreign {
        /// Which host.
        host: HostName,
        /// What was found.
        traces: String,
    },
    /// No host has the cluster that the plan adopts.
    #[error("the plan adopts a cluster, and no host that answers has an API server with its CA (pki.adopted: {wanted})")]
    AdoptedGone {
        /// The CA's fingerprint.
        wanted: Digest,
    },
    /// A cut-off bootstrap had other etcd members.
    #[error("host {host}: a bootstrap that was cut off started etcd with other members: {found} (now wanted: {wanted})")]
    OtherMembers {
        /// Which host.
        host: HostName,
        /// What its manifest says.
        found: String,
        /// What the plan says.
        wanted: String,
    },
    /// A host would join etcd, and nobody tells who its members are.
    #[error("host {host} has no etcd data and would join etcd, but nobody tells who its members are: {reason}")]
    MembersUnseen {
        /// Which host.
        host: HostName,
        /// Why nobody does.
        reason: String,
    },
    /// A host has data of a member that etcd does not know (any more).
    #[error("host {host} has data of an etcd member that was removed from the membership")]
    Removed {
        /// Which host.
        host: HostName,
    },
    /// The plan names another data directory than the one a member uses.
    #[error("host {host}: its etcd member keeps its data in {found}, and the plan says {wanted}")]
    DataElsewhere {
        /// Which host.
        host: HostName,
        /// Where the data is.
        found: String,
        /// Where the plan has it.
        wanted: RemotePath,
    },
    /// No room for a node's pods.
    #[error("the pod network {network} has no free /{prefix} left for host {host}")]
    PodNetworkFull {
        /// The cluster's pod network.
        network: IpNet,
        /// The prefix length of a node's share.
        prefix: u8,
        /// Which host.
        host: HostName,
    },
    /// A host claims a network that is none of the cluster's pods'.
    #[error("host {host} holds the pod network {network}, which is not within `network.podCidrs`")]
    PodNetworkOutside {
        /// Which host.
        host: HostName,
        /// What it claims.
        network: IpNet,
    },
    /// Two hosts noted the same pod network.
    #[error("hosts {first} and {second} both hold the pod network {network}")]
    PodNetworkTwice {
        /// One host.
        first: HostName,
        /// The other.
        second: HostName,
        /// What both hold.
        network: IpNet,
    },
}

impl Refusal {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Foreign { .. } => {
                "if it is kubeadm's and shall be kept, `slipway adopt` writes a plan for it; if the host may be wiped, run \
                 `slipway reset PLAN --host NAME --foreign` first; nothing was changed"
            }
            Self::AdoptedGone { .. } => {
                "slipway forms no new cluster in the place of an adopted one; if that is meant, take `pki.adopted` out of the plan"
            }
            Self::OtherMembers { .. } => {
                "restore the hosts of that plan, or take the cut-off bootstrap back with `slipway reset PLAN`"
            }
            Self::MembersUnseen { .. } => {
                "a member joins or is replaced only while the others have a quorum: bring their hosts back first"
            }
            Self::Removed { .. } => {
                "take the host back with `slipway reset PLAN --host NAME`, then `slipway apply` lets it join anew"
            }
            Self::DataElsewhere { .. } => {
                "slipway does not move etcd's data: set `etcd.dataDirectory` back, or reset the host and let it join anew"
            }
            Self::PodNetworkFull { .. } => "make `network.podCidrs` larger or `network.nodeMaskV4` longer",
            Self::PodNetworkTwice { .. } => "set `podCidrs` of one of the hosts",
            Self::PodNetworkOutside { .. } => {
                "if `network.podCidrs` was changed, change it back: a cluster keeps its pod networks; else look at who wrote \
                 /var/lib/slipway/pod-cidrs on that host"
            }
        }
    }
}

/// Reads how things stand.
///
/// # Errors
/// All reasons to refuse.
pub fn survey(plan: &Plan, facts: &BTreeMap<HostName, Facts>) -> Result<Standing, Vec<Refusal>> {
    let mut refusals = Vec::new();
    let stage = stage(plan, facts);
    for host in &plan.hosts {
        let Some(facts) = facts.get(&host.name) else { continue };
        if let Some(traces) = foreign(facts).filter(|_| !is_adopted(plan, facts)) {
            refusals.push(Refusal::Foreign { host: host.name.clone(), traces });
        }
    }
    if let Some(wanted) = plan.pki.adopted.filter(|_| stage == Stage::Fresh && !facts.is_empty()) {
        refusals.push(Refusal::AdoptedGone { wanted });
    }
    let etcd = match stage {
        Stage::Fresh => membership::first_members(plan, facts, &mut refusals),
        Stage::Living => membership::as_started(plan, facts, &mut refusals),
    };
    let pod_cidrs = match plan.network.cni {
        Cni::Bridge { .. } => pod_cidrs(plan, facts, &mut refusals),
        _ => BTreeMap::new(),
    };
    let manifest = RemotePath::fixed(API_SERVER_MANIFEST);
    let serves = |host: &&Host| facts.get(&host.name).is_none_or(|facts| facts.state.files.contains_key(&manifest));
    let api_servers = plan.control_planes().filter(serves).map(|host| host.name.clone()).collect();
    if refusals.is_empty() { Ok(Standing { stage, pod_cidrs, etcd, api_servers, joins: BTreeMap::new() }) } else { Err(refusals) }
}

/// Whether the cluster lives: a host says that it was formed, or has an API server of the cluster
/// that the plan adopts.
#[must_use]
pub fn stage(plan: &Plan, facts: &BTreeMap<HostName, Facts>) -> Stage {
    let (formed, manifest) = (RemotePath::fixed(FORMED_FILE), RemotePath::fixed(API_SERVER_MANIFEST));
    let has = |facts: &Facts, path| facts.state.files.contains_key(path);
    let living = facts.values().any(|facts| has(facts, &formed) || has(facts, &manifest) && is_adopted(plan, facts));
    if living { Stage::Living } else { Stage::Fresh }
}

/// Whether a host belongs to the cluster that the plan adopts: it has that cluster's CA. Somebody
/// else's cluster has another, so a plan that was pointed at the wrong hosts is refused.
#[must_use]
pub fn is_adopted(plan: &Plan, facts: &Facts) -> bool {
    let found = || inspect::certificate(facts.state.content(&paths::ca_certificate())?).ok();
    plan.pki.adopted.is_some_and(|wanted| found().is_some_and(|found| found.fingerprint() == wanted))
}

/// How things stand where there is nothing: for `render`.
///
/// # Errors
/// The pod network is too small.
pub fn survey_nothing(plan: &Plan) -> Result<Standing, Vec<Refusal>> {
    survey(plan, &BTreeMap::new())
}

/// Traces of a cluster on a host where slipway never wrote anything.
#[must_use]
pub fn foreign(facts: &Facts) -> Option<String> {
    let ours = facts.state.files.keys().any(|path| path.is_within(&RemotePath::fixed("/var/lib/slipway")) && path.as_str() != "/var/lib/slipway");
    if ours {
        return None;
    }
    let mut traces = Vec::new();
    for path in [
        API_SERVER_MANIFEST,
        ETCD_MANIFEST,
        "/etc/kubernetes/admin.conf",
        "/etc/kubernetes/kubelet.conf",
        "/etc/kubernetes/bootstrap-kubelet.conf",
        "/etc/kubernetes/pki/ca.crt",
    ] {
        if facts.state.files.contains_key(&RemotePath::fixed(path)) {
            traces.push(path.to_owned());
        }
    }
    if facts.state.etcd_data {
        traces.push("etcd data".to_owned());
    }
    (!traces.is_empty()).then(|| traces.join(", "))
}

/// The peer URL of a host's member.
#[must_use]
pub fn peer_url(host: &Host) -> String {
    url(&host.address.to_string(), 2380)
}

/// Each node's networks: what the plan says, else what the host noted, else the next free one.
fn pod_cidrs(
    plan: &Plan,
    facts: &BTreeMap<HostName, Facts>,
    refusals: &mut Vec<Refusal>,
) -> BTreeMap<HostName, Vec<IpNet>> {
    let mut given: BTreeMap<HostName, Vec<IpNet>> = BTreeMap::new();
    for host in plan.nodes() {
        let noted = facts
            .get(&host.name)
            .and_then(|facts| facts.state.text(&RemotePath::fixed(POD_CIDRS_FILE)))
            .map(|text| text.lines().filter_map(|line| line.parse().ok()).take(2).collect::<Vec<IpNet>>());
        // The routes of all other hosts are made of this: what a host says of itself must not reach further
        // than the pods.
        if let Some(network) = noted.iter().flatten().find(|noted| !plan.network.pod_cidrs.iter().any(|pods| pods.contains(*noted))) {
            refusals.push(Refusal::PodNetworkOutside { host: host.name.clone(), network: *network });
        }
        let networks = if host.pod_cidrs.is_empty() { noted.unwrap_or_default() } else { host.pod_cidrs.clone() };
        if !networks.is_empty() {
            given.insert(host.name.clone(), networks);
        }
    }
    let mut seen: Vec<(&HostName, IpNet)> = Vec::new();
    for (host, network) in given.iter().flat_map(|(host, networks)| networks.iter().map(move |network| (host, network))) {
        if let Some((first, _)) = seen.iter().find(|(first, other)| *first != host && overlap(other, network)) {
            refusals.push(Refusal::PodNetworkTwice { first: (*first).clone(), second: host.clone(), network: *network });
        }
        seen.push((host, *network));
    }
    let mut taken: BTreeSet<IpNet> = seen.into_iter().map(|(_, network)| network).collect();
    for host in plan.nodes() {
        if given.contains_key(&host.name) {
            continue;
        }
        let mut networks = Vec::new();
        for network in &plan.network.pod_cidrs {
            let prefix = if network.addr().is_ipv4() { plan.network.node_mask_v4 } else { plan.network.node_mask_v6 };
            let free = network.subnets(prefix).ok().and_then(|mut subnets| subnets.find(|subnet| !taken.iter().any(|other| overlap(other, subnet))));
            match free {
                Some(subnet) => {
                    taken.insert(subnet);
                    networks.push(subnet);
                }
                None => refusals.push(Refusal::PodNetworkFull { network: *network, prefix, host: host.name.clone() }),
            }
        }
        given.insert(host.name.clone(), networks);
    }
    given
}

/// Networks of different lengths meet when the plan's masks changed since one was noted.
fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

#[cfg(test)]
mod tests;
