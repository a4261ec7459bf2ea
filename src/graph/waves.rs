//! Which hosts of a living cluster are changed after one another, so that it keeps serving: hosts
//! that carry the cluster one by one, the others in a window of `limits.maxUnavailable`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::rounds::{KubeletOrder, Round};
use super::{Gate, Step};
use crate::artifact::Artifact;
use crate::artifact::membership::Membership;
use crate::change::{Change, Reason};
use crate::impact::care::restart_inputs;
use crate::names::HostName;
use crate::paths;
use crate::phase::{After, On, Phase, RULES, Stage, StepId, Target, rule};
use crate::plan::{Host, Limits, Plan};
use crate::standing::Join;

/// Whether changes of this phase may interrupt what runs on the host. `Authority` only adds
/// files that nothing reads yet, so it is not one of them.
#[must_use]
pub fn is_disruptive(phase: Phase) -> bool {
    (Phase::Certificates..=Phase::Kubelet).contains(&phase) || phase == Phase::KubeletUpgrade
}

/// Whether the changes of this step may interrupt what runs on the host.
#[must_use]
pub fn disrupts(step: &Step) -> bool {
    is_disruptive(step.id.phase) && !step.changes.is_empty() || restarts_runtime(step)
}

/// Whether it restarts a runtime that runs. Pods go on, but none starts or is asked after meanwhile; and a
/// configuration that containerd does not take must not meet all hosts at once.
fn restarts_runtime(step: &Step) -> bool {
    step.id.phase == Phase::Runtime && restart_inputs(&step.changes).is_some()
}

/// The hosts that are changed after one another. Empty in a fresh cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Waves {
    /// Hosts with etcd members or API servers, one by one in this order: those that are down first.
    pub carriers: Vec<HostName>,
    /// Hosts that serve pods, after the carriers, `at_once` at a time in this order.
    pub workers: Vec<HostName>,
    /// How many of `workers` are changed at once.
    pub at_once: usize,
    /// Hosts whose kubelets go to another version, after everything else.
    #[serde(skip_serializing_if = "KubeletOrder::is_empty")]
    pub kubelets: KubeletOrder,
    /// Hosts whose kubelet does not run, after the carriers and all at once: they serve nobody.
    pub joining: Vec<HostName>,
    /// Those among them whose containerd restarts: it does so in the turn of its host.
    #[serde(skip)]
    pub(super) runtimes: BTreeSet<HostName>,
}

impl Waves {
    /// Sorts the hosts that have disruptive changes. `closed` is what `doubts` asked for and does not hold:
    /// a carrier that is not well counts whatever is changed on it.
    #[must_use]
    pub fn of(plan: &Plan, stage: Stage, steps: &[Step], limits: &Limits, closed: &BTreeSet<Gate>) -> Self {
        if stage == Stage::Fresh {
            return Self::default();
        }
        let is_closed = |gate: fn(HostName) -> Gate, host: &HostName| closed.contains(&gate(host.clone()));
        let is_unwell = |host: &HostName| is_closed(Gate::EtcdHealthy, host) || is_closed(Gate::ApiServerReady, host);
        let mut changed: BTreeMap<&HostName, Vec<&Step>> = BTreeMap::new();
        for (host, step) in preparing(steps) {
            if is_of_host(step) || is_unwell(host) {
                changed.entry(host).or_default().push(step);
            }
        }
        let restarts = preparing(steps).filter(|(_, step)| restarts_runtime(step));
        let runtimes = restarts.map(|(host, _)| host.clone()).collect();
        let carries = |host: &&Host| On::Keepers.includes(plan, host);
        let names = |hosts: Vec<&Host>| -> Vec<HostName> { hosts.into_iter().map(|host| host.name.clone()).collect() };
        let (mut carriers, others): (Vec<&Host>, Vec<&Host>) =
            plan.hosts.iter().filter(|host| changed.contains_key(&host.name)).partition(carries);
        // A member that is known to etcd and not well comes first, because nobody else may go down
        // before. etcd of its own before the API servers that use it, as when a cluster is upgraded.
        // New members come when all is settled. Among equals a host that is down already comes first:
        // while it is, the gates before all others refuse, and what is done to it is the repair. Of those a
        // member of etcd before an API server, because a member stands in the way of both.
        carriers.sort_by_key(|host| {
            let steps = &changed[&host.name];
            let is_repair = steps.iter().find_map(|step| membership(step)).map(Join::is_repair);
            let is_new = is_repair == Some(false);
            let etcd_is_down = !is_new && is_closed(Gate::EtcdHealthy, &host.name);
            let is_down = is_down(steps) || !is_new && is_closed(Gate::ApiServerReady, &host.name);
            (is_repair != Some(true), host.is_control_plane(), is_new, !etcd_is_down, !is_down)
        });
        let (joining, workers) = others.into_iter().partition(|host: &&Host| kubelet_is_down(&changed[&host.name]));
        Self {
            carriers: names(carriers),
            workers: names(workers),
            at_once: limits.max_unavailable.of(plan.workers().count()),
            kubelets: KubeletOrder::of(plan, steps),
            joining: names(joining),
            runtimes,
        }
    }

