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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::artifact::snapshot::{Snapshot, Way};
    use crate::artifact::undone::Undone;
    use crate::change::{Change, Reason};
    use crate::graph::StepGraph;
    use crate::graph::leaving::Leaving;
    use crate::graph::tests::{file, id, plan};
    use crate::names::RemotePath;
    use crate::phase::{Stage, Target};

    fn snapshot(host: &str, etcd: bool) -> Step {
        let etcd = etcd.then(|| RemotePath::fixed("/var/lib/etcd"));
        let artifact = Artifact::Snapshot(Snapshot { way: Way::new("v1.33.4", "v1.34.2"), files: Vec::new(), etcd, keep: 3 });
        Step { changes: vec![Change { artifact, reason: Reason::Missing, before: None }], ..Step::empty(id(&format!("snapshot@{host}"))) }
    }

    /// Steps of which at least one is reached from that one.
    fn after(graph: &StepGraph, first: &StepId) -> BTreeSet<StepId> {
        let (shape, ids) = (graph.shape(), graph.steps().map(|step| step.id.clone()).collect::<Vec<_>>());
        let mut reached = vec![false; ids.len()];
        for (index, id) in ids.iter().enumerate() {
            reached[index] = id == first || shape.parents[index].iter().any(|&parent| reached[parent]);
        }
        ids.into_iter().zip(reached).filter(|(id, reached)| *reached && id != first).map(|(id, _)| id).collect()
    }

    fn changed(text: &str) -> Step {
        Step { changes: vec![file("/etc/x")], ..Step::empty(id(text)) }
    }

    #[test]
    fn everything_on_all_hosts_waits_for_the_snapshot_of_etcd_and_that_for_all_copies() {
        let plan = plan(3, 0, 40);
        let gone: crate::names::HostName = "gone".parse().unwrap();
        let leaving = [Leaving { host: gone.clone(), carries: true, first: true }];
        let leave = |phase| Step {
            changes: vec![Change { artifact: Artifact::Undone(Undone::Pods), reason: Reason::Before, before: None }],
            ..Step::empty(StepId { phase, target: Target::Host(gone.clone()) })
        };
        let steps = vec![
            snapshot("cp-1", false), snapshot("cp-2", true), snapshot("w-7", false),
            changed("etcd@cp-1"), changed("images@w-3"), changed("controllers@cp-1"), leave(Phase::Leave), leave(Phase::Reset),
        ];
        let graph = StepGraph::parting(&plan, Stage::Living, steps, &leaving, &plan.limits, &BTreeSet::new()).unwrap();
        let all: BTreeSet<StepId> = graph.steps().map(|step| step.id.clone()).collect();
        let late = after(&graph, &id("snapshot@cp-2"));
        let early: Vec<String> = all.difference(&late).map(ToString::to_string).collect();
        assert_eq!(early, ["snapshot@cp-1", "snapshot@cp-2", "snapshot@w-7"]);
        assert!(after(&graph, &id("snapshot@w-7")).contains(&id("snapshot@cp-2")));
        let edges: usize = graph.shape().parents.iter().map(Vec::len).sum();
        assert!(edges < 20 * all.len(), "{edges} edges among {} steps", all.len());
    }

    #[test]
    fn what_is_chosen_is_kept_first_and_what_is_only_kept_asks_after_nobody() {
        let plan = plan(3, 0, 1);
        let steps = || vec![snapshot("cp-1", true), snapshot("w-1", false), changed("etcd@cp-1")];
        let graph = StepGraph::build(&plan, Stage::Living, steps(), &plan.limits).unwrap();
        let chosen = graph.select(&BTreeSet::new(), &BTreeSet::from([Phase::Etcd])).unwrap();
        assert!(chosen.is_selected(&id("snapshot@cp-1")) && chosen.is_selected(&id("etcd@cp-1")));
        let graph = StepGraph::build(&plan, Stage::Living, steps(), &plan.limits).unwrap();
        let chosen = graph.select(&BTreeSet::from(["cp-1".parse().unwrap()]), &BTreeSet::new()).unwrap();
        assert!(chosen.is_selected(&id("snapshot@cp-1")) && !chosen.is_selected(&id("snapshot@w-1")));

        let with_gate = Step { gates: vec![crate::graph::Gate::KubeletHealthy("w-1".parse().unwrap())], ..Step::empty(id("kubelet@w-1")) };
        let graph = StepGraph::build(&plan, Stage::Living, vec![snapshot("cp-1", true), with_gate], &plan.limits).unwrap();
        let relevant: Vec<String> = graph.steps().zip(graph.relevant()).filter(|(_, relevant)| *relevant).map(|(step, _)| step.id.to_string()).collect();
        assert_eq!(relevant, ["snapshot@cp-1"]);
    }
}
