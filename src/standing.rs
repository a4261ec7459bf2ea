//! How things stand before anything is planned: whether the cluster lives, and the decisions that
//! earlier runs left on the hosts (each node's pod network, the members etcd was formed with). Pure:
//! a function of the plan and of what the probes saw.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use serde_json::Value;

use crate::desired::formed::FORMED_FILE;
use crate::desired::pod_network::POD_CIDRS_FILE;
use crate::facts::Facts;
use crate::names::{HostName, RemotePath};
use crate::phase::Stage;
use crate::plan::{Cni, Host, Plan, url};
use crate::yaml;

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
    /// A new etcd member in a living cluster.
    #[error("host {host} would become a new etcd member of a living cluster, which this version of slipway cannot do yet")]
    NewMember {
        /// Which host.
        host: HostName,
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
                "if the host may be wiped, run `slipway reset PLAN --host NAME --foreign` first; nothing was changed"
            }
            Self::OtherMembers { .. } => {
                "restore the hosts of that plan, or take the cut-off bootstrap back with `slipway reset PLAN`"
            }
            Self::NewMember { .. } => "add the host as a worker, or bootstrap with all control planes at once",
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
    let stage = stage(facts);
    for host in &plan.hosts {
        let Some(facts) = facts.get(&host.name) else { continue };
        if let Some(traces) = foreign(facts) {
            refusals.push(Refusal::Foreign { host: host.name.clone(), traces });
        }
    }
    let etcd = etcd_members(plan, facts, stage, &mut refusals);
    let pod_cidrs = match plan.network.cni {
        Cni::Bridge { .. } => pod_cidrs(plan, facts, &mut refusals),
        _ => BTreeMap::new(),
    };
    if refusals.is_empty() { Ok(Standing { stage, pod_cidrs, etcd }) } else { Err(refusals) }
}

/// Whether the cluster lives: a host says that it was formed.
#[must_use]
pub fn stage(facts: &BTreeMap<HostName, Facts>) -> Stage {
    let formed = RemotePath::fixed(FORMED_FILE);
    let living = facts.values().any(|facts| facts.state.files.contains_key(&formed));
    if living { Stage::Living } else { Stage::Fresh }
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

fn etcd_members(
    plan: &Plan,
    facts: &BTreeMap<HostName, Facts>,
    stage: Stage,
    refusals: &mut Vec<Refusal>,
) -> BTreeMap<HostName, InitialCluster> {
    let wanted: Vec<String> = plan.etcd_hosts().map(|host| format!("{}={}", host.name, peer_url(host))).collect();
    let wanted = InitialCluster { members: wanted.join(","), state: Some("new") };
    let mut members = BTreeMap::new();
    for host in plan.etcd_hosts() {
        let state = facts.get(&host.name).map(|facts| &facts.state);
        let found = state.and_then(|state| state.text(&RemotePath::fixed(ETCD_MANIFEST))).and_then(initial_cluster);
        let has_data = state.is_some_and(|state| state.etcd_data);
        match (stage, found) {
            (Stage::Fresh, Some(found)) if has_data && found.members != wanted.members => {
                refusals.push(Refusal::OtherMembers {
                    host: host.name.clone(),
                    found: found.members,
                    wanted: wanted.members.clone(),
                });
            }
            (Stage::Living, Some(found)) => {
                members.insert(host.name.clone(), found);
                continue;
            }
            (Stage::Living, None) if !has_data && state.is_some() => {
                refusals.push(Refusal::NewMember { host: host.name.clone() });
            }
            _ => {}
        }
        members.insert(host.name.clone(), wanted.clone());
    }
    members
}

/// What an etcd manifest says about the first start.
fn initial_cluster(manifest: &str) -> Option<InitialCluster> {
    let pod: Value = yaml::read(manifest).ok()?;
    let command = pod.pointer("/spec/containers/0/command")?.as_array()?;
    let flag = |name: &str| {
        command.iter().filter_map(Value::as_str).find_map(|argument| argument.strip_prefix(name)).map(str::to_owned)
    };
    let state = match flag("--initial-cluster-state=").as_deref() {
        Some("existing") => Some("existing"),
        Some(_) => Some("new"),
        None => None,
    };
    Some(InitialCluster { members: flag("--initial-cluster=")?, state })
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
