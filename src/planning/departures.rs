//! Hosts that left the plan: found by what the API says of Nodes, by the marks that the inventory keeps of
//! hosts without a Node, and by etcd's own list; looked at over SSH like all others, and judged. Nothing is
//! changed.

use std::collections::{BTreeMap, BTreeSet};

use super::steps::Listed;
use super::{Options, probe, refused};
use crate::cluster::etcd::Member;
use crate::cluster::{Cluster, ClusterError};
use crate::departed::{self, Departing, LeavingMember, Machine, OtherNode, Refusal, is_drained, member};
use crate::desired::Standing;
use crate::facts::Facts;
use crate::failure::{Failure, Kind};
use crate::graph::Gate;
use crate::inventory::Inventory;
use crate::names::{HostName, RemotePath};
use crate::paths;
use crate::plan::{Host, Plan};
use crate::preflight::{Finding, Severity};
use crate::standing::member_of;
use crate::transport::{Transport, TransportError};
use crate::trust::refresh::Material;
use crate::upgrade::turns::NodeSeen;

/// What planning has when it looks for them.
pub(super) struct Apart<'a> {
    pub plan: &'a Plan,
    pub facts: &'a BTreeMap<HostName, Facts>,
    pub standing: &'a Standing,
    pub material: &'a Material,
    /// The list of what slipway made, if there is one and somebody tells.
    pub inventory: Option<&'a Inventory>,
    pub options: &'a Options<'a>,
}

impl<'a> Apart<'a> {
    /// The cluster's CA certificates. Of an etcd that somebody else runs slipway knows no machine.
    fn authorities(&self) -> Vec<(RemotePath, &'a str)> {
        let mut authorities = vec![(paths::ca_certificate(), self.material.api.ca_pem.as_str())];
        if self.plan.etcd.external.is_none() {
            authorities.push((paths::etcd_ca_certificate(), self.material.etcd.ca_pem.as_str()));
        }
        authorities
    }
}

/// Finds them. Members of those that go first are left out of `members`, because they are removed before
/// anybody joins.
///
/// # Errors
/// One is worked on by somebody else, or cannot be taken out of the cluster.
pub(super) async fn look<T: Transport, C: Cluster>(
    apart: Apart<'_>,
    cluster: C,
    transport: &T,
    others: Vec<OtherNode>,
    members: &mut Option<Result<Vec<Member>, ClusterError>>,
    warnings: &mut Vec<Finding>,
) -> Result<(C, Vec<Departing>), Failure> {
    let Apart { plan, options, .. } = apart;
    let list = members.as_ref().and_then(|members| members.as_deref().ok()).unwrap_or_default();
    let known = known(&apart, transport, others, list, warnings).await?;
    if known.is_empty() {
        return Ok((cluster, Vec::new()));
    }
    let mut machines = machines(&apart, transport, known.iter().map(|(host, _)| host)).await?;
    let mut departing: Vec<Departing> = known
        .into_iter()
        .map(|(host, node)| {
            let machine = machines.remove(&host.name).expect("every machine was looked at");
            let member = member_of(&host, list);
            let member = member.and_then(|member| Some(LeavingMember { peer_url: member.peer_urls.first()?.clone(), serves: !member.learner }));
            Departing { host, node, machine, member }
        })
        .collect();
    warnings.extend(departing.iter().flat_map(|departing| findings(plan, departing)));
    // A mark on the list may be all that is left of a host that was reset. The end of the run drops it.
    departing.retain(|departing| departing.node.is_some() || departing.member.is_some() || !departing.is_gone());
    let parting = departing.iter().filter(|departing| !departing.is_gone()).map(|departing| departing.host.clone());
    let cluster = cluster.parting(parting.collect());
    // A run on a part of the work takes nobody out: what it leaves out is shown, and nothing is judged by it.
    if is_part(options) {
        return Ok((cluster, departing));
    }
    look_at_members(&cluster, &mut departing).await;
    let drained = departing.iter().filter(|departing| is_drained(plan, departing)).map(|departing| departing.host.name.clone());
    let mut objections = cluster.objections(&drained.collect()).await.unwrap_or_default();
    for departing in &mut departing {
        if let Some(node) = &mut departing.node {
            node.objections = objections.remove(&departing.host.name).unwrap_or_default();
        }
    }
    judge(&apart, &cluster, &departing, members).await?;
    if let Some(Ok(list)) = members {
        let goes = |member: &Member| departing.iter().any(|departing| departing.goes_first() && member_of(&departing.host, std::slice::from_ref(member)).is_some());
        list.retain(|member| !goes(member));
    }
    Ok((cluster, departing))
}

