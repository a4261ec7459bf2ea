//! Hosts that left the plan file while they are still in the cluster. Pure: who they are, whether
//! the machine that answers is still the one, what keeps them from being taken out, and their steps.
//!
//! Nothing of this is remembered by whoever runs slipway. Each Node carries, beside its other marks,
//! where its host was reached; so a plan without the host still finds it. The Node is therefore deleted
//! last, after the machine was reset: a run that is cut off anywhere before is found and finished by the
//! next. A Node without the mark is not slipway's and is never touched.
//!
//! A host with only the role `etcd` has no Node. Its mark is in the inventory (`inventory`), and goes from
//! there last. A member of etcd that no mark tells of (the inventory is of an earlier slipway, or its Node was
//! deleted by hand) is slipway's if its machine says so (`member`), and otherwise never touched.
//!
//! A mark is only where to look. Kubelets may write annotations of their own Nodes, so what a mark says is
//! checked like a plan, and a machine is reset only if it says itself that it is this host of this cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::artifact::Artifact;
use crate::artifact::undone::Departure;
use crate::change::{Change, Reason};
use crate::eviction::Consent;
use crate::facts::Facts;
use crate::graph::Step;
use crate::graph::leaving::Leaving;
use crate::names::{HostName, RemotePath};
use crate::paths;
use crate::phase::{Phase, StepId, Target};
use crate::plan::{Cni, DrainPolicy, Host, HostKubelet, Plan, Role, SshOverrides};
use crate::teardown::{self, Origin};
use crate::upgrade::turns::NodeSeen;

pub mod member;
mod refusal;

pub use refusal::{Refusal, refusals};

/// The annotation of Nodes that says where slipway reaches their hosts.
pub const HOST_ANNOTATION: &str = "slipway.dev/host";

/// What the API says of all Nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nodes {
    /// Those of the plan's hosts.
    pub of_plan: BTreeMap<HostName, NodeSeen>,
    /// All others.
    pub others: Vec<OtherNode>,
}

/// A Node on no host of the plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OtherNode {
    /// Its name.
    pub name: String,
    /// What slipway marked it with, if it did.
    pub mark: Option<String>,
    /// What is seen of it otherwise.
    pub seen: NodeSeen,
}

/// Where and as what a host was known. Never a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mark {
    address: IpAddr,
    roles: BTreeSet<Role>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ssh_address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jump_hosts: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sudo: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host_key: Option<String>,
}

/// The marks of all hosts of a plan that have no Node to carry them.
#[must_use]
pub fn marks(plan: &Plan) -> BTreeMap<HostName, String> {
    plan.hosts.iter().filter(|host| !host.is_node()).map(|host| (host.name.clone(), mark(plan, host))).collect()
}

/// The mark of a host.
#[must_use]
pub fn mark(plan: &Plan, host: &Host) -> String {
    let mark = Mark {
        address: host.address,
        roles: host.roles.clone(),
        ssh_address: host.ssh.address.clone(),
        user: host.ssh.user.clone().or_else(|| plan.ssh.user.clone()),
        port: host.ssh.port.or(plan.ssh.port),
        jump_hosts: host.ssh.jump_hosts.clone(),
        sudo: host.ssh.sudo,
        host_key: host.ssh.host_key.clone(),
    };
    serde_json::to_string(&mark).expect("a mark is plain text and numbers")
}

