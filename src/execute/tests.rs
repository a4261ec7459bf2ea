//! What the executor promises, over hosts and a cluster in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::control::Control;
use super::fakes::{Act, FakeCluster, FakeTransport};
use super::*;
use crate::artifact::Artifact;
use crate::artifact::maintenance::Maintenance;
use crate::change::{Change, Reason};
use crate::desired;
use crate::graph::Gate;
use crate::graph::tests::{file, full, id, object, plan, step};
use crate::names::{Digest, HostName, Span};
use crate::phase::{Phase, Stage, Target};
use crate::plan::{Plan, Unavailable};

/// A run that ended: its report, its events, and what the fakes saw.
struct Ran {
    report: Report,
    events: Vec<Event>,
    transport: FakeTransport,
    cluster: FakeCluster,
}

impl Ran {
    fn outcome(&self, step: &str) -> &Outcome {
        &self.report.steps[&id(step)].outcome
    }

    fn with(&self, wanted: impl Fn(&Outcome) -> bool) -> Vec<String> {
        let steps = self.report.steps.iter().filter(|(_, record)| wanted(&record.outcome));
        steps.map(|(id, _)| id.to_string()).collect()
    }

    fn begun(&self) -> Vec<String> {
        self.transport.log.lock().unwrap().begun.clone()
    }

    fn ended(&self) -> Vec<String> {
        self.transport.log.lock().unwrap().ended.clone()
    }
}

fn run_with(graph: &StepGraph, limits: &Limits, acts: &[(&str, Act)], cluster: FakeCluster, control: &Control) -> Ran {
    let transport =
        FakeTransport { acts: acts.iter().map(|&(step, act)| (step.to_owned(), act)).collect(), ..Default::default() };
    let mut events = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let execution = Execution { transport: &transport, cluster: &cluster, limits, control };
    let working = execute(graph, &execution, |event| {
        // The start of a hanging step is the signal to interrupt.
        if let Event::StepStarted { step, .. } = event
            && acts.contains(&(step.to_string().as_str(), Act::Hang))
        {
            control.interrupt();
        }
        events.push(event.clone());
    });
    let bounded = async { tokio::time::timeout(Duration::from_secs(20), working).await };
    let report = runtime.block_on(bounded).expect("no deadlock");
    Ran { report, events, transport, cluster }
}