/// Finds members that are not well: nobody counts on them.
async fn look_at_members<C: Cluster>(cluster: &C, departing: &mut [Departing]) {
    let serving = departing.iter_mut().filter(|departing| !departing.is_gone());
    let serving: Vec<(Gate, &mut LeavingMember)> = serving
        .filter_map(|departing| Some((Gate::EtcdHealthy(departing.host.name.clone()), departing.member.as_mut().filter(|member| member.serves)?)))
        .collect();
    let gates: Vec<Gate> = serving.iter().map(|(gate, _)| gate.clone()).collect();
    if gates.is_empty() {
        return;
    }
    let closed = cluster.closed(&gates).await;
    for (gate, member) in serving {
        member.serves = !closed.contains(&gate);
    }
}

/// The list of what slipway made as this run leaves it: hosts without a Node are on it until they are gone.
pub(super) fn listed(plan: &Plan, departing: &[Departing], found: Option<Option<Inventory>>, options: &Options<'_>) -> Listed {
    let keeps_hosts = is_part(options);
    let is_listed = |host: &Host| matches!(&found, Some(Some(list)) if list.hosts.contains_key(&host.name));
    let goes = |departing: &&Departing| departing.node.is_none() && !departing.is_gone() && !is_listed(&departing.host);
    let leaving = departing.iter().filter(|_| !keeps_hosts).filter(goes).map(|departing| (departing.host.name.clone(), departed::mark(plan, &departing.host)));
    Listed { leaving: leaving.collect(), keeps_hosts, found }
}

/// Hosts that left the plan, and their Nodes if they have one.
async fn known<T: Transport>(
    apart: &Apart<'_>,
    transport: &T,
    others: Vec<OtherNode>,
    members: &[Member],
    warnings: &mut Vec<Finding>,
) -> Result<Vec<(Host, Option<NodeSeen>)>, Failure> {
    let plan = apart.plan;
    let nodes: BTreeSet<String> = others.iter().map(|node| node.name.clone()).collect();
    let mut known = Vec::new();
    for node in others {
        match node.mark.as_deref().map(|mark| departed::host(plan, &node.name, mark)) {
            Some(Ok(host)) => known.push((host, Some(node.seen))),
            Some(Err(reason)) => warnings.push(stranger(&node.name, &reason)),
            None => warnings.push(stranger(&node.name, "slipway did not mark it")),
        }
    }
    let marks = apart.inventory.iter().flat_map(|inventory| &inventory.hosts);
    let marks = marks.filter(|(name, _)| plan.host(name).is_none() && !nodes.contains(name.as_str()));
    known.extend(marks.filter_map(|(name, mark)| Some((departed::host(plan, name.as_str(), mark).ok()?, None))));
    let met: Vec<&Host> = known.iter().map(|(host, _)| host).collect();
    let unmarked = member::unmarked(plan, members, &met, &nodes);
    if !unmarked.is_empty() {
        // They may be anybody's, so not even a lock is left on them before they say that they are slipway's.
        let mut facts = looks(plan, transport, None, unmarked.iter()).await?;
        let authorities = apart.authorities();
        let vouched = unmarked.into_iter().filter_map(|host| member::vouched(host.clone(), facts.remove(&host.name)?.as_ref().ok()?, &authorities));
        known.extend(vouched.map(|host| (host, None)));
    }
    Ok(known)
}

/// Looks at the machines behind marks, with their locks if the run holds locks.
async fn machines<T: Transport>(
    apart: &Apart<'_>,
    transport: &T,
    hosts: impl Iterator<Item = &Host> + Clone,
) -> Result<BTreeMap<HostName, Machine>, Failure> {
    let lock = apart.options.lock.clone().filter(|_| !is_part(apart.options));
    let mut looks = looks(apart.plan, transport, lock, hosts.clone()).await?;
    let authorities = apart.authorities();
    let judged = hosts.filter_map(|host| {
        let machine = match looks.remove(&host.name)? {
            Ok(facts) => departed::judge(host, facts, &authorities),
            Err(reason) => Machine::Left(reason),
        };
        Some((host.name.clone(), machine))
    });
    Ok(judged.collect())
}

