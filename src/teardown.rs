//! What `reset` takes back, and when it refuses. Pure: a function of the plan and of what the probes
//! saw, of slipway's records above all.
//!
//! The order on a host: nothing runs any more (kubelet, pods), nothing is mounted, then data and
//! files go, then units, kernel and swap are as before, and what slipway knows of it all goes last.
//! So a reset that is cut off anywhere and run again ends the same.
//!
//! A host of a cluster that lives on first leaves it: its pods are moved away, its etcd member is taken
//! out of the membership and its Node is deleted, through the other hosts. When all hosts are reset, nobody is
//! left to tell.

use std::collections::{BTreeMap, BTreeSet};

use crate::artifact::Artifact;
use crate::artifact::undone::{Departure, Undone};
use crate::change::{Change, Reason};
use crate::desired::formed::FORMED_FILE;
use crate::desired::kubelet::UNIT as KUBELET;
use crate::desired::pod_network::ROUTES_UNIT;
use crate::eviction::Consent;
use crate::facts::{Facts, State};
use crate::graph::{GraphError, Step, StepGraph};
use crate::names::{HostName, RemotePath};
use crate::phase::{On, Phase, Stage, StepId, Target};
use crate::plan::{Host, Plan};
use crate::standing::{API_SERVER_MANIFEST, foreign, peer_url};
use crate::transport::records::{self, Record};

/// Whose work is on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody's.
    Untouched,
    /// slipway's.
    Slipway,
    /// Somebody else's cluster; the text names what was seen of it.
    Foreign(String),
}

/// Reads whose work is on a host.
#[must_use]
pub fn origin(facts: &Facts) -> Origin {
    let directory = RemotePath::fixed("/var/lib/slipway");
    if let Some(traces) = foreign(facts) {
        Origin::Foreign(traces)
    } else if facts.state.files.keys().any(|path| path.is_within(&directory)) {
        Origin::Slipway
    } else {
        Origin::Untouched
    }
}

/// Why hosts are not reset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Slipway has no record of what was there before.
    #[error("host {host} carries a cluster that slipway did not make: {traces}")]
    Foreign {
        /// Which host.
        host: HostName,
        /// What was found.
        traces: String,
    },
    /// The rest of etcd could not go on.
    #[error("without {leaving} etcd would lose its quorum: {healthy} of the {left} members that are left can be reached, {needed} are needed")]
    Quorum {
        /// Hosts to be reset with a member.
        leaving: String,
        /// Other members that can be reached.
        healthy: usize,
        /// Other members.
        left: usize,
        /// How many make their quorum.
        needed: usize,
    },
    /// The rest of the cluster could not be reached.
    #[error("without {leaving} the cluster would have no control plane that can be reached")]
    LastControlPlane {
        /// Hosts to be reset with an API server.
        leaving: String,
    },
}

impl Refusal {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Foreign { .. } => "with `--foreign` everything of Kubernetes on it is removed; nothing brings it back",
            Self::Quorum { .. } | Self::LastControlPlane { .. } => {
                "bring the other hosts back first, or reset the whole cluster: `slipway reset PLAN` without `--host`"
            }
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// What the hosts that answered are and have, of the whole plan.
    pub facts: &'a BTreeMap<HostName, Facts>,
    /// Hosts that shall be reset.
    pub chosen: &'a BTreeSet<HostName>,
    /// Hosts of a foreign cluster may be wiped.
    pub foreign: bool,
    /// Hosts do not leave a cluster that lives on: it may be out of reach for good.
    pub force: bool,
    /// Chosen hosts that do not answer, or came back empty, do not come back to the cluster: they
    /// leave it untouched.
    pub gone: bool,
    /// Chosen hosts whose pods are moved away before they leave a cluster that lives on.
    pub drained: &'a BTreeSet<HostName>,
    /// What of them may be evicted.
    pub consent: Consent,
}

impl<'a> Request<'a> {
    /// Chosen hosts that answered and have anything to take back.
    fn hosts(self) -> impl Iterator<Item = (&'a Host, &'a Facts, Origin)> {
        self.plan.hosts.iter().filter(move |host| self.chosen.contains(&host.name)).filter_map(move |host| {
            let facts = self.facts.get(&host.name)?;
            Some((host, facts, origin(facts))).filter(|(_, _, origin)| *origin != Origin::Untouched)
        })
    }

