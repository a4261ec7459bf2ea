//! From hosts to be restarted to a graph: each Node is emptied, its runtime and kubelet (or its machine)
//! are restarted, it is waited for until it runs as before, and takes pods again. Pure. The same steps
//! as around an upgrade of a kubelet, in the same order among hosts and before the same gates, so a
//! run that is cut off leaves the same traces and the next one finds them.

use std::collections::{BTreeMap, BTreeSet};

use crate::artifact::Artifact;
use crate::artifact::maintenance::Maintenance;
use crate::change::{Change, Reason};
use crate::desired::kubelet::UNIT;
use crate::graph::rounds::KubeletOrder;
use crate::graph::{Gate, GraphError, Step, StepGraph};
use crate::names::{HostName, Span};
use crate::phase::{Phase, Stage, StepId, Target};
use crate::plan::{Cni, Host, Plan};
use crate::upgrade::turns::NodeSeen;

/// What is restarted, and how.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Which hosts.
    pub hosts: &'a BTreeSet<HostName>,
    /// What the API says of their Nodes.
    pub nodes: &'a BTreeMap<HostName, NodeSeen>,
    /// The machines, not only their runtimes and kubelets.
    pub machine: bool,
    /// How long the pods of a Node may take to leave; none leaves them there.
    pub drain: Option<Span>,
}

impl Request<'_> {
    /// Nodes that are emptied. On one that is not ready nobody would end the pods.
    #[must_use]
    pub fn emptied(&self) -> BTreeSet<HostName> {
        let ready = |host: &&HostName| self.nodes.get(*host).is_some_and(|seen| seen.ready);
        self.hosts.iter().filter(ready).filter(|_| self.drain.is_some()).cloned().collect()
    }
}

/// The steps, carriers one by one, then one worker, then the others in a window.
///
/// # Errors
/// A host is not a Node of the plan.
pub fn graph(request: Request<'_>) -> Result<StepGraph, GraphError> {
    let emptied = request.emptied();
    let mut steps = Vec::new();
    for name in request.hosts {
        let host = request.plan.nodes().find(|host| host.name == *name).ok_or_else(|| GraphError::NoHost(name.clone()))?;
        steps.push(step(request, host, emptied.contains(name)));
    }
    let order = KubeletOrder::of(request.plan, &steps);
    let edges = order.edges(request.plan.limits.max_unavailable.of(request.plan.workers().count()));
    let etcd_hosts = request.plan.etcd_hosts().map(|host| host.name.clone()).collect();
    StepGraph::assemble(Stage::Living, etcd_hosts, steps, edges)
}