/// What machines of no host of the plan say of themselves, or why they say nothing.
///
/// # Errors
/// One is worked on by somebody else.
async fn looks<T: Transport>(
    plan: &Plan,
    transport: &T,
    lock: Option<String>,
    hosts: impl Iterator<Item = &Host>,
) -> Result<BTreeMap<HostName, Result<Facts, String>>, Failure> {
    let mut looked_at = Plan { hosts: Vec::new(), ..plan.clone() };
    let mut looks = BTreeMap::new();
    for host in hosts {
        match transport.introduce(host) {
            Ok(()) => looked_at.hosts.push(host.clone()),
            Err(error) => _ = looks.insert(host.name.clone(), Err(error.to_string())),
        }
    }
    let (facts, absent) = probe(&looked_at, transport, lock, |_| true).await;
    if let Some(error) = absent.values().find(|error| matches!(error, TransportError::Locked { .. })) {
        return Err(Failure::from_error(Kind::Refused, error).hint("wait for that run to end; its lock goes with it, also if it dies"));
    }
    looks.extend(facts.into_iter().map(|(name, facts)| (name, Ok(facts))));
    looks.extend(absent.into_iter().map(|(name, error)| (name, Err(error.to_string()))));
    Ok(looks)
}

fn is_part(options: &Options<'_>) -> bool {
    !options.hosts.is_empty() || !options.phases.is_empty()
}

async fn judge<C: Cluster>(
    apart: &Apart<'_>,
    cluster: &C,
    departing: &[Departing],
    members: &Option<Result<Vec<Member>, ClusterError>>,
) -> Result<(), Failure> {
    let plan = apart.plan;
    let gates: Vec<Gate> = plan.etcd_hosts().map(|host| Gate::EtcdHealthy(host.name.clone())).collect();
    let asked = departing.iter().any(|departing| departing.member.is_some());
    let closed = if asked { cluster.closed(&gates).await } else { BTreeSet::new() };
    let healthy: BTreeSet<HostName> =
        plan.etcd_hosts().map(|host| host.name.clone()).filter(|host| !closed.contains(&Gate::EtcdHealthy(host.clone()))).collect();
    let unseen = members.as_ref().and_then(|members| members.as_ref().err()).map(ToString::to_string);
    let list = match (members, &unseen) {
        (_, Some(reason)) => Err(reason.as_str()),
        (Some(Ok(list)), None) => Ok(list.as_slice()),
        _ => Ok(&[][..]),
    };
    let refusals = departed::refusals(plan, departing, list, &healthy, &apart.standing.api_servers, apart.facts);
    if refusals.is_empty() { Ok(()) } else { Err(refused(&refusals, |refusal: &Refusal| refusal.hint().to_owned())) }
}

fn stranger(name: &str, reason: &str) -> Finding {
    Finding {
        host: None,
        check: "node-stranger",
        severity: Severity::Warning,
        message: format!("Node {name} is on no host of the plan, and is left alone: {reason}"),
        hint: format!("if nobody else keeps it, `kubectl delete node {name}` when its kubelet is stopped"),
    }
}

/// What a person should know before a host goes.
fn findings(plan: &Plan, departing: &Departing) -> Vec<Finding> {
    let finding = |check, message: String, hint: String| Finding { host: Some(departing.host.name.clone()), check, severity: Severity::Warning, message, hint };
    let name = &departing.host.name;
    let mut findings = Vec::new();
    if let Machine::Left(reason) = &departing.machine {
        let how = if departing.node.is_none() && departing.member.is_none() { "is not in the cluster any more, and" } else { "is taken out of the cluster, but" };
        let message = format!("it left the plan and {how} its machine is NOT reset: {reason}");
        let hint = format!(
            "if it still runs, it keeps its keys, data and pods: switch it off, or put it into the plan again when it answers \
             and run `slipway reset PLAN --host {name}`"
        );
        findings.push(finding("departed-machine", message, hint));
    }
    if let Some(node) = departing.node.as_ref().filter(|_| !is_drained(plan, departing)) {
        let why = if node.ready { "`upgrade.drain` is `never`" } else { "its Node is not ready" };
        let message = format!("it left the plan and its pods are not moved away first: {why}");
        findings.push(finding("departed-pods", message, "their controllers start others when the Node is gone".into()));
    }
    findings
}