    /// Edges (earlier, later) that keep this order. `exists` tells which steps the graph has.
    pub(super) fn edges(&self, exists: impl Fn(&StepId) -> bool) -> Vec<(StepId, StepId)> {
        let mut edges = Vec::new();
        let mut chain = |earlier: &HostName, later: &HostName| {
            for last in self.ends(earlier, &exists).1 {
                for first in self.ends(later, &exists).0 {
                    edges.push((last.clone(), first));
                }
            }
        };
        for pair in self.carriers.windows(2) {
            chain(&pair[0], &pair[1]);
        }
        if let Some(carrier) = self.carriers.last() {
            for host in self.workers.iter().take(self.at_once).chain(&self.joining) {
                chain(carrier, host);
            }
        }
        // As many chains as may be down at once: a host that fails stops its own chain only, so
        // even then no more are down.
        for index in self.at_once..self.workers.len() {
            chain(&self.workers[index - self.at_once], &self.workers[index]);
        }
        edges.extend(self.kubelets.edges(self.at_once));
        edges
    }

    /// The first and the last steps of a host's unsettled phases.
    pub(super) fn ends(&self, host: &HostName, exists: &impl Fn(&StepId) -> bool) -> (Vec<StepId>, Vec<StepId>) {
        let id = |phase| StepId { phase, target: Target::Host(host.clone()) };
        let unsettled = |phase| Round::of(phase) == Some(Round::Host) || phase == Phase::Runtime && self.runtimes.contains(host);
        let group: Vec<Phase> = RULES.iter().map(|rule| rule.phase).filter(|&phase| unsettled(phase) && exists(&id(phase))).collect();
        let waits_for = |later: Phase, earlier: Phase| rule(later).after.contains(&After::Here(earlier));
        let first = group.iter().filter(|&&phase| !group.iter().any(|&other| waits_for(phase, other)));
        let last = group.iter().filter(|&&phase| !group.iter().any(|&other| waits_for(other, phase)));
        (first.map(|&phase| id(phase)).collect(), last.map(|&phase| id(phase)).collect())
    }
}

/// What to ask about the carriers before they are put in order: files tell of a member that is not there,
/// but not of one that does not come up with them. Empty where there is nothing to put in order.
#[must_use]
pub fn doubts(plan: &Plan, stage: Stage, steps: &[Step]) -> Vec<Gate> {
    let changed: BTreeSet<&HostName> = preparing(steps).map(|(host, _)| host).collect();
    let carriers: Vec<&Host> =
        plan.hosts.iter().filter(|host| changed.contains(&host.name) && On::Keepers.includes(plan, host)).collect();
    let is_disrupted = preparing(steps).any(|(_, step)| is_of_host(step));
    if stage == Stage::Fresh || carriers.len() < 2 || !is_disrupted {
        return Vec::new();
    }
    let etcd = carriers.iter().filter(|host| plan.has_etcd(host)).map(|host| Gate::EtcdHealthy(host.name.clone()));
    let api_servers = carriers.iter().filter(|host| host.is_control_plane()).map(|host| Gate::ApiServerReady(host.name.clone()));
    etcd.chain(api_servers).collect()
}

/// Steps that change something on a host before it is looked at whether it is well.
fn preparing(steps: &[Step]) -> impl Iterator<Item = (&HostName, &Step)> {
    steps.iter().filter(|step| step.id.phase < Phase::Healthy && !step.changes.is_empty()).filter_map(|step| match &step.id.target {
        Target::Host(host) => Some((host, step)),
        Target::Cluster => None,
    })
}

/// Whether changes of this step put a host into the order of the first round.
fn is_of_host(step: &Step) -> bool {
    disrupts(step) && (Round::of(step.id.phase) == Some(Round::Host) || step.id.phase == Phase::Runtime)
}

/// Whether the step lets a member join etcd.
#[must_use]
pub fn joins_etcd(step: &Step) -> bool {
    membership(step).is_some()
}

/// The first thing a step does about etcd's membership.
fn membership(step: &Step) -> Option<&Membership> {
    step.changes.iter().find_map(|change| match &change.artifact {
        Artifact::Membership(membership) => Some(membership),
        _ => None,
    })
}

/// Whether the kubelet does not run yet: its unit is missing or stopped.
fn kubelet_is_down(steps: &[&Step]) -> bool {
    steps.iter().flat_map(|step| &step.changes).any(is_idle_kubelet)
}

/// Whether what the host carries cannot be running: the manifest of its etcd member or its API
/// server is not there, or the kubelet that runs them stands still. A manifest that is `Paused` and
/// `Resumed` by this run counts as running.
fn is_down(steps: &[&Step]) -> bool {
    steps.iter().flat_map(|step| &step.changes).any(|change| match &change.artifact {
        Artifact::File { path, .. } => {
            change.reason == Reason::Missing && [paths::etcd_manifest(), paths::api_server_manifest()].contains(path)
        }
        _ => is_idle_kubelet(change),
    })
}

fn is_idle_kubelet(change: &Change) -> bool {
    matches!(&change.artifact, Artifact::Unit { name, .. } if name == "kubelet.service")
        && matches!(change.reason, Reason::Missing | Reason::Stopped { .. })
}