    /// Chosen hosts that leave without being touched.
    fn gone_hosts(self) -> impl Iterator<Item = &'a Host> {
        let touched: BTreeSet<&HostName> = self.hosts().map(|(host, ..)| &host.name).collect();
        let chosen = move |host: &&Host| self.gone && self.chosen.contains(&host.name) && !touched.contains(&host.name);
        self.plan.hosts.iter().filter(chosen)
    }

    fn others(self) -> impl Iterator<Item = &'a Host> {
        self.plan.hosts.iter().filter(move |host| !self.chosen.contains(&host.name))
    }

    /// Whether hosts that are not chosen carry the cluster on. One that cannot be seen counts.
    #[must_use]
    pub fn lives_on(self) -> bool {
        let carries = |state: &State| {
            let has = |path| state.files.contains_key(&RemotePath::fixed(path));
            state.etcd_data || has(FORMED_FILE) || has(API_SERVER_MANIFEST)
        };
        self.others()
            .filter(|host| On::Keepers.includes(self.plan, host))
            .any(|host| self.facts.get(&host.name).is_none_or(|facts| carries(&facts.state)))
    }

    /// Whether hosts have to leave a cluster that lives on.
    #[must_use]
    pub fn leaves(self) -> bool {
        !self.force && self.lives_on() && (self.hosts().next().is_some() || self.gone_hosts().next().is_some())
    }

    /// The plan without the hosts that leave and those that did not answer: through whose hosts
    /// the cluster is told.
    #[must_use]
    pub fn survivors(self) -> Plan {
        let mut plan = self.plan.clone();
        plan.hosts.retain(|host| !self.chosen.contains(&host.name) && self.facts.contains_key(&host.name));
        plan
    }
}

/// The graph of a reset.
///
/// # Errors
/// All reasons to refuse.
pub fn graph(request: Request<'_>) -> Result<StepGraph, Vec<Refusal>> {
    let refusals = refusals(request);
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let leaves = request.leaves();
    let (mut steps, mut edges) = (Vec::new(), Vec::new());
    let mut last_member: Option<StepId> = None;
    for (host, facts, origin) in request.hosts() {
        let id = |phase| StepId { phase, target: Target::Host(host.name.clone()) };
        let changes = host_changes(request.plan, host, &facts.state, &origin);
        steps.push(Step { changes, ..Step::empty(id(Phase::Reset)) });
        if leaves {
            edges.push((id(Phase::Leave), id(Phase::Reset)));
        }
    }
    // Those that are gone first: what is left is then as healthy as it can be.
    let leaving = request.gone_hosts().chain(request.hosts().map(|(host, ..)| host)).filter(|_| leaves);
    for host in leaving {
        let leave = StepId { phase: Phase::Leave, target: Target::Host(host.name.clone()) };
        if request.plan.has_etcd(host) {
            // One member at a time: each removal needs the quorum the one before has left.
            edges.extend(last_member.replace(leave.clone()).map(|earlier| (earlier, leave.clone())));
        }
        steps.push(Step { changes: departures(request, host), ..Step::empty(leave) });
    }
    let stage = if leaves { Stage::Living } else { Stage::Fresh };
    let graph: Result<StepGraph, GraphError> = StepGraph::assemble(stage, BTreeSet::new(), steps, edges);
    Ok(graph.expect("hosts have distinct names, and a host's steps and the chain of members have no cycle"))
}

fn refusals(request: Request<'_>) -> Vec<Refusal> {
    let Request { plan, facts, .. } = request;
    let mut refusals = Vec::new();
    if !request.foreign {
        refusals.extend(request.hosts().filter_map(|(host, _, origin)| match origin {
            Origin::Foreign(traces) => Some(Refusal::Foreign { host: host.name.clone(), traces }),
            _ => None,
        }));
    }
    if !request.lives_on() {
        return refusals;
    }
    let names = |wanted: &dyn Fn(&Host) -> bool| -> Vec<&str> {
        let hosts = request.hosts().map(|(host, ..)| host).chain(request.gone_hosts());
        hosts.filter(|host| wanted(host)).map(|host| host.name.as_str()).collect()
    };
    let members = names(&|host| plan.has_etcd(host));
    if !members.is_empty() {
        let left: Vec<Option<&Facts>> = request.others().filter(|host| plan.has_etcd(host)).map(|host| facts.get(&host.name)).collect();
        // A host of the plan that was never made a member has no vote.
        let left: Vec<bool> = left.into_iter().filter(|facts| facts.is_none_or(|facts| facts.state.etcd_data)).map(|facts| facts.is_some()).collect();
        let (healthy, needed) = (left.iter().filter(|reached| **reached).count(), left.len() / 2 + 1);
        if healthy < needed {
            refusals.push(Refusal::Quorum { leaving: members.join(", "), healthy, left: left.len(), needed });
        }
    }
    let control_planes = names(&Host::is_control_plane);
    let api_server = RemotePath::fixed(API_SERVER_MANIFEST);
    let serves = |host: &Host| facts.get(&host.name).is_some_and(|facts| facts.state.files.contains_key(&api_server));
    if !control_planes.is_empty() && !request.others().any(|host| host.is_control_plane() && serves(host)) {
        refusals.push(Refusal::LastControlPlane { leaving: control_planes.join(", ") });
    }
    refusals
}

fn departures(request: Request<'_>, host: &Host) -> Vec<Change> {
    let plan = request.plan;
    let mut departures = Vec::new();
    if request.drained.contains(&host.name) {
        let (limit, consent) = (plan.upgrade.drain_timeout, request.consent);
        departures.push(Departure::Drained { host: host.name.clone(), after: Vec::new(), limit, consent, silent: false });
    }
    if plan.has_etcd(host) {
        departures.push(Departure::Member { host: host.name.clone(), peer_url: peer_url(host) });
    }
    if host.is_node() {
        departures.push(Departure::Node { host: host.name.clone() });
    }
    let gone = |departure| Change { artifact: Artifact::Departed(departure), reason: Reason::Unwanted, before: None };
    departures.into_iter().map(gone).collect()
}

