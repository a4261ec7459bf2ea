//! A run on chosen hosts or phases must not overtake the API servers it left out. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::api_server;
use crate::facts::Facts;
use crate::graph::StepGraph;
use crate::names::{HostName, KubernetesVersion};
use crate::phase::{Phase, StepId, Target};
use crate::plan::Plan;

/// Why chosen steps may not be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderRefusal {
    /// Something would be newer than an API server.
    #[error("{step} would bring {wanted} to it while the API server on {host} {}", seen(*running))]
    Overtakes {
        /// The step.
        step: StepId,
        /// The plan's version.
        wanted: KubernetesVersion,
        /// The host with the older API server.
        host: HostName,
        /// Its version; `None` where the host was not seen.
        running: Option<KubernetesVersion>,
    },
}

fn seen(running: Option<KubernetesVersion>) -> String {
    running.map_or_else(|| "was not seen".to_owned(), |version| format!("stays at {version}"))
}

impl OrderRefusal {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        let Self::Overtakes { host, .. } = self;
        format!("nothing may be newer than an API server: bring {host} to the version first, or leave out `--host` and `--phase`")
    }
}

/// Looks at the steps that only an upgrade has, and at the API servers that this run does not touch.
///
/// # Errors
/// One reason for each step that would overtake one of them.
pub fn check(plan: &Plan, facts: &BTreeMap<HostName, Facts>, graph: &StepGraph) -> Result<(), Vec<OrderRefusal>> {
    let wanted = plan.kubernetes.version;
    let chosen = |phase: Phase, host: &HostName| graph.is_selected(&StepId { phase, target: Target::Host(host.clone()) });
    let behind = plan.control_planes().find_map(|host| {
        let running = facts.get(&host.name).map(api_server);
        match running {
            None => Some((host.name.clone(), None)),
            Some(Some(running)) if running != wanted && !chosen(Phase::ControlPlane, &host.name) => Some((host.name.clone(), Some(running))),
            Some(_) => None,
        }
    });
    let Some((host, running)) = behind else { return Ok(()) };
    let late: BTreeSet<StepId> = graph
        .steps()
        .filter(|step| matches!(step.id.phase, Phase::Controllers | Phase::KubeletUpgrade))
        .filter(|step| graph.is_selected(&step.id) && step.changes.iter().any(|change| !change.artifact.is_of_cluster()))
        .map(|step| step.id.clone())
        .collect();
    let refusals: Vec<OrderRefusal> =
        late.into_iter().map(|step| OrderRefusal::Overtakes { step, wanted, host: host.clone(), running }).collect();
    if refusals.is_empty() { Ok(()) } else { Err(refusals) }
}
