//! How long steps are expected to take. The numbers only rank paths (what starts first, what is
//! drawn as critical); nothing waits for them.

use super::StepGraph;
use crate::phase::Phase;

/// Seconds a step of this phase takes on a small machine when it has everything to do.
#[must_use]
pub const fn seconds(phase: Phase) -> u64 {
    match phase {
        Phase::Images | Phase::Reset => 20,
        Phase::Healthy => 20,
        Phase::Ready => 15,
        Phase::Programs => 8,
        Phase::Runtime => 4,
        Phase::Kubelet => 3,
        Phase::KubeletUpgrade => 30,
        Phase::Snapshot => 3,
        Phase::Controllers => 10,
        Phase::System | Phase::ClusterObjects | Phase::Network | Phase::Addons => 2,
        Phase::PodNetwork
        | Phase::Authority
        | Phase::Certificates
        | Phase::Etcd
        | Phase::ControlPlane
        | Phase::LocalProxy
        | Phase::Vip
        | Phase::FormerEndpoint
        | Phase::Prune
        | Phase::Formed
        | Phase::Leave
        | Phase::Nodes => 1,
    }
}

/// Expected seconds per step, in topological order. A step with nothing to do takes none; in a
/// graph without any change (a picture of the plan alone) every step counts as if it had.
#[must_use]
pub fn weights(graph: &StepGraph) -> Vec<u64> {
    let relevant = graph.relevant();
    let plan_only = !relevant.iter().any(|&relevant| relevant);
    graph
        .steps()
        .zip(relevant)
        .map(|(step, relevant)| if relevant || plan_only { seconds(step.id.phase) } else { 0 })
        .collect()
}