fn step(request: Request<'_>, host: &Host, emptied: bool) -> Step {
    let Request { plan, machine, .. } = request;
    let seen = request.nodes.get(&host.name);
    let left = seen.is_some_and(|seen| seen.left_cordoned);
    let change = |artifact| Change { artifact, reason: if left { Reason::LeftCordoned } else { Reason::Asked }, before: None };
    let name = || host.name.clone();
    let version = seen.and_then(|seen| seen.version).unwrap_or(plan.kubernetes.version);
    let mut changes = Vec::new();
    if let Some(limit) = request.drain.filter(|_| emptied) {
        changes.push(change(Artifact::Maintenance(Maintenance::Emptied { node: name(), version, limit })));
    }
    let runtime = plan.runtime.managed.then(|| "containerd.service".to_owned());
    let units = runtime.into_iter().chain([UNIT.to_owned()]).collect();
    changes.push(change(Artifact::Restarted { units, machine }));
    let boot = seen.and_then(|seen| seen.boot.clone()).filter(|_| machine);
    changes.push(change(Artifact::Maintenance(Maintenance::Back { node: name(), boot })));
    if emptied || left {
        let ready = plan.network.cni != Cni::None;
        changes.push(change(Artifact::Maintenance(Maintenance::Returned { node: name(), version, ready })));
    }
    let (mut before, mut gates) = (Vec::new(), vec![Gate::KubeletHealthy(name())]);
    if plan.has_etcd(host) {
        before.extend((plan.etcd_hosts().count() > 1).then(|| Gate::QuorumWithout(name())));
        gates.push(Gate::EtcdHealthy(name()));
    }
    if host.is_control_plane() {
        before.extend((plan.control_planes().count() > 1).then(|| Gate::ApiServersWithout(name())));
        gates.extend([Gate::ApiServerReady(name()), Gate::ControllersHealthy(name())]);
    }
    let id = StepId { phase: Phase::KubeletUpgrade, target: Target::Host(name()) };
    Step { id, before, changes, gates, fallback: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let host = |name: &str, number: u32, role: &str| format!("  - {{name: {name}, address: 192.0.2.{number}, roles: [{role}]}}\n");
        let mut text = "version: 1\nkubernetes: {version: v1.34.2}\nendpoint: {localProxy: {}}\nlimits: {maxUnavailable: 2}\nhosts:\n".to_owned();
        for (number, name) in (1..).zip(["a", "b", "c"]) {
            text.push_str(&host(name, number, "control-plane"));
        }
        for (number, name) in (10..).zip(["v", "w", "x", "y", "z"]) {
            text.push_str(&host(name, number, "worker"));
        }
        crate::yaml::read(&text).unwrap()
    }

    fn made(names: &[&str], machine: bool, drain: bool) -> StepGraph {
        let hosts = names.iter().map(|name| name.parse().unwrap()).collect();
        let ready = |name: &str| NodeSeen { ready: name != "x", boot: Some("old".into()), left_cordoned: name == "y", ..NodeSeen::default() };
        let nodes = names.iter().map(|name| (name.parse().unwrap(), ready(name))).collect();
        graph(Request { plan: &plan(), hosts: &hosts, nodes: &nodes, machine, drain: drain.then(|| Span::seconds(60)) }).unwrap()
    }

    fn story(graph: &StepGraph, name: &str) -> Vec<String> {
        let step = graph.steps().find(|step| step.id.target.to_string() == name).unwrap();
        step.changes.iter().map(|change| format!("{}: {}", change.artifact.id(), change.reason)).collect()
    }

    #[test]
    fn a_node_is_emptied_restarted_waited_for_and_given_back() {
        let graph = made(&["w"], false, true);
        let expected = [
            "drain of Node/w: asked for",
            "restart of containerd.service, kubelet.service: asked for",
            "Node/w to run again: asked for",
            "return of Node/w: asked for",
        ];
        assert_eq!(story(&graph, "w"), expected);
        assert_eq!(story(&made(&["w"], true, false), "w"), ["reboot: asked for", "Node/w to run again: asked for"]);
    }

    #[test]
    fn who_cannot_be_emptied_is_restarted_and_who_was_left_cordoned_is_given_back() {
        assert_eq!(story(&made(&["x"], false, true), "x").len(), 2);
        let left = story(&made(&["y"], false, false), "y");
        assert_eq!(left.last().unwrap(), "return of Node/y: left cordoned by a run that was cut off");
    }

    #[test]
    fn carriers_go_one_by_one_while_the_others_carry_on_and_workers_in_a_window() {
        let graph = made(&["a", "b", "v", "w", "z"], true, true);
        let of = |name: &str| graph.steps().find(|step| step.id.target.to_string() == name).unwrap();
        let texts = |gates: &[Gate]| gates.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts(&of("a").before), ["an etcd quorum without a", "an API server besides the one on a"]);
        assert!(of("v").before.is_empty());
        let shape = graph.shape();
        let order: Vec<String> = graph.steps().map(|step| step.id.target.to_string()).collect();
        let parents = |name: &str| -> Vec<&str> {
            let index = order.iter().position(|other| other == name).unwrap();
            shape.parents[index].iter().map(|&parent| order[parent].as_str()).collect()
        };
        assert_eq!((parents("a"), parents("b"), parents("v")), (vec![], vec!["a"], vec!["b"]));
        assert_eq!((parents("w"), parents("z")), (vec!["v"], vec!["v"]));
    }

    #[test]
    fn a_host_without_a_node_is_refused() {
        let (plan, hosts) = (plan(), BTreeSet::from(["nobody".parse().unwrap()]));
        let request = Request { plan: &plan, hosts: &hosts, nodes: &BTreeMap::new(), machine: false, drain: None };
        assert_eq!(graph(request).unwrap_err(), GraphError::NoHost("nobody".parse().unwrap()));
    }
}