/// The host of a mark, as a plan would have it.
///
/// # Errors
/// The mark is none that slipway writes, or leads to a host of the plan.
pub fn host(plan: &Plan, name: &str, mark: &str) -> Result<Host, String> {
    let name: HostName = name.parse().map_err(|error| format!("its name is no host's: {error}"))?;
    let mark: Mark = serde_json::from_str(mark).map_err(|error| format!("its mark {HOST_ANNOTATION} cannot be read: {error}"))?;
    let ssh = SshOverrides {
        address: mark.ssh_address,
        user: mark.user,
        port: mark.port,
        identity_file: None,
        jump_hosts: mark.jump_hosts,
        sudo: mark.sudo,
        host_key: mark.host_key,
    };
    if !crate::plan::validate::is_sound(&ssh) {
        return Err(format!("its mark {HOST_ANNOTATION} holds what no plan may have"));
    }
    // Ports of one address may be several machines, so the address alone is no sign.
    let way = |address: IpAddr, ssh: &SshOverrides| {
        (ssh.address.clone().unwrap_or_else(|| address.to_string()), ssh.port.or(plan.ssh.port).unwrap_or(22))
    };
    let own = way(mark.address, &ssh);
    let same = |other: &&Host| other.addresses().any(|address| address == mark.address) || way(other.address, &other.ssh) == own;
    if let Some(other) = plan.hosts.iter().find(same) {
        return Err(format!("its mark {HOST_ANNOTATION} leads to host {} of the plan", other.name));
    }
    Ok(known_as(name, mark.address, mark.roles, ssh))
}

/// A host of which nothing is known but this.
fn known_as(name: HostName, address: IpAddr, roles: BTreeSet<Role>, ssh: SshOverrides) -> Host {
    Host {
        name,
        address,
        second_address: None,
        roles,
        ssh,
        labels: BTreeMap::new(),
        taints: None,
        kubelet: HostKubelet::default(),
        pod_cidrs: Vec::new(),
    }
}

/// Whether a host that left the plan may have a member of etcd. Which roles have one is a question to the
/// whole plan, and the plan that this host was of is not known.
#[must_use]
pub fn may_have_member(plan: &Plan, host: &Host) -> bool {
    plan.etcd.external.is_none() && (host.is_control_plane() || host.roles.contains(&Role::Etcd))
}

/// What became of the machine of a host that left the plan.
#[derive(Debug, Clone, PartialEq)]
pub enum Machine {
    /// It answers, and is this host of this cluster or carries only remains of slipway's.
    Found(Box<Facts>),
    /// It is not touched, for this reason.
    Left(String),
}

/// A host that left the plan, with everything that decides how it goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Departing {
    /// The host, as its mark has it.
    pub host: Host,
    /// What the API says of its Node, if it has one.
    pub node: Option<NodeSeen>,
    /// Its machine.
    pub machine: Machine,
    /// Its member of etcd.
    pub member: Option<LeavingMember>,
}

/// The member of etcd of a host that left the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeavingMember {
    /// Its peer URL as etcd has it.
    pub peer_url: String,
    /// Whether it has a vote and is well: the others count on it.
    pub serves: bool,
}

impl Departing {
    /// Whether its machine is not to be touched or has nothing left.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        match &self.machine {
            Machine::Found(facts) => teardown::origin(facts) == Origin::Untouched,
            Machine::Left(_) => true,
        }
    }

    /// Whether it goes before everything else, because its member may be in the way of that: one that does not
    /// answer or is not well counts for the quorum, and one that only learns keeps others from joining (etcd
    /// has one learner at a time). Nobody misses any of them.
    #[must_use]
    pub fn goes_first(&self) -> bool {
        self.is_gone() || self.member.as_ref().is_some_and(|member| !member.serves)
    }

    /// How it stands in the order.
    #[must_use]
    pub fn place(&self) -> Leaving {
        Leaving { host: self.host.name.clone(), carries: self.host.is_control_plane() || self.member.is_some(), first: self.goes_first() }
    }
}

/// The certificates of a cluster's CAs, PEM, by the files that hold them on hosts.
pub type Authorities<'a> = [(RemotePath, &'a str)];

