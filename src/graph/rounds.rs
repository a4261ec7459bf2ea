//! The second round of an upgrade: kubelets, when all API servers are there. Hosts that carry the
//! cluster one by one, then one worker alone, and only if that came back the others, in a window of
//! `limits.maxUnavailable`.

use std::collections::BTreeSet;

use serde::Serialize;

use super::Step;
use super::waves::is_disruptive;
use crate::change::Reason;
use crate::names::HostName;
use crate::phase::{On, Phase, StepId, Target, OCCASIONAL_RULES};
use crate::plan::Plan;

/// In which round of a run a host is touched. A member of etcd is only in one at a time, and whole
/// with the first before any other host begins the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Round {
    /// Certificates, static pods and everything else of the host.
    Host,
    /// Its kubelet of a new version.
    Kubelet,
}

impl Round {
    /// The round in which a host counts as being changed during this phase: the disruptive ones, and
    /// the wait for its health after them.
    #[must_use]
    pub fn of(phase: Phase) -> Option<Self> {
        match phase {
            Phase::KubeletUpgrade => Some(Self::Kubelet),
            Phase::Healthy => Some(Self::Host),
            phase if is_disruptive(phase) => Some(Self::Host),
            _ => None,
        }
    }
}

/// Hosts whose kubelets go to another version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KubeletOrder {
    /// Hosts with etcd members or API servers, one by one in this order.
    pub carriers: Vec<HostName>,
    /// The others: the first alone, then `atOnce` at a time in this order.
    pub workers: Vec<HostName>,
}

impl KubeletOrder {
    /// Sorts the hosts that have such a step: as in the plan, but Nodes that an earlier run left cordoned
    /// first, so that no more are unavailable than need be.
    #[must_use]
    pub fn of(plan: &Plan, steps: &[Step]) -> Self {
        let (mut carriers, mut workers) = (Vec::new(), Vec::new());
        for step in steps.iter().filter(|step| step.id.phase == Phase::KubeletUpgrade && !step.changes.is_empty()) {
            let Target::Host(name) = &step.id.target else { continue };
            let Some(place) = plan.hosts.iter().position(|host| host.name == *name) else { continue };
            let left = step.changes.iter().any(|change| change.reason == Reason::LeftCordoned);
            let carries = On::Keepers.includes(plan, &plan.hosts[place]);
            if carries { &mut carriers } else { &mut workers }.push((!left, place, name.clone()));
        }
        carriers.sort();
        workers.sort();
        let names = |hosts: Vec<(bool, usize, HostName)>| hosts.into_iter().map(|(_, _, name)| name).collect();
        Self { carriers: names(carriers), workers: names(workers) }
    }

    /// Whether no kubelet changes its version.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.carriers.is_empty() && self.workers.is_empty()
    }

    /// Edges (earlier, later) that keep this order.
    #[must_use]
    pub fn edges(&self, at_once: usize) -> Vec<(StepId, StepId)> {
        let step = |host: &HostName| StepId { phase: Phase::KubeletUpgrade, target: Target::Host(host.clone()) };
        let mut pairs: Vec<(&HostName, &HostName)> = self.carriers.windows(2).map(|pair| (&pair[0], &pair[1])).collect();
        if let (Some(carrier), Some(first)) = (self.carriers.last(), self.workers.first()) {
            pairs.push((carrier, first));
        }
        if let Some((first, others)) = self.workers.split_first() {
            pairs.extend(others.iter().take(at_once).map(|host| (first, host)));
            // As many chains as may be down at once: who is slow or fails stops its own chain only.
            pairs.extend((at_once..others.len()).map(|index| (&others[index - at_once], &others[index])));
        }
        pairs.into_iter().map(|(earlier, later)| (step(earlier), step(later))).collect()
    }
}

/// Edges among the steps that are only there now and then, and between them and all others. `given` are the
/// former; `expand` says what a rule waits for on a target; `exists` which of all steps there are.
pub(super) fn edges(
    given: &BTreeSet<StepId>,
    controllers: &[HostName],
    expand: impl Fn(&crate::phase::Rule, &Target) -> Vec<StepId>,
    exists: impl Fn(&StepId) -> bool,
) -> Vec<(StepId, StepId)> {
    let mut edges = Vec::new();
    for id in given {
        let Some(rule) = OCCASIONAL_RULES.iter().find(|rule| rule.phase == id.phase) else { continue };
        let there = |step: &StepId| if is_occasional(step.phase) { given.contains(step) } else { exists(step) };
        edges.extend(expand(rule, &id.target).into_iter().filter(there).map(|earlier| (earlier, id.clone())));
        let followers: &[Phase] = match id.phase {
            Phase::Controllers => &[Phase::Addons, Phase::Ready],
            Phase::FormerEndpoint | Phase::Prune | Phase::Snapshot => &[],
            _ => &[Phase::Ready],
        };
        edges.extend(followers.iter().map(|&phase| (id.clone(), StepId { phase, target: Target::Cluster })));
    }
    // One scheduler and one controller manager at a time: the others lead meanwhile.
    let step = |host: &HostName| StepId { phase: Phase::Controllers, target: Target::Host(host.clone()) };
    let chain: Vec<StepId> = controllers.iter().map(step).filter(|id| given.contains(id)).collect();
    edges.extend(chain.windows(2).map(|pair| (pair[0].clone(), pair[1].clone())));
    edges
}

/// Whether steps of this phase are only there if they have something to do.
#[must_use]
pub fn is_occasional(phase: Phase) -> bool {
    OCCASIONAL_RULES.iter().any(|rule| rule.phase == phase)
}

/// Whether steps of this phase are only there while the version changes.
#[must_use]
pub fn is_of_upgrade(phase: Phase) -> bool {
    is_occasional(phase) && !matches!(phase, Phase::FormerEndpoint | Phase::Prune | Phase::Snapshot)
}
