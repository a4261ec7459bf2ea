//! What has to wait for its turn while a living cluster goes to another version: changes of
//! controller manager and scheduler until all API servers are there, changes of a kubelet until all
//! of those are. Pure. It moves changes that planning found anyway into later steps and puts the care
//! of the Node around them, so an upgrade is nothing but a plan whose version differs.
//!
//! Where an upgrade stands is read off the hosts and the Nodes: a run that was cut off is continued
//! by the next one.

use std::collections::BTreeMap;

use super::api_server;
use crate::artifact::Artifact;
use crate::artifact::maintenance::Maintenance;
use crate::change::{Change, Reason};
use crate::desired::kubelet::UNIT;
use crate::desired::packages;
use crate::desired::programs::kubelet_path;
use crate::facts::Facts;
use crate::graph::Gate;
use crate::names::{HostName, KubernetesVersion};
use crate::paths;
use crate::phase::Phase;
use crate::plan::{Cni, Host, Plan, Program};

/// What the API says of a Node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeSeen {
    /// The version its kubelet reports; none if it is no release.
    pub version: Option<KubernetesVersion>,
    /// Whether it is ready.
    pub ready: bool,
    /// Whether a run of slipway cordoned it and never gave it back.
    pub left_cordoned: bool,
    /// Pods that may not be evicted, each with the reason.
    pub objections: Vec<String>,
}

/// A kubelet's way from one version to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hop {
    from: Option<KubernetesVersion>,
    to: KubernetesVersion,
}

/// A cluster on its way to the version of the plan.
#[derive(Debug, Clone, Copy)]
pub struct Turns<'a> {
    plan: &'a Plan,
    /// Whether an API server runs another version.
    behind: bool,
    nodes: &'a BTreeMap<HostName, NodeSeen>,
}

impl<'a> Turns<'a> {
    /// Reads off facts and Nodes how far the cluster is.
    #[must_use]
    pub fn of(plan: &'a Plan, facts: &BTreeMap<HostName, Facts>, nodes: &'a BTreeMap<HostName, NodeSeen>) -> Self {
        let wanted = plan.kubernetes.version;
        Self { plan, behind: facts.values().filter_map(api_server).any(|running| running != wanted), nodes }
    }

    /// Moves what has to wait. `kubelet` are the artifacts of phase `kubelet` of this host.
    pub fn defer(&self, host: &Host, facts: &Facts, kubelet: &[Artifact], changes: &mut BTreeMap<Phase, Vec<Change>>) {
        if self.behind {
            defer_controllers(changes);
        }
        let left = self.nodes.get(&host.name).is_some_and(|seen| seen.left_cordoned);
        let hop = self.hop(host, facts);
        let moved = hop.map(|hop| self.kubelet(host, facts, hop, kubelet, changes)).unwrap_or_default();
        let drained = hop.filter(|hop| !moved.is_empty() && self.empties(host, facts, *hop));
        let reason = if left { Reason::LeftCordoned } else { Reason::Upgrade { from: hop.and_then(|hop| hop.from) } };
        let maintenance = |what| Change { artifact: Artifact::Maintenance(what), reason: reason.clone(), before: None };
        let node = || host.name.clone();
        let mut late = Vec::new();
        if let Some(Hop { to: version, .. }) = drained {
            late.push(maintenance(Maintenance::Emptied { node: node(), version, limit: self.plan.upgrade.drain_timeout }));
        }
        late.extend(moved);
        if (drained.is_some() || left) && let Some(version) = self.target(facts) {
            let ready = self.plan.network.cni != Cni::None;
            late.push(maintenance(Maintenance::Returned { node: node(), version, ready }));
        }
        if !late.is_empty() {
            changes.insert(Phase::KubeletUpgrade, late);
        }
    }

    /// What a host's step waits for besides its health: that its Node reports the version it went to.
    #[must_use]
    pub fn gates(&self, host: &Host, facts: &Facts) -> Vec<Gate> {
        let version = self.target(facts).filter(|_| host.is_node());
        version.map(|version| Gate::KubeletVersion { host: host.name.clone(), version }).into_iter().collect()
    }

    /// The version a host's kubelet gets: the plan's if slipway brings it, else the one that is installed.
    fn target(&self, facts: &Facts) -> Option<KubernetesVersion> {
        match self.plan.binaries.get(&Program::Kubelet) {
            Some(source) if source.is_brought() => Some(self.plan.kubernetes.version),
            _ => facts.system.kubelet_version.parse().ok(),
        }
    }

    /// From which version to which the kubelet of this host goes, if it does: by what its Node reports, else
    /// by what is installed.
    fn hop(&self, host: &Host, facts: &Facts) -> Option<Hop> {
        let unit = facts.state.units.get(UNIT)?;
        // One that never ran is made, not upgraded.
        if unit.enabled.is_empty() || unit.stamp.is_none() && unit.active != "active" {
            return None;
        }
        let installed = facts.system.kubelet_version.parse().ok();
        let from = self.nodes.get(&host.name).and_then(|seen| seen.version).or(installed);
        let to = self.target(facts)?;
        (from.is_some() && from != Some(to)).then_some(Hop { from, to })
    }

    /// The changes of the kubelet, taken out of the phases before.
    fn kubelet(
        &self,
        host: &Host,
        facts: &Facts,
        hop: Hop,
        kubelet: &[Artifact],
        changes: &mut BTreeMap<Phase, Vec<Change>>,
    ) -> Vec<Change> {
        let program = kubelet_path(self.plan, &facts.system);
        let is_program = |change: &mut Change| match &change.artifact {
            Artifact::Program { path, .. } => *path == program,
            Artifact::Package { name, .. } => name == packages::KUBELET,
            _ => false,
        };
        let mut moved: Vec<Change> =
            changes.get_mut(&Phase::Programs).map(|all| all.extract_if(.., is_program).collect()).unwrap_or_default();
        moved.extend(changes.remove(&Phase::Kubelet).unwrap_or_default());
        // A program that somebody else replaced (a package) runs only after a restart.
        let restarts = |change: &Change| matches!(change.artifact, Artifact::Unit { .. });
        if !moved.iter().any(restarts)
            && self.nodes.contains_key(&host.name)
            && let Some(unit) = kubelet.iter().find(|artifact| matches!(artifact, Artifact::Unit { .. }))
        {
            moved.push(Change { artifact: unit.clone(), reason: Reason::Upgrade { from: hop.from }, before: None });
        }
        moved
    }

    /// Whether the Node is drained. One that is not ready cannot be: nobody there would end its pods.
    fn empties(&self, host: &Host, facts: &Facts, hop: Hop) -> bool {
        let runs = facts.state.units.get(UNIT).is_some_and(|unit| unit.active == "active");
        let ready = self.nodes.get(&host.name).is_none_or(|seen| seen.ready);
        host.is_node() && runs && ready && self.plan.upgrade.drain.applies(hop.from, hop.to)
    }
}

/// Controller manager and scheduler wait for the API servers.
fn defer_controllers(changes: &mut BTreeMap<Phase, Vec<Change>>) {
    let Some(control_plane) = changes.get_mut(&Phase::ControlPlane) else { return };
    let waits = |change: &mut Change| match &change.artifact {
        // One that is not there is repaired with its host: the cluster needs it.
        Artifact::File { path, .. } => *path != paths::api_server_manifest() && matches!(change.reason, Reason::Content { .. }),
        _ => false,
    };
    let late: Vec<Change> = control_plane.extract_if(.., waits).collect();
    if !late.is_empty() {
        changes.insert(Phase::Controllers, late);
    }
}
