//! Where hosts that left the plan stand in the order: one that is gone or has no vote before every change of
//! a host that carries the cluster, because its member may stand in the way of all of them; any other when
//! everything else is done, so that whoever comes in its place is there first and no API server asks its
//! member any more. Pure.

use super::waves::Waves;
use super::{Step, rounds};
use crate::names::HostName;
use crate::phase::{Phase, StepId, Target};

/// A host that leaves a cluster that lives on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaving {
    /// Which host.
    pub host: HostName,
    /// Whether it has an API server or a member of etcd: of these only one leaves at a time.
    pub carries: bool,
    /// Whether it goes before everything else: nobody misses it.
    pub first: bool,
}

impl Leaving {
    fn step(&self, phase: Phase) -> StepId {
        StepId { phase, target: Target::Host(self.host.clone()) }
    }
}

/// The order in which they leave: those that nobody misses first, and of either those that carry the cluster
/// first.
#[must_use]
pub fn order(leaving: &[Leaving]) -> Vec<&Leaving> {
    let mut all: Vec<&Leaving> = leaving.iter().collect();
    all.sort_by_key(|leaving| (!leaving.first, !leaving.carries));
    all
}

/// Edges (earlier, later) of their steps. `nodes` are the other steps of the graph, `exists` tells which
/// steps of the table it has.
pub(super) fn edges(leaving: &[Leaving], waves: &Waves, nodes: &[Step], exists: impl Fn(&StepId) -> bool) -> Vec<(StepId, StepId)> {
    let all = order(leaving);
    let ready = StepId { phase: Phase::Ready, target: Target::Cluster };
    let (gone, going): (Vec<&Leaving>, Vec<&Leaving>) = all.iter().partition(|leaving| leaving.first);
    let (carriers, workers): (Vec<&Leaving>, Vec<&Leaving>) = going.iter().partition(|leaving| leaving.carries);
    let mut edges = Vec::new();
    for leaving in &all {
        edges.push((leaving.step(Phase::Leave), leaving.step(Phase::Reset)));
        edges.push((leaving.step(Phase::Reset), ready.clone()));
    }
    let follow = |earlier: &Leaving, later: &Leaving| (earlier.step(Phase::Reset), later.step(Phase::Leave));
    // One member at a time: each removal needs the quorum that the one before has left.
    let chain: Vec<&Leaving> = gone.iter().copied().filter(|leaving| leaving.carries).chain(carriers.iter().copied()).collect();
    edges.extend(chain.windows(2).map(|pair| follow(pair[0], pair[1])));
    if let (Some(last), Some(first)) = (gone.iter().rfind(|leaving| leaving.carries), waves.carriers.first()) {
        edges.extend(waves.ends(first, &exists).0.into_iter().map(|start| (last.step(Phase::Reset), start)));
    }
    // All that is not about them comes first.
    let is_last = |step: &&Step| rounds::is_of_upgrade(step.id.phase) || matches!(step.id.phase, Phase::Formed | Phase::Nodes | Phase::Network | Phase::Addons);
    for step in nodes.iter().filter(is_last) {
        edges.extend(going.iter().map(|leaving| (step.id.clone(), leaving.step(Phase::Leave))));
    }
    if let Some(carrier) = carriers.last() {
        edges.extend(workers.iter().take(waves.at_once.max(1)).map(|worker| follow(carrier, worker)));
    }
    for index in waves.at_once.max(1)..workers.len() {
        edges.push(follow(workers[index - waves.at_once.max(1)], workers[index]));
    }
    edges
}
