//! What has to wait for its turn in a living cluster: while it goes to another version, changes of
//! controller manager and scheduler until all API servers are there, and changes of a kubelet until all
//! of those are; at any time, settings that a Node with pods cannot take (`impact`). Pure. It moves
//! changes that planning found anyway into later steps and puts the care of the Node around them, so an
//! upgrade is nothing but a plan whose version differs, and another cgroup driver is done the same way.
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
use crate::impact::care::{Care, Differing, Wanted, take_runtime};
use crate::plan::{Cni, DrainPolicy, Host, Plan, Program};

/// What the API says of a Node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeSeen {
    /// The version its kubelet reports; none if it is no release.
    pub version: Option<KubernetesVersion>,
    /// Whether it is ready.
    pub ready: bool,
    /// When its kubelet said so, in seconds since 1970 by the host's clock.
    pub reported: Option<i64>,
    /// What its machine calls the time since it was last started.
    pub boot: Option<String>,
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

/// A living cluster on its way to what the plan says.
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

    /// Moves what has to wait for its turn or for an empty Node. `wanted` are the artifacts of the phases
    /// `images` and `kubelet` of this host.
    pub fn defer(&self, host: &Host, facts: &Facts, wanted: &Wanted, changes: &mut Differing) {
        if self.behind {
            defer_controllers(changes);
        }
        let left = self.nodes.get(&host.name).is_some_and(|seen| seen.left_cordoned);
        let hop = self.hop(&host.name, facts);
        let care = if has_run(facts) { Care::of(wanted, changes) } else { Care::default() };
        let runs = is_active(facts);
        if !runs {
            // It may have been stopped by a run that was cut off, so what it must not see is still there.
            care.halt_in_place(changes);
        }
        let cared = runs && care.is_needed() && (care.halts() || self.may_empty(host, facts));
        let kubelet = wanted.get(&Phase::Kubelet).map_or(&[][..], Vec::as_slice);
        let reason = match hop {
            Some(hop) => Reason::Upgrade { from: hop.from },
            None => care.reason(),
        };
        let mut moved = Vec::new();
        if runs && (hop.is_some() || cared) {
            moved = take_runtime(changes);
        }
        if hop.is_some() || cared {
            moved.extend(care.images(wanted).into_iter().filter(|_| cared));
            moved.extend(self.kubelet(host, facts, &reason, cared && care.halts(), kubelet, changes));
        }
        let by_version = hop.is_some_and(|hop| !moved.is_empty() && self.plan.upgrade.drain.applies(hop.from, hop.to));
        let emptied = (by_version || cared) && self.may_empty(host, facts);
        let reason = match hop {
            _ if left => Reason::LeftCordoned,
            Some(_) if by_version || !cared => reason,
            _ => care.reason(),
        };
        let maintenance = |what| Change { artifact: Artifact::Maintenance(what), reason: reason.clone(), before: None };
        let node = || host.name.clone();
        let (mut late, target) = (Vec::new(), self.target(facts));
        if let Some(version) = target.filter(|_| emptied) {
            late.push(maintenance(Maintenance::Emptied { node: node(), version, limit: self.plan.upgrade.drain_timeout }));
        }
        late.extend(care.halt().filter(|_| cared));
        late.extend(moved);
        if let Some(version) = target.filter(|_| emptied || left) {
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

    /// Whether the kubelet of this host goes to another version.
    #[must_use]
    pub fn goes_on(&self, host: &HostName, facts: &Facts) -> bool {
        self.hop(host, facts).is_some()
    }

    /// From which version to which the kubelet of this host goes, if it does: by what its Node reports, else
    /// by what is installed.
    fn hop(&self, host: &HostName, facts: &Facts) -> Option<Hop> {
        // One that never ran is made, not upgraded.
        if !has_run(facts) {
            return None;
        }
        let installed = facts.system.kubelet_version.parse().ok();
        let from = self.nodes.get(host).and_then(|seen| seen.version).or(installed);
        let to = self.target(facts)?;
        (from.is_some() && from != Some(to)).then_some(Hop { from, to })
    }

    /// The changes of the kubelet, taken out of the phases before. `restarts` says that it is started in any
    /// case.
    fn kubelet(
        &self,
        host: &Host,
        facts: &Facts,
        reason: &Reason,
        restarts: bool,
        kubelet: &[Artifact],
        changes: &mut Differing,
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
        let is_unit = |change: &Change| matches!(change.artifact, Artifact::Unit { .. });
        if !moved.iter().any(is_unit)
            && (restarts || self.nodes.contains_key(&host.name) && matches!(reason, Reason::Upgrade { .. }))
            && let Some(unit) = kubelet.iter().find(|artifact| matches!(artifact, Artifact::Unit { .. }))
        {
            moved.push(Change { artifact: unit.clone(), reason: reason.clone(), before: None });
        }
        moved
    }

    /// Whether the Node may be drained. One that is not ready cannot be: nobody there would end its pods.
    fn may_empty(&self, host: &Host, facts: &Facts) -> bool {
        let ready = self.nodes.get(&host.name).is_none_or(|seen| seen.ready);
        host.is_node() && is_active(facts) && ready && self.plan.upgrade.drain != DrainPolicy::Never
    }
}

fn is_active(facts: &Facts) -> bool {
    facts.state.units.get(UNIT).is_some_and(|unit| unit.active == "active")
}

/// Whether a kubelet was started on this host before.
fn has_run(facts: &Facts) -> bool {
    facts.state.units.get(UNIT).is_some_and(|unit| !unit.enabled.is_empty() && (unit.stamp.is_some() || unit.active == "active"))
}

/// Controller manager and scheduler wait for the API servers.
fn defer_controllers(changes: &mut Differing) {
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
