//! What is kept from before an upgrade comes before everything else, on all hosts: a snapshot that cannot be
//! taken leaves everything as it was. Pure.

use super::Step;
use crate::artifact::Artifact;
use crate::phase::{Phase, StepId};

/// Edges (earlier, later) of the snapshots among `steps`. `firsts` are the steps of the table that wait for
/// nothing.
///
/// One of the snapshots waits for the others and everything else for that one, so there are as many edges
/// as hosts, not the square of it. It is the one with what etcd holds.
pub(super) fn edges(steps: &[Step], firsts: impl IntoIterator<Item = StepId>) -> Vec<(StepId, StepId)> {
    let snapshots: Vec<&Step> = steps.iter().filter(|step| step.id.phase == Phase::Snapshot).collect();
    let Some(last) = snapshots.iter().find(|step| holds_etcd(step)).or(snapshots.first()) else { return Vec::new() };
    let mut edges: Vec<(StepId, StepId)> =
        snapshots.iter().filter(|step| step.id != last.id).map(|step| (step.id.clone(), last.id.clone())).collect();
    let leaving = steps.iter().filter(|step| step.id.phase == Phase::Leave).map(|step| step.id.clone());
    edges.extend(firsts.into_iter().chain(leaving).map(|later| (last.id.clone(), later)));
    edges
}

fn holds_etcd(step: &Step) -> bool {
    step.changes.iter().any(|change| matches!(&change.artifact, Artifact::Snapshot(snapshot) if snapshot.etcd.is_some()))
}
