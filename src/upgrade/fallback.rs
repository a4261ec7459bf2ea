//! What a host is put back to if the new version of a component does not come up: the manifests that
//! are there now. Pure.

use crate::artifact::{Artifact, Content};
use crate::change::{Change, Reason};
use crate::desired::kubelet::UNIT;
use crate::facts::Facts;
use crate::graph::Gate;
use crate::names::RemotePath;
use crate::paths;
use crate::phase::Phase;
use crate::plan::Host;

/// The changes that undo those of a step that replaces static pods by another version, and what tells
/// that the new ones are up. Both are empty for other steps, and where no kubelet runs: there the step
/// itself may be the repair.
#[must_use]
pub fn of(phase: Phase, host: &Host, facts: &Facts, wanted: &str, changes: &[Change]) -> (Vec<Change>, Vec<Gate>) {
    let runs = facts.state.units.get(UNIT).is_some_and(|unit| unit.active == "active");
    let name = || host.name.clone();
    let gates = match phase {
        Phase::Etcd => vec![Gate::EtcdHealthy(name())],
        Phase::ControlPlane => vec![Gate::ApiServerReady(name()), Gate::ControllersHealthy(name())],
        Phase::Controllers => vec![Gate::ControllersHealthy(name())],
        _ => return Default::default(),
    };
    let ours: Vec<(&RemotePath, &Change)> = changes.iter().filter_map(|change| Some((manifest(change)?, change))).collect();
    if !runs || !ours.iter().any(|(path, change)| is_other_version(path, change, facts, wanted)) {
        return Default::default();
    }
    let mut back: Vec<Change> = ours
        .into_iter()
        .filter_map(|(path, _)| {
            let found = facts.state.files.get(path)?;
            let content = Content::plain(facts.state.text(path)?);
            let artifact = Artifact::File { path: path.clone(), mode: found.mode, content };
            Some(Change { artifact, reason: Reason::PutBack, before: None })
        })
        .collect();
    // etcd before the API server that needs it.
    back.sort_by_key(|change| change.artifact.id() != paths::etcd_manifest().as_str());
    (back, gates)
}

/// The manifest that a change replaces or takes away for a while.
fn manifest(change: &Change) -> Option<&RemotePath> {
    match (&change.artifact, &change.reason) {
        (Artifact::File { path, .. }, Reason::Content { .. } | Reason::Resumed) | (Artifact::Absent { path }, Reason::Paused) => {
            (path.parent() == paths::manifests_directory()).then_some(path)
        }
        _ => None,
    }
}

/// Whether the change is one of the image. `wanted` is a word that every new image of the cluster's own
/// components ends with; for etcd any other image counts.
fn is_other_version(path: &RemotePath, change: &Change, facts: &Facts, wanted: &str) -> bool {
    let Artifact::File { content, .. } = &change.artifact else { return false };
    let (new, old) = (image(content.review()), facts.state.text(path).and_then(image));
    new.is_some() && new != old && (*path == paths::etcd_manifest() || new.is_some_and(|image| image.ends_with(wanted)))
}

/// The image of the first container of a manifest.
pub(super) fn image(manifest: &str) -> Option<&str> {
    manifest.lines().find_map(|line| line.trim_start().trim_start_matches("- ").strip_prefix("image: "))
}