/// What a probe of the machine behind a mark means.
#[must_use]
pub fn judge(host: &Host, facts: Facts, authorities: &Authorities<'_>) -> Machine {
    if let Origin::Foreign(traces) = teardown::origin(&facts) {
        return Machine::Left(format!("the machine at {} carries a cluster that slipway did not make: {traces}", host.address));
    }
    // While a CA is replaced there are two.
    let strange = |(path, own): &(RemotePath, &str)| facts.state.text(path).is_some_and(|found| certificates(found).is_disjoint(&certificates(own)));
    if authorities.iter().any(strange) {
        return Machine::Left(format!("the machine at {} is of another cluster by now", host.address));
    }
    // A host without a Node has a name only as a member.
    if !host.is_node() {
        return match member::name(&facts.state).filter(|name| name != host.name.as_str()) {
            Some(name) => Machine::Left(format!("the machine at {} is member {name} of etcd by now", host.address)),
            None => Machine::Found(Box::new(facts)),
        };
    }
    // The kubelet's flags are there as long as the host is more than remains.
    if let Some(flags) = facts.state.text(&paths::kubelet_flags()) {
        let given = flags.split("--hostname-override=").nth(1).and_then(|rest| rest.split([' ', '"', '\n']).next());
        let name = given.unwrap_or(&facts.system.hostname);
        if !name.eq_ignore_ascii_case(host.name.as_str()) {
            return Machine::Left(format!("the machine at {} is Node {name} by now", host.address));
        }
    }
    Machine::Found(Box::new(facts))
}

/// The certificates of a PEM text, without their line breaks.
fn certificates(text: &str) -> BTreeSet<String> {
    let blocks = text.split("-----BEGIN CERTIFICATE-----").skip(1);
    blocks.filter_map(|block| Some(block.split_once("-----END")?.0.split_whitespace().collect())).collect()
}

/// The steps of hosts that leave. Their Nodes are emptied when those that stay are ready.
#[must_use]
pub fn steps(plan: &Plan, departing: &[Departing]) -> Vec<Step> {
    departing.iter().flat_map(|departing| [leave(plan, departing), reset(plan, departing)]).collect()
}

fn removed(artifact: Artifact) -> Change {
    Change { artifact, reason: Reason::Unwanted, before: None }
}

fn departed(departure: Departure) -> Change {
    removed(Artifact::Departed(departure))
}

fn leave(plan: &Plan, departing: &Departing) -> Step {
    let name = || departing.host.name.clone();
    let mut changes = Vec::new();
    if is_drained(plan, departing) {
        let waits = plan.network.cni != Cni::None && !departing.goes_first();
        let after = if waits { plan.nodes().map(|host| host.name.clone()).collect() } else { Vec::new() };
        let limit = plan.upgrade.drain_timeout;
        let consent = Consent { local_data: plan.upgrade.delete_empty_dir_data, unmanaged: plan.upgrade.evict_unmanaged };
        changes.push(departed(Departure::Drained { host: name(), after, limit, consent, silent: departing.is_gone() }));
    }
    if let Machine::Found(facts) = &departing.machine
        && departing.member.is_some()
        && facts.state.files.contains_key(&paths::api_server_manifest())
    {
        // Without its member it could answer nobody: it finishes what it has and refuses what is new.
        changes.push(removed(Artifact::Absent { path: paths::api_server_manifest() }));
    }
    if let Some(member) = &departing.member {
        changes.push(departed(Departure::Member { host: name(), peer_url: member.peer_url.clone() }));
    }
    Step { changes, ..Step::empty(StepId { phase: Phase::Leave, target: Target::Host(name()) }) }
}

/// Whether its Node is emptied. One that is not ready cannot be: nobody there would end its pods.
#[must_use]
pub fn is_drained(plan: &Plan, departing: &Departing) -> bool {
    departing.node.as_ref().is_some_and(|node| node.ready) && plan.upgrade.drain != DrainPolicy::Never
}

fn reset(plan: &Plan, departing: &Departing) -> Step {
    let mut changes = Vec::new();
    if let Machine::Found(facts) = &departing.machine {
        let origin = teardown::origin(facts);
        if origin != Origin::Untouched {
            changes = teardown::host_changes(plan, &departing.host, &facts.state, &origin);
        }
    }
    let name = departing.host.name.clone();
    if departing.node.is_some() {
        changes.push(departed(Departure::Node { host: name.clone() }));
    }
    Step { changes, ..Step::empty(StepId { phase: Phase::Reset, target: Target::Host(name) }) }
}

#[cfg(test)]
mod tests;
