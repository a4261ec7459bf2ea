//! Hosts that left the plan: found by what the API says of Nodes, looked at over SSH like all others, and
//! judged. Nothing is changed.

use std::collections::{BTreeMap, BTreeSet};

use super::{Options, probe, refused};
use crate::cluster::etcd::Member;
use crate::cluster::{Cluster, ClusterError};
use crate::departed::{self, Departing, Machine, OtherNode, Refusal, is_drained};
use crate::desired::Standing;
use crate::facts::Facts;
use crate::failure::{Failure, Kind};
use crate::graph::Gate;
use crate::names::HostName;
use crate::plan::{Host, Plan};
use crate::preflight::{Finding, Severity};
use crate::standing::member_of;
use crate::transport::{Transport, TransportError};

/// What planning has when it looks for them.
pub(super) struct Apart<'a> {
    pub plan: &'a Plan,
    pub facts: &'a BTreeMap<HostName, Facts>,
    pub standing: &'a Standing,
    /// The cluster's CA certificates, PEM.
    pub authority: &'a str,
    pub options: &'a Options<'a>,
}

/// Finds them. Members of machines that are gone are left out of `members`, because they are removed
/// before anybody joins.
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
    let mut known = Vec::new();
    for node in others {
        match node.mark.as_deref().map(|mark| departed::host(plan, &node.name, mark)) {
            Some(Ok(host)) => known.push((host, node.seen)),
            Some(Err(reason)) => warnings.push(stranger(&node.name, &reason)),
            None => warnings.push(stranger(&node.name, "slipway did not mark it")),
        }
    }
    if known.is_empty() {
        return Ok((cluster, Vec::new()));
    }
    let mut machines = machines(&apart, transport, known.iter().map(|(host, _)| host)).await?;
    let list = members.as_ref().and_then(|members| members.as_deref().ok()).unwrap_or_default();
    let mut departing: Vec<Departing> = known
        .into_iter()
        .map(|(host, seen)| {
            let machine = machines.remove(&host.name).expect("every machine was looked at");
            let member = member_of(&host, list).and_then(|member| member.peer_urls.first()).cloned();
            Departing { host, seen, machine, member }
        })
        .collect();
    warnings.extend(departing.iter().flat_map(|departing| findings(plan, departing)));
    let parting = departing.iter().filter(|departing| !departing.is_gone()).map(|departing| departing.host.clone());
    let cluster = cluster.parting(parting.collect());
    // A run on a part of the work takes nobody out: what it leaves out is shown, and nothing is judged by it.
    if is_part(options) {
        return Ok((cluster, departing));
    }
    let drained = departing.iter().filter(|departing| is_drained(plan, departing)).map(|departing| departing.host.name.clone());
    let mut objections = cluster.objections(&drained.collect()).await.unwrap_or_default();
    for departing in &mut departing {
        departing.seen.objections = objections.remove(&departing.host.name).unwrap_or_default();
    }
    judge(&apart, &cluster, &departing, members).await?;
    if let Some(Ok(list)) = members {
        let goes = |member: &Member| departing.iter().any(|departing| departing.is_gone() && member_of(&departing.host, std::slice::from_ref(member)).is_some());
        list.retain(|member| !goes(member));
    }
    Ok((cluster, departing))
}

/// Looks at the machines behind marks, with their locks if the run holds locks.
async fn machines<T: Transport>(
    apart: &Apart<'_>,
    transport: &T,
    hosts: impl Iterator<Item = &Host>,
) -> Result<BTreeMap<HostName, Machine>, Failure> {
    let mut looked_at = Plan { hosts: Vec::new(), ..apart.plan.clone() };
    let mut machines = BTreeMap::new();
    for host in hosts {
        match transport.introduce(host) {
            Ok(()) => looked_at.hosts.push(host.clone()),
            Err(error) => _ = machines.insert(host.name.clone(), Machine::Left(error.to_string())),
        }
    }
    let lock = apart.options.lock.clone().filter(|_| !is_part(apart.options));
    let (facts, absent) = probe(&looked_at, transport, lock, |_| true).await;
    if let Some(error) = absent.values().find(|error| matches!(error, TransportError::Locked { .. })) {
        return Err(Failure::from_error(Kind::Refused, error).hint("wait for that run to end; its lock goes with it, also if it dies"));
    }
    machines.extend(absent.into_iter().map(|(name, error)| (name, Machine::Left(error.to_string()))));
    for (name, facts) in facts {
        let host = looked_at.host(&name).expect("only these were looked at");
        let machine = departed::judge(host, facts, apart.authority);
        machines.insert(name, machine);
    }
    Ok(machines)
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
        let message = format!("it left the plan and is taken out of the cluster, but its machine is NOT reset: {reason}");
        let hint = format!(
            "if it still runs, it keeps its keys, data and pods: switch it off, or put it into the plan again when it answers \
             and run `slipway reset PLAN --host {name}`"
        );
        findings.push(finding("departed-machine", message, hint));
    }
    if !is_drained(plan, departing) {
        let why = if departing.seen.ready { "`upgrade.drain` is `never`" } else { "its Node is not ready" };
        let message = format!("it left the plan and its pods are not moved away first: {why}");
        findings.push(finding("departed-pods", message, "their controllers start others when the Node is gone".into()));
    }
    findings
}