/// Everything to take back on a host, in order.
#[must_use]
pub fn host_changes(plan: &Plan, host: &Host, state: &State, origin: &Origin) -> Vec<Change> {
    let records = records::all(state);
    let mut list = Undoing::default();
    list.gone(Undone::Stopped { unit: KUBELET.into() });
    list.gone(Undone::Pods);
    list.gone(Undone::Mounts);
    let images = records.iter().filter_map(|record| if let Record::Image { name } = record { Some(name.clone()) } else { None });
    list.gone(Undone::Images { names: images.collect() });
    for (name, _) in units(&records).filter(|(name, new)| *new && *name != KUBELET) {
        list.gone(Undone::Stopped { unit: name.to_owned() });
    }
    let unit = RemotePath::fixed(&format!("/etc/systemd/system/{ROUTES_UNIT}"));
    for route in state.text(&unit).unwrap_or_default().lines().filter_map(route) {
        list.gone(route);
    }
    list.gone(Undone::PodNetwork);
    let foreign = matches!(origin, Origin::Foreign(_));
    let directory = &plan.etcd.data_directory;
    let kept = |record: &Record| matches!(record, Record::Path { path, .. } if path == directory);
    let own_etcd = plan.has_etcd(host) || records.iter().any(kept);
    list.gone(Undone::Kubernetes { foreign, etcd: own_etcd.then(|| directory.clone()) });
    // Before units: what a package brought is gone when it is asked whether there was a unit.
    for record in &records {
        if let Record::Package { name, new } = record {
            list.push(Undone::Package { name: name.clone(), kept: !new }, *new);
        }
    }
    list.paths(&records);
    for (name, new) in units(&records) {
        list.push(Undone::Unit { name: name.to_owned() }, new);
    }
    for record in &records {
        match record {
            Record::Sysctl { key } => list.push(Undone::Sysctl { key: key.clone() }, false),
            Record::Module { name } => list.gone(Undone::Module { name: name.clone() }),
            Record::Swap => list.push(Undone::Swap, false),
            Record::Path { .. } | Record::Unit { .. } | Record::Image { .. } | Record::Package { .. } => {}
        }
    }
    list.push(Undone::Surroundings, false);
    list.gone(Undone::Records);
    list.0
}

/// Units, and whether they came with slipway: a unit's file is written before the unit is looked at,
/// so the file's record counts too.
fn units(records: &[Record]) -> impl Iterator<Item = (&str, bool)> {
    let came = |unit: &str| {
        records.iter().any(|record| {
            matches!(record, Record::Path { path, new: true, .. } if path.as_str() == format!("/etc/systemd/system/{unit}"))
        })
    };
    records.iter().filter_map(move |record| match record {
        Record::Unit { name, new } => Some((name.as_str(), *new || came(name))),
        _ => None,
    })
}

/// Changes as they are gathered.
#[derive(Default)]
struct Undoing(Vec<Change>);

impl Undoing {
    fn push(&mut self, undone: Undone, new: bool) {
        let reason = if new { Reason::Unwanted } else { Reason::Before };
        self.0.push(Change { artifact: Artifact::Undone(undone), reason, before: None });
    }

    /// It was not there before.
    fn gone(&mut self, undone: Undone) {
        self.push(undone, true);
    }

    /// Files first, then directories from the inside out, so that those of slipway are empty.
    fn paths(&mut self, records: &[Record]) {
        let mut paths: Vec<(bool, std::cmp::Reverse<&RemotePath>, bool)> = records
            .iter()
            .filter_map(|record| match record {
                Record::Path { path, directory, new } => Some((*directory, std::cmp::Reverse(path), *new)),
                _ => None,
            })
            .collect();
        paths.sort();
        for (_, path, new) in paths {
            self.push(Undone::Path { path: path.0.clone(), restored: !new }, new);
        }
    }
}

/// The route that a line of the unit sets, whether once (as earlier versions wrote it) or until it
/// can be set.
fn route(line: &str) -> Option<Undone> {
    let command = line.strip_prefix("ExecStart=")?;
    let command = match command.split_once("\"until ") {
        Some((_, tried)) => tried.split_once("; do ")?.0,
        None => command,
    };
    let mut words = command.split_whitespace().skip(1);
    let family = words.next().filter(|family| matches!(*family, "-4" | "-6"))?;
    let rest: Vec<&str> = words.collect();
    let ["route", "replace", network, "via", gateway] = rest[..] else { return None };
    network.parse::<ipnet::IpNet>().ok()?;
    gateway.parse::<std::net::IpAddr>().ok()?;
    Some(Undone::Route { family: family.into(), network: network.into(), gateway: gateway.into() })
}

#[cfg(test)]
mod tests;