/// A run during which the line to that host is lost.
fn run_cut_from(graph: &StepGraph, host: &str, cluster: FakeCluster) -> Ran {
    let transport = FakeTransport { cut: BTreeSet::from([host.parse().unwrap()]), ..Default::default() };
    let (control, limits) = (Control::default(), Limits::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let execution = Execution { transport: &transport, cluster: &cluster, limits: &limits, control: &control };
    let working = execute(graph, &execution, |_| {});
    let bounded = async { tokio::time::timeout(Duration::from_secs(20), working).await };
    let report = runtime.block_on(bounded).expect("it does not wait for the gate's own end");
    Ran { report, events: Vec::new(), transport, cluster }
}

fn run(graph: &StepGraph, limits: &Limits, acts: &[(&str, Act)]) -> Ran {
    run_with(graph, limits, acts, FakeCluster::default(), &Control::default())
}

fn build(plan: &Plan, stage: Stage, steps: Vec<Step>) -> StepGraph {
    StepGraph::build(plan, stage, steps, &plan.limits).unwrap()
}

/// A graph of chains and the like that follows no table.
fn assemble(stage: Stage, etcd_hosts: &[&str], steps: &[&str], edges: &[(&str, &str)]) -> StepGraph {
    let etcd_hosts = etcd_hosts.iter().map(|host| host.parse().unwrap()).collect();
    let steps = steps.iter().map(|text| step(text)).collect();
    StepGraph::assemble(stage, etcd_hosts, steps, edges.iter().map(|(a, b)| (id(a), id(b)))).unwrap()
}

#[test]
fn a_bootstrap_does_everything_once_and_in_order() {
    let plan = plan(3, 0, 5);
    let graph = build(&plan, Stage::Fresh, full(&plan));
    let ran = run(&graph, &plan.limits, &[]);
    assert!(ran.report.succeeded());
    assert_eq!(ran.report.changes(), graph.changes());
    let log = ran.transport.log.lock().unwrap();
    assert!(!log.crowded);
    assert!(log.most > 4, "hosts work at once: {}", log.most);
    assert!(matches!(ran.events.first(), Some(Event::RunStarted { .. })));
    assert!(matches!(ran.events.last(), Some(Event::RunFinished { .. })));
}

#[test]
fn a_second_run_without_changes_touches_nothing() {
    let plan = plan(3, 0, 2);
    let gate = Gate::ApiServerReady("cp-1".parse().unwrap());
    let graph = build(&plan, Stage::Living, vec![Step { gates: vec![gate], ..Step::empty(id("healthy@cp-1")) }]);
    let ran = run(&graph, &plan.limits, &[]);
    assert!(ran.begun().is_empty() && ran.cluster.log.lock().unwrap().is_empty());
    assert!(ran.report.steps.values().all(|record| record.outcome == Outcome::UpToDate));
    assert_eq!(ran.report.steps.len(), graph.steps().count());
}

#[test]
fn what_can_be_put_back_is_not_waited_for_while_it_keeps_ending() {
    let plan = plan(1, 0, 0);
    let gate = || vec![Gate::ApiServerReady("cp-1".parse().unwrap())];
    let heard = |fallback: Vec<Change>| {
        let steps = vec![Step { gates: gate(), fallback, ..step("control-plane@cp-1") }];
        let ran = run(&build(&plan, Stage::Living, steps), &plan.limits, &[]);
        ran.cluster.log.lock().unwrap().clone()
    };
    assert_eq!(heard(Vec::new()), ["API server on cp-1"]);
    let changes = step("control-plane@cp-1").changes;
    assert_eq!(heard(changes), ["watched", "API server on cp-1"]);
}

#[test]
fn a_failed_step_blocks_what_follows_and_nothing_else() {
    let plan = plan(1, 0, 2);
    let graph = build(&plan, Stage::Fresh, full(&plan));
    let ran = run(&graph, &plan.limits, &[("images@w-1", Act::Fail(0))]);
    let blocked = ran.with(|outcome| *outcome == Outcome::Blocked { by: id("images@w-1") });
    assert_eq!(blocked, ["local-proxy@w-1", "kubelet@w-1", "nodes@cluster"]);
    assert!(matches!(ran.outcome("kubelet@w-2"), Outcome::Changed { changes: 1 }));
    assert_eq!(*ran.outcome("addons@cluster"), Outcome::Changed { changes: 1 });
    let Outcome::Failed(failure) = ran.outcome("images@w-1") else { panic!("it failed") };
    insta::assert_snapshot!(failure, @r"
    images on w-1: /etc/images@w-1: failed in change 1 with exit status 1
        | sh: 3: \u{1b}[31mmv: cannot move: No space left on device
      hint: free some space on the host, then run the same command again
    ");
}

#[test]
fn a_line_that_is_lost_ends_what_waits_on_its_host_and_nothing_else() {
    let gate = |host: &str| vec![Gate::KubeletHealthy(host.parse().unwrap())];
    let graph = |before: bool| {
        let waiting = step("kubelet@a");
        let waiting = if before { Step { before: gate("a"), ..waiting } } else { Step { gates: gate("a"), ..waiting } };
        let steps = vec![waiting, step("healthy@a"), Step { gates: gate("b"), ..step("kubelet@b") }, step("healthy@b")];
        let edges = [("kubelet@a", "healthy@a"), ("kubelet@b", "healthy@b")].map(|(one, other)| (id(one), id(other)));
        StepGraph::assemble(Stage::Living, BTreeSet::new(), steps, edges).unwrap()
    };
    for before in [false, true] {
        let silent = BTreeSet::from(["kubelet on a".to_owned()]);
        let ran = run_cut_from(&graph(before), "a", FakeCluster { silent, ..Default::default() });
        assert_eq!(ran.begun().contains(&"kubelet@a".to_owned()), !before);
        assert_eq!(*ran.outcome("healthy@a"), Outcome::Blocked { by: id("kubelet@a") });
        assert!(matches!(ran.outcome("healthy@b"), Outcome::Changed { changes: 1 }));
        let Outcome::Failed(failure) = ran.outcome("kubelet@a") else { panic!("it failed") };
        let place = if before { "nothing was changed" } else { "waiting for kubelet on a" };
        let told = failure.to_string();
        let expected = format!("kubelet on a: {place}: the connection to host a was lost, and the host's lock with it\n    | Timeout, server 192.0.2.1 not responding.\n  hint: ");
        assert!(told.starts_with(&expected) && told.contains("run the same command again"), "{told}");
    }
}

#[test]
fn a_drain_ends_with_the_line_to_its_host() {
    let emptied = Maintenance::Emptied { node: "a".parse().unwrap(), version: "v1.34.2".parse().unwrap(), limit: Span::seconds(600) };
    let change = |artifact| Change { artifact, reason: Reason::Asked, before: None };
    let steps = vec![Step { changes: vec![change(Artifact::Maintenance(emptied))], ..Step::empty(id("kubelet-upgrade@a")) }];
    let graph = StepGraph::assemble(Stage::Living, BTreeSet::new(), steps, []).unwrap();
    let silent = BTreeSet::from(["drain of Node/a".to_owned()]);
    let ran = run_cut_from(&graph, "a", FakeCluster { silent, ..Default::default() });
    let Outcome::Failed(failure) = ran.outcome("kubelet-upgrade@a") else { panic!("it failed") };
    assert_eq!(failure.change.as_deref(), Some("drain of Node/a"));
}

#[test]
fn whoever_starts_a_kubelet_has_what_was_known_of_it_forgotten() {
    let change = |artifact| Change { artifact, reason: Reason::Asked, before: None };
    let unit = |name: &str| Artifact::Unit { name: name.into(), inputs: Vec::new(), stamp: Digest::of("x"), check: None };
    let package = Artifact::Package { name: "kubelet".into(), version: None, program: None, held: false };
    for (artifact, forgotten) in [
        (unit("kubelet.service"), true),
        (unit("containerd.service"), false),
        (Artifact::Halted { unit: "kubelet.service".into(), files: Vec::new(), pods: false }, true),
        (Artifact::Restarted { units: vec!["kubelet.service".into()], machine: false }, true),
        (Artifact::Restarted { units: vec!["containerd.service".into()], machine: false }, false),
        (Artifact::Restarted { units: Vec::new(), machine: true }, true),
        (package, true),
    ] {
        let steps = vec![Step { changes: vec![change(artifact.clone())], ..Step::empty(id("kubelet@a")) }];
        let graph = StepGraph::assemble(Stage::Living, BTreeSet::new(), steps, []).unwrap();
        let ran = run(&graph, &Limits::default(), &[]);
        assert!(ran.report.succeeded());
        // Before it, because it may be done although no answer comes, and after it.
        let expected: Vec<HostName> = if forgotten { vec!["a".parse().unwrap(); 2] } else { Vec::new() };
        assert_eq!(*ran.cluster.forgotten.lock().unwrap(), expected, "{artifact:?}");
    }
}

#[test]
fn lost_hosts_and_bugs_are_failures_of_their_step() {
    let graph = assemble(Stage::Fresh, &[], &["system@a", "system@b", "system@c"], &[]);
    let limits = Limits::default();
    let ran = run(&graph, &limits, &[("system@a", Act::Drop), ("system@b", Act::Panic)]);
    let message = |step| match ran.outcome(step) {
        Outcome::Failed(failure) => failure.message.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(message("system@a"), "the connection to host a was lost during system@a");
    assert_eq!(message("system@b"), "panicked: a bug in system@b");
    assert_eq!(ran.ended(), ["system@c"]);
}

/// In a living cluster each control plane has changes, and asks before each of them.
fn guarded() -> (Plan, StepGraph) {
    let plan = plan(3, 0, 0);
    let host = |step: &Step| match &step.id.target {
        Target::Host(name) => plan.host(name).cloned(),
        Target::Cluster => None,
    };
    let standing = crate::standing::Standing { stage: Stage::Living, ..crate::standing::survey_nothing(&plan).unwrap() };
    let guard = |step: Step| match host(&step) {
        Some(host) => Step { before: desired::preconditions(step.id.phase, &plan, &host, &standing), ..step },
        None => step,
    };
    let steps = full(&plan).into_iter().map(guard).collect();
    let graph = build(&plan, Stage::Living, steps);
    (plan, graph)
}

#[test]
fn a_member_is_not_touched_while_another_one_is_down() {
    let (plan, graph) = guarded();
    let closed = ["an etcd quorum without cp-1".to_owned()].into();
    let ran = run_with(&graph, &plan.limits, &[], FakeCluster { closed, ..Default::default() }, &Control::default());
    let Outcome::Failed(failure) = ran.outcome("certificates@cp-1") else { panic!("it is refused") };
    insta::assert_snapshot!(failure, @r"
    certificates on cp-1: nothing was changed: status 503
        | etcdserver: no leader
      hint: see its log
    ");
    let disruptive = ["certificates@", "etcd@", "control-plane@", "kubelet@"];
    let begun: Vec<String> = ran.begun().into_iter().filter(|step| disruptive.iter().any(|phase| step.starts_with(phase))).collect();
    assert!(begun.is_empty(), "{begun:?}");
    assert_eq!(*ran.outcome("certificates@cp-2"), Outcome::Blocked { by: id("certificates@cp-1") });
}

#[test]
fn changes_of_both_kinds_keep_their_order() {
    let plan = crate::graph::tests::plan(1, 0, 0);
    let mut mixed = step("etcd@cp-1");
    let (first, last) = (crate::graph::tests::object("first"), crate::graph::tests::object("last"));
    mixed.changes = vec![first, file("/etc/a"), file("/etc/b"), last, file("/etc/c")];
    let ran = run(&build(&plan, Stage::Fresh, vec![mixed]), &plan.limits, &[]);
    let done: Vec<(usize, String)> = ran
        .events
        .iter()
        .filter_map(|event| match event {
            Event::ChangeDone { done, artifact, .. } => Some((*done, artifact.clone())),
            _ => None,
        })
        .collect();
    let ids = ["ConfigMap/first", "/etc/a", "/etc/b", "ConfigMap/last", "/etc/c"];
    assert_eq!(done, ids.iter().enumerate().map(|(index, id)| (index + 1, (*id).to_owned())).collect::<Vec<_>>());
    assert_eq!(ran.begun(), ["etcd@cp-1", "etcd@cp-1"], "neighbours go as one command");
}

#[test]
fn what_must_hold_is_asked_before_every_disruption_and_nowhere_else() {
    let (plan, graph) = guarded();
    let ran = run(&graph, &plan.limits, &[]);
    assert!(ran.report.succeeded());
    let log = ran.cluster.log.lock().unwrap();
    let asked = |gate: &str| log.iter().filter(|entry| *entry == gate).count();
    // certificates, etcd, control-plane, vip, kubelet
    assert_eq!(asked("an etcd quorum without cp-2"), 5);
    assert_eq!(asked("an API server besides the one on cp-2"), 5);
    assert!(!ran.events.iter().any(|event| matches!(event, Event::Waiting { .. })), "short waits are silent");
    drop(log);

    // A step without changes asks nothing; a fresh cluster and a lone member have nothing to keep.
    let graph = build(&plan, Stage::Living, graph.steps().map(|step| Step { changes: Vec::new(), ..step.clone() }).collect());
    assert!(run(&graph, &plan.limits, &[]).cluster.log.lock().unwrap().is_empty());
    let asked_for = |phase, plan: &Plan, stage| {
        let standing = crate::standing::Standing { stage, ..crate::standing::survey_nothing(plan).unwrap() };
        desired::preconditions(phase, plan, &plan.hosts[0], &standing)
    };
    let asks = |plan: &Plan, stage| asked_for(Phase::Etcd, plan, stage).len();
    assert_eq!((asks(&plan, Stage::Fresh), asks(&plan, Stage::Living)), (0, 2));
    assert_eq!(asks(&crate::graph::tests::plan(1, 0, 1), Stage::Living), 0);
    assert_eq!(asked_for(Phase::Runtime, &plan, Stage::Living), []);
}

#[test]
fn a_gate_that_does_not_open_fails_its_step() {
    let plan = plan(1, 0, 0);
    let mut steps = full(&plan);
    let host: crate::names::HostName = "cp-1".parse().unwrap();
    let gates = vec![Gate::EtcdHealthy(host.clone()), Gate::ApiServerReady(host)];
    steps.push(Step { gates, ..Step::empty(id("healthy@cp-1")) });
    let graph = build(&plan, Stage::Fresh, steps);
    let cluster = FakeCluster { closed: BTreeSet::from(["etcd on cp-1".to_owned()]), ..Default::default() };
    let ran = run_with(&graph, &plan.limits, &[], cluster, &Control::default());
    let Outcome::Failed(failure) = ran.outcome("healthy@cp-1") else { panic!("it failed") };
    insta::assert_snapshot!(failure, @r"
    healthy on cp-1: waiting for etcd on cp-1: status 503
        | etcdserver: no leader
      hint: see its log
    ");
    assert!(matches!(ran.outcome("cluster-objects@cluster"), Outcome::Blocked { .. }));
}

#[test]
fn objects_are_applied_in_order_through_the_cluster_and_files_through_the_host() {
    let objects = Step { changes: vec![object("a"), object("b")], ..Step::empty(id("addons@cluster")) };
    let mixed = Step { changes: vec![object("c"), file("/etc/d")], ..Step::empty(id("kubelet@cp-1")) };
    let edges = [(id("kubelet@cp-1"), id("addons@cluster"))];
    let graph = StepGraph::assemble(Stage::Fresh, BTreeSet::new(), vec![objects, mixed], edges).unwrap();
    let ran = run(&graph, &Limits::default(), &[]);
    assert!(ran.report.succeeded());
    assert_eq!(*ran.cluster.log.lock().unwrap(), ["ConfigMap/c", "ConfigMap/a", "ConfigMap/b"]);
    let done: Vec<String> = ran
        .events
        .iter()
        .filter_map(|event| match event {
            Event::ChangeDone { artifact, .. } => Some(artifact.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(done, ["ConfigMap/c", "/etc/d", "ConfigMap/a", "ConfigMap/b"]);
}

#[test]
fn the_first_interrupt_lets_running_steps_end_the_second_cuts_them_off() {
    let graph = assemble(
        Stage::Fresh,
        &[],
        &["system@a", "programs@a", "system@b", "programs@b"],
        &[("system@a", "programs@a"), ("system@b", "programs@b")],
    );
    let limits = Limits::default();
    let control = Control::default();
    control.interrupt();
    let ran = run_with(&graph, &limits, &[], FakeCluster::default(), &control);
    assert!(ran.begun().is_empty(), "stopped before it began");
    assert_eq!(ran.with(|outcome| *outcome == Outcome::Cancelled).len(), 4);

    let ran = run_with(
        &graph,
        &limits,
        &[("system@a", Act::Hang), ("system@b", Act::Hang)],
        FakeCluster::default(),
        &Control::default(),
    );
    assert_eq!(ran.with(|outcome| *outcome == Outcome::Cancelled).len(), 4);
    assert!(ran.events.contains(&Event::Stopping { abort: true }));
}

#[test]
fn after_the_first_interrupt_running_steps_end_well() {
    let graph = assemble(Stage::Fresh, &[], &["system@a", "programs@a"], &[("system@a", "programs@a")]);
    let (limits, control, transport, cluster) =
        (Limits::default(), Control::default(), FakeTransport::default(), FakeCluster::default());
    let execution =
        Execution { transport: &transport, cluster: &cluster, limits: &limits, control: &control };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let report = runtime.block_on(execute(&graph, &execution, |event| {
        if matches!(event, Event::StepStarted { .. }) {
            control.interrupt();
        }
    }));
    assert_eq!(report.steps[&id("system@a")].outcome, Outcome::Changed { changes: 1 });
    assert_eq!(report.steps[&id("programs@a")].outcome, Outcome::Cancelled);
}

#[test]
fn a_selection_runs_only_what_was_chosen() {
    let plan = plan(3, 0, 1);
    let graph =
        build(&plan, Stage::Living, full(&plan)).select(&BTreeSet::new(), &BTreeSet::from([Phase::Etcd])).unwrap();
    let ran = run(&graph, &plan.limits, &[]);
    assert_eq!(ran.ended(), ["etcd@cp-1", "etcd@cp-2", "etcd@cp-3"]);
    assert_eq!(*ran.outcome("kubelet@cp-1"), Outcome::NotSelected);
    assert!(ran.report.succeeded());
}

#[test]
fn a_living_cluster_never_loses_a_second_member_even_without_edges() {
    let graph = assemble(
        Stage::Living,
        &["a", "b", "c"],
        &["etcd@a", "etcd@b", "etcd@c", "kubelet@a", "system@b"],
        &[("etcd@a", "kubelet@a")],
    );
    let ran = run(&graph, &Limits::default(), &[]);
    assert!(ran.report.succeeded());
    let position = |step: &str| ran.begun().iter().position(|other| other == step).unwrap();
    assert!(position("kubelet@a") < position("etcd@b") || position("etcd@b") < position("etcd@a"), "{:?}", ran.begun());

    let ran = run(&graph, &Limits::default(), &[("kubelet@a", Act::Fail(0))]);
    assert_eq!(ran.with(|outcome| *outcome == Outcome::Blocked { by: id("kubelet@a") }), ["etcd@b", "etcd@c"]);
    assert_eq!(*ran.outcome("system@b"), Outcome::Changed { changes: 1 });

    let fresh = assemble(Stage::Fresh, &["a", "b"], &["etcd@a", "etcd@b"], &[]);
    assert_eq!(run(&fresh, &Limits::default(), &[("etcd@a", Act::Slow(9))]).ended(), ["etcd@b", "etcd@a"]);
}

#[test]
fn a_graph_that_weaves_two_members_is_refused() {
    let graph = assemble(
        Stage::Living,
        &["a", "b"],
        &["certificates@a", "certificates@b", "etcd@a"],
        &[("certificates@a", "certificates@b"), ("certificates@b", "etcd@a")],
    );
    let ran = run(&graph, &Limits::default(), &[]);
    assert_eq!(ran.ended(), ["certificates@a"]);
    let Outcome::Failed(failure) = ran.outcome("certificates@b") else { panic!("refused") };
    assert!(failure.message.contains("etcd on a is being changed"), "{failure}");
    assert_eq!(*ran.outcome("etcd@a"), Outcome::Blocked { by: id("certificates@b") });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever fails and however long steps take: limits hold, nothing runs before what it waits
    /// for, exactly the descendants of failures are blocked, and every step has an outcome.
    #[test]
    fn any_run_keeps_the_promises(
        living in any::<bool>(),
        parallel_hosts in 1_usize..6,
        max_unavailable in 1_usize..4,
        acts in proptest::collection::btree_map(0_usize..70, prop_oneof![
            Just(Act::Fail(0)), Just(Act::Drop), Just(Act::Panic), (0_usize..5).prop_map(Act::Slow)
        ], 0..12),
    ) {
        let mut plan = plan(3, 0, 4);
        plan.limits.parallel_hosts = parallel_hosts;
        plan.limits.max_unavailable = Unavailable::Hosts(max_unavailable);
        let graph = build(&plan, if living { Stage::Living } else { Stage::Fresh }, full(&plan));
        let names: Vec<String> = graph.steps().filter(|step| !step.changes.is_empty()).map(|step| step.id.to_string()).collect();
        let acts: Vec<(&str, Act)> = acts.iter().map(|(index, act)| (names[index % names.len()].as_str(), *act)).collect();
        let ran = run(&graph, &plan.limits, &acts);
        {
            let log = ran.transport.log.lock().unwrap();
            prop_assert!(!log.crowded && log.most <= parallel_hosts);
        }
        prop_assert_eq!(ran.report.steps.len(), graph.steps().count());
        // What a step waits for, through steps with nothing to do.
        let ids: Vec<String> = graph.steps().map(|step| step.id.to_string()).collect();
        let shape = graph.shape();
        let mut doomed: BTreeMap<usize, bool> = BTreeMap::new();
        let relevant = graph.relevant();
        for index in 0..ids.len() {
            let record = &ran.report.steps[&id(&ids[index])];
            let above = shape.parents[index].iter().any(|parent| doomed[parent]);
            let failed = matches!(record.outcome, Outcome::Failed(_));
            doomed.insert(index, above || failed);
            if relevant[index] {
                prop_assert_eq!(above, matches!(record.outcome, Outcome::Blocked { .. }), "{}: {:?}", ids[index], record.outcome);
            }
        }
        let finished: Vec<String> = ran.events.iter().filter_map(|event| match event {
            Event::StepFinished { step, .. } => Some(step.to_string()),
            _ => None,
        }).collect();
        let started: Vec<(usize, String)> = ran.events.iter().enumerate().filter_map(|(at, event)| match event {
            Event::StepStarted { step, .. } => Some((at, step.to_string())),
            _ => None,
        }).collect();
        prop_assert_eq!(finished.iter().collect::<BTreeSet<_>>().len(), finished.len(), "each step ends once");
        let position = |name: &str| ids.iter().position(|other| other == name).unwrap();
        for (at, name) in &started {
            for &parent in &shape.parents[position(name)] {
                let before = ran.events[..*at].iter().any(|event| matches!(event, Event::StepFinished { step, .. } if step.to_string() == ids[parent]));
                prop_assert!(before || !relevant[parent], "{name} began before {} ended", ids[parent]);
            }
        }
    }
}
