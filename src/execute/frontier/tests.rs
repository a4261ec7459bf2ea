//! Properties of the frontier over random graphs: no table of phases, no order among hosts.

use proptest::prelude::*;

use super::*;
use crate::graph::Step;
use crate::graph::tests::{id, step};

const PHASES: [&str; 6] = ["system", "runtime", "certificates", "etcd", "kubelet", "healthy"];

/// A step that sends an image archive.
fn upload(name: &str) -> Step {
    let mut step = step(name);
    let (names, archive, digest) = (Vec::new(), "a.tar".into(), crate::names::Digest::of(""));
    step.changes[0].artifact = crate::artifact::Artifact::Image { names, archive, digest };
    step
}

/// Steps on up to five hosts with random edges that lead forward in a random order, some steps
/// without changes.
fn graphs() -> impl Strategy<Value = StepGraph> {
    let names: Vec<String> =
        PHASES.iter().flat_map(|phase| ["a", "b", "c", "d", "e"].map(|host| format!("{phase}@{host}"))).collect();
    let shuffled = Just(names).prop_shuffle();
    let edges = proptest::collection::vec((0_usize..30, 0_usize..30), 0..60);
    (any::<bool>(), shuffled, 1_usize..30, edges, any::<u32>(), any::<u32>())
        .prop_map(|(living, names, count, edges, empty, uploads)| {
            let names = &names[..count];
            let steps = names
                .iter()
                .enumerate()
                .map(|(index, name)| match (empty >> index & 1, uploads >> index & 1) {
                    (1, _) => Step::empty(id(name)),
                    (_, 1) => upload(name),
                    _ => step(name),
                });
            let edges = edges.into_iter().map(|(a, b)| (a % count, b % count)).filter(|(a, b)| a != b);
            let edges = edges.map(|(a, b)| (id(&names[a.min(b)]), id(&names[a.max(b)])));
            let stage = if living { Stage::Living } else { Stage::Fresh };
            let members = ["a", "b", "c"].map(|host| host.parse().unwrap()).into();
            StepGraph::assemble(stage, members, steps.collect(), edges).expect("edges lead forward")
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_order_is_allowed_only_if_it_is_right(
        graph in graphs(),
        choices in proptest::collection::vec((any::<prop::sample::Index>(), 0_u8..8), 60),
        parallel_hosts in 1_usize..5,
        parallel_uploads in 1_usize..3,
    ) {
        let limits = Limits { parallel_hosts, parallel_uploads, ..Limits::default() };
        let mut frontier = Frontier::new(&graph, &limits);
        let ids: Vec<StepId> = graph.steps().map(|step| step.id.clone()).collect();
        let position = |id: &StepId| ids.iter().position(|other| other == id).unwrap();
        let (shape, relevant) = (graph.shape(), graph.relevant());
        let (mut running, mut ended, mut failed, mut blocked) = (Vec::new(), BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut unsettled: Option<HostName> = None;
        let mut choices = choices.into_iter().cycle();
        loop {
            while let Some(step) = frontier.start() {
                let index = position(&step);
                prop_assert!(relevant[index]);
                for &parent in &shape.parents[index] {
                    prop_assert!(!relevant[parent] || ended.contains(&parent), "{step} began too early");
                }
                let host = |step: &StepId| match &step.target { Target::Host(host) => host.clone(), Target::Cluster => unreachable!() };
                prop_assert!(!running.iter().any(|other| host(other) == host(&step)), "two steps on one host");
                let member = graph.stage() == Stage::Living && graph.etcd_hosts().contains(&host(&step));
                if member && waves::is_disruptive(step.phase) && let Some(other) = unsettled.replace(host(&step)) {
                        let open = ids.iter().enumerate().any(|(index, id)| {
                            host(id) == other && crate::graph::rounds::Round::of(id.phase).is_some() && relevant[index] && !ended.contains(&index)
                        });
                        prop_assert!(other == host(&step) || !open, "{step} while {other} is not settled");
                }
                running.push(step);
            }
            prop_assert!(running.len() <= parallel_hosts);
            prop_assert!(running.iter().filter(|id| graph.step(id).is_some_and(Step::uploads)).count() <= parallel_uploads);
            if running.is_empty() {
                let Some(refusal) = frontier.refuse() else { break };
                prop_assert_eq!(graph.stage(), Stage::Living);
                blocked.insert(position(&refusal.step));
                blocked.extend(refusal.blocked.iter().map(position));
                continue;
            }
            let (choice, luck) = choices.next().unwrap();
            let step = running.remove(choice.index(running.len()));
            let newly = frontier.finish(&step, luck > 0);
            if luck > 0 {
                prop_assert!(newly.is_empty());
                ended.insert(position(&step));
            } else {
                failed.insert(position(&step));
                blocked.extend(newly.iter().map(position));
            }
        }
        prop_assert!(frontier.unfinished().is_empty());
        // Everything came to exactly one end; without a quorum, blocked is what has a failure above.
        let mut doomed = vec![false; ids.len()];
        for index in 0..ids.len() {
            let above = shape.parents[index].iter().any(|&parent| doomed[parent]);
            doomed[index] = above || failed.contains(&index);
            let ends = usize::from(ended.contains(&index)) + usize::from(failed.contains(&index)) + usize::from(blocked.contains(&index));
            prop_assert_eq!(ends, usize::from(relevant[index]));
            if graph.stage() == Stage::Fresh && relevant[index] {
                prop_assert_eq!(blocked.contains(&index), above);
            }
        }
    }
}

#[test]
fn the_longest_path_goes_first_and_uploads_have_their_own_limit() {
    let steps = vec![step("system@a"), upload("images@b"), upload("images@c"), step("healthy@d")];
    let graph = StepGraph::assemble(Stage::Fresh, BTreeSet::new(), steps, [(id("system@a"), id("healthy@d"))]).unwrap();
    let mut frontier = Frontier::new(&graph, &Limits { parallel_uploads: 1, ..Limits::default() });
    assert_eq!(frontier.start(), Some(id("system@a")), "22 seconds lie behind it");
    assert_eq!(frontier.start(), Some(id("images@b")));
    assert_eq!(frontier.start(), None);
    assert_eq!(frontier.finish(&id("images@b"), true), []);
    assert_eq!(frontier.start(), Some(id("images@c")));
}
