//! Hosts that left the plan: what becomes of each, and what is lost with it, in one line. Read off the
//! steps, so it says what is done and nothing else.

use std::fmt;

use serde::Serialize;

use crate::artifact::Artifact;
use crate::artifact::undone::Departure;
use crate::graph::StepGraph;
use crate::names::HostName;
use crate::phase::{Phase, StepId, Target};

/// A host that leaves the cluster for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Leave {
    /// Which host.
    pub host: HostName,
    /// Whether its pods are moved away before its Node is deleted; left out if it has no Node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drained: Option<bool>,
    /// Whether its member is taken out of etcd.
    pub member: bool,
    /// Whether its machine is reset.
    pub reset: bool,
}

/// All hosts that leave in the chosen steps.
pub(super) fn all(graph: &StepGraph) -> Vec<Leave> {
    let of = |host: &HostName| {
        let id = |phase| StepId { phase, target: Target::Host(host.clone()) };
        let steps: Vec<_> = [Phase::Leave, Phase::Reset].map(id).into_iter().filter(|id| graph.is_selected(id)).filter_map(|id| graph.step(&id)).collect();
        let has = |wanted: fn(&Artifact) -> bool| steps.iter().flat_map(|step| &step.changes).any(|change| wanted(&change.artifact));
        (!steps.is_empty()).then(|| Leave {
            host: host.clone(),
            drained: has(|artifact| matches!(artifact, Artifact::Departed(Departure::Node { .. })))
                .then(|| has(|artifact| matches!(artifact, Artifact::Departed(Departure::Drained { .. })))),
            member: has(|artifact| matches!(artifact, Artifact::Departed(Departure::Member { .. }))),
            reset: has(|artifact| matches!(artifact, Artifact::Undone(_))),
        })
    };
    graph.waves().leaving.iter().filter_map(of).collect()
}

impl fmt::Display for Leave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "leaves for good: {}: ", self.host)?;
        if let Some(drained) = self.drained {
            f.write_str(if drained { "pods moved away first, " } else { "pods NOT moved away first, " })?;
        }
        if self.member {
            f.write_str("etcd member removed, ")?;
        }
        if self.drained.is_some() {
            f.write_str("Node deleted, ")?;
        }
        f.write_str(if self.reset {
            "machine reset (lost with it: its keys, logs, local volumes and copy of etcd's data)"
        } else {
            "machine not touched"
        })
    }
}
