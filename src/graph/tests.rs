//! What the graph promises, for the topologies a plan can have.

use std::collections::BTreeSet;

use super::*;
use crate::artifact::Content;
use crate::artifact::membership::Membership;
use crate::change::Reason;
use crate::names::{Mode, RemotePath};
use crate::phase::{OCCASIONAL_RULES, RULES};
use crate::plan::{Plan, Unavailable};

/// A plan of hosts `cp-N` (control planes), `etcd-N` and `w-N`.
pub(crate) fn plan(control_planes: usize, etcd: usize, workers: usize) -> Plan {
    let mut hosts = Vec::new();
    for (prefix, count, role) in
        [("cp", control_planes, "control-plane"), ("etcd", etcd, "etcd"), ("w", workers, "worker")]
    {
        for number in 1..=count {
            let address = format!("10.0.{}.{number}", hosts.len() / 200);
            hosts
                .push(serde_json::json!({ "name": format!("{prefix}-{number}"), "address": address, "roles": [role] }));
        }
    }
    serde_json::from_value(serde_json::json!({
        "version": 1, "kubernetes": { "version": "v1.34.2" }, "endpoint": { "localProxy": {} }, "hosts": hosts
    }))
    .unwrap()
}

fn external_etcd(mut plan: Plan) -> Plan {
    plan.etcd.external = Some(
        serde_json::from_value(serde_json::json!({
            "endpoints": ["https://10.9.0.1:2379"], "caFile": "ca", "certificateFile": "crt", "keyFile": "key"
        }))
        .unwrap(),
    );
    plan
}

pub(crate) fn id(text: &str) -> StepId {
    let (phase, target) = text.split_once('@').unwrap();
    let phase = RULES.iter().chain(OCCASIONAL_RULES).map(|rule| rule.phase).find(|rule| rule.to_string() == phase).unwrap();
    let target = if target == "cluster" { Target::Cluster } else { Target::Host(target.parse().unwrap()) };
    StepId { phase, target }
}

pub(crate) fn file(path: &str) -> Change {
    Change {
        artifact: Artifact::File {
            path: RemotePath::fixed(path),
            mode: Mode(0o644),
            content: Content::plain("text\n"),
        },
        reason: Reason::Missing,
        before: None,
    }
}

/// A change of an object in the cluster.
pub(crate) fn object(name: &str) -> Change {
    let value = serde_json::json!({ "kind": "ConfigMap", "metadata": { "name": name } });
    Change { artifact: Artifact::Object(crate::artifact::Object::new(value)), reason: Reason::Missing, before: None }
}

/// A step with one change that suits its target.
pub(crate) fn step(text: &str) -> Step {
    let id = id(text);
    let change = if id.target == Target::Cluster { object(text) } else { file(&format!("/etc/{text}")) };
    Step { changes: vec![change], ..Step::empty(id) }
}

/// Steps with one change for everything that may change.
pub(crate) fn full(plan: &Plan) -> Vec<Step> {
    let empty = StepGraph::build(plan, Stage::Fresh, Vec::new(), &plan.limits).unwrap();
    empty
        .steps()
        .filter(|step| !matches!(step.id.phase, Phase::Healthy | Phase::Ready))
        .map(|empty| step(&empty.id.to_string()))
        .collect()
}

fn build(plan: &Plan, stage: Stage, steps: Vec<Step>) -> StepGraph {
    StepGraph::build(plan, stage, steps, &plan.limits).unwrap()
}

fn comes_before(graph: &StepGraph, earlier: &str, later: &str) -> bool {
    let ids: Vec<&StepId> = graph.steps().map(|step| &step.id).collect();
    let position = |text: &str| ids.iter().position(|other| **other == id(text)).unwrap();
    let shape = graph.shape();
    let mut reached = BTreeSet::from([position(earlier)]);
    for index in 0..shape.len() {
        if shape.parents[index].iter().any(|parent| reached.contains(parent)) {
            reached.insert(index);
        }
    }
    reached.contains(&position(later)) && earlier != later
}

#[test]
fn every_phase_has_one_rule() {
    use clap::ValueEnum as _;
    let ruled: Vec<Phase> = RULES.iter().chain(OCCASIONAL_RULES).map(|rule| rule.phase).collect();
    assert_eq!(ruled.iter().collect::<BTreeSet<_>>().len(), ruled.len());
    assert_eq!(ruled.into_iter().collect::<BTreeSet<_>>(), Phase::value_variants().iter().copied().collect());
}

#[test]
fn no_topology_makes_a_cycle() {
    for plan in [plan(1, 0, 0), plan(3, 0, 2), plan(2, 3, 2), external_etcd(plan(3, 0, 2)), plan(3, 0, 50)] {
        for stage in [Stage::Fresh, Stage::Living] {
            for steps in [Vec::new(), full(&plan)] {
                let graph = build(&plan, stage, steps);
                let wanted: usize = RULES
                    .iter()
                    .map(|rule| {
                        if rule.on == crate::phase::On::Cluster {
                            1
                        } else {
                            plan.hosts.iter().filter(|host| rule.on.includes(&plan, host)).count()
                        }
                    })
                    .sum();
                assert_eq!(graph.steps().count(), wanted);
            }
        }
    }
}

#[test]
fn a_fresh_cluster_starts_all_members_together_after_every_authority() {
    let plan = plan(3, 0, 2);
    let graph = build(&plan, Stage::Fresh, full(&plan));
    assert!(comes_before(&graph, "authority@cp-3", "certificates@w-1"));
    assert!(!comes_before(&graph, "healthy@cp-1", "etcd@cp-2"));
    assert!(!comes_before(&graph, "kubelet@cp-1", "kubelet@cp-2"));
    assert!(!comes_before(&graph, "healthy@cp-1", "local-proxy@w-1"), "workers are prepared meanwhile");
    assert!(comes_before(&graph, "healthy@cp-3", "kubelet@w-1"), "a kubelet does not wait for API servers by itself");
    assert!(comes_before(&graph, "kubelet@w-2", "nodes@cluster"));
}

#[test]
fn a_living_cluster_changes_carriers_one_by_one_then_workers_in_a_window() {
    let mut plan = plan(3, 0, 4);
    plan.limits.max_unavailable = Unavailable::Hosts(2);
    let steps = full(&plan).into_iter().filter(|step| step.id.target.to_string() != "cp-2").collect();
    let graph = build(&plan, Stage::Living, steps);
    assert!(comes_before(&graph, "healthy@cp-1", "certificates@cp-3"));
    assert!(!comes_before(&graph, "healthy@cp-1", "certificates@cp-2"), "cp-2 changes nothing");
    assert!(!comes_before(&graph, "authority@cp-1", "authority@cp-3"));
    assert!(!comes_before(&graph, "certificates@cp-1", "runtime@cp-3"), "the rest stays parallel");
    assert!(comes_before(&graph, "healthy@cp-3", "certificates@w-1"));
    assert!(comes_before(&graph, "healthy@cp-3", "local-proxy@w-2"));
    assert!(!comes_before(&graph, "kubelet@w-1", "certificates@w-2"));
    assert!(comes_before(&graph, "kubelet@w-1", "certificates@w-3"));
    assert!(comes_before(&graph, "kubelet@w-2", "local-proxy@w-4"));
    assert_eq!(graph.order_text().unwrap(), "cp-1 → cp-3; then w-1, w-2, w-3, w-4 (2 at a time)");
}

#[test]
fn a_carrier_that_is_down_already_is_mended_before_the_others_are_touched() {
    let changed = |path: &RemotePath, reason| Change { reason, ..file(path.as_str()) };
    let unit = |name: &str, reason| {
        let stamp = crate::names::Digest::of("");
        Change { artifact: Artifact::Unit { name: name.into(), inputs: Vec::new(), stamp, check: None }, reason, before: None }
    };
    let content = Reason::Content { found: None, drift: false };
    let stopped = Reason::Stopped { found: "failed".into() };
    let (etcd, api_server) = (crate::paths::etcd_manifest(), crate::paths::api_server_manifest());
    let rows = [
        ("control-plane", changed(&api_server, Reason::Missing), "cp-3 → cp-1 → cp-2"),
        ("etcd", changed(&etcd, Reason::Missing), "cp-3 → cp-1 → cp-2"),
        ("kubelet", unit("kubelet.service", stopped), "cp-3 → cp-1 → cp-2"),
        ("kubelet", unit("kubelet.service", Reason::Missing), "cp-3 → cp-1 → cp-2"),
        // Another restart is not an outage, nor is a file of any other kind.
        ("kubelet", unit("kubelet.service", Reason::Inputs { changed: Vec::new() }), "cp-1 → cp-2 → cp-3"),
        ("control-plane", changed(&api_server, content.clone()), "cp-1 → cp-2 → cp-3"),
        ("control-plane", changed(&api_server, Reason::Resumed), "cp-1 → cp-2 → cp-3"),
        ("certificates", file("/etc/kubernetes/pki/apiserver.crt"), "cp-1 → cp-2 → cp-3"),
    ];
    for (phase, change, order) in rows {
        let mut steps: Vec<Step> = full(&plan(3, 0, 0)).into_iter().filter(|step| step.id.phase == Phase::Certificates).collect();
        let broken = id(&format!("{phase}@cp-3"));
        steps.retain(|step| step.id != broken);
        steps.push(Step { changes: vec![change.clone()], ..Step::empty(broken) });
        let graph = build(&plan(3, 0, 0), Stage::Living, steps);
        assert_eq!(graph.order_text().unwrap(), order, "{change:?}");
    }

    // An upgrade still takes etcd of its own before any API server, a broken one too.
    let plan = plan(2, 3, 0);
    let mut steps = full(&plan);
    for (step, path) in [("etcd@etcd-2", &etcd), ("control-plane@cp-2", &api_server)] {
        let step = steps.iter_mut().find(|found| found.id == id(step)).unwrap();
        step.changes = vec![changed(path, Reason::Missing)];
    }
    let graph = build(&plan, Stage::Living, steps);
    assert_eq!(graph.order_text().unwrap(), "etcd-2 → etcd-1 → etcd-3 → cp-2 → cp-1");
}

#[test]
fn a_carrier_that_does_not_come_up_with_files_that_are_there_is_mended_first() {
    let plan = plan(3, 0, 1);
    let steps = || -> Vec<Step> { full(&plan).into_iter().filter(|step| step.id.phase == Phase::Certificates).collect() };
    let order = |steps, closed: &[Gate]| {
        let graph = StepGraph::mending(&plan, Stage::Living, steps, &plan.limits, &closed.iter().cloned().collect()).unwrap();
        graph.waves().carriers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    let etcd = |host: &str| Gate::EtcdHealthy(host.parse().unwrap());
    let api_server = |host: &str| Gate::ApiServerReady(host.parse().unwrap());
    assert_eq!(order(steps(), &[]), "cp-1 cp-2 cp-3");
    assert_eq!(order(steps(), &[etcd("cp-2"), api_server("cp-2")]), "cp-2 cp-1 cp-3");
    assert_eq!(order(steps(), &[api_server("cp-2"), etcd("cp-3")]), "cp-3 cp-2 cp-1", "a member before an API server");
    // What mends it may be in a phase that disrupts nobody; the others still wait until it is well.
    let mut steps: Vec<Step> = steps().into_iter().filter(|step| step.id.target.to_string() != "cp-3").collect();
    steps.push(step("runtime@cp-3"));
    assert_eq!(order(steps.clone(), &[]), "cp-1 cp-2");
    assert_eq!(order(steps.clone(), &[etcd("cp-3")]), "cp-3 cp-1 cp-2");
    let graph = StepGraph::mending(&plan, Stage::Living, steps, &plan.limits, &BTreeSet::from([etcd("cp-3")])).unwrap();
    assert!(comes_before(&graph, "runtime@cp-3", "certificates@cp-1") && comes_before(&graph, "healthy@cp-3", "certificates@cp-1"));
}

#[test]
fn carriers_are_asked_how_they_are_where_there_is_an_order() {
    let asked = |plan: &Plan, stage, steps: &[Step]| waves::doubts(plan, stage, steps).iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let (three, split) = (plan(3, 0, 1), plan(1, 3, 0));
    let steps = |names: &[&str]| names.iter().map(|name| step(name)).collect::<Vec<_>>();
    assert_eq!(asked(&three, Stage::Living, &steps(&["etcd@cp-1", "runtime@cp-3"])), "etcd on cp-1, etcd on cp-3, API server on cp-1, API server on cp-3");
    assert_eq!(asked(&split, Stage::Living, &full(&split)), "etcd on etcd-1, etcd on etcd-2, etcd on etcd-3, API server on cp-1");
    for (stage, names) in [
        (Stage::Fresh, vec!["etcd@cp-1", "etcd@cp-2"]),
        (Stage::Living, vec!["etcd@cp-1", "kubelet@w-1"]),
        (Stage::Living, vec!["runtime@cp-1", "runtime@cp-2", "formed@cp-1"]),
        (Stage::Living, vec![]),
    ] {
        assert_eq!(asked(&three, stage, &steps(&names)), "", "{names:?}");
    }
}

#[test]
fn workers_that_join_a_living_cluster_do_not_wait_for_each_other() {
    let plan = plan(1, 0, 3);
    let mut steps = Vec::new();
    for host in ["w-1", "w-2", "w-3"] {
        let mut kubelet = step(&format!("kubelet@{host}"));
        let stamp = crate::names::Digest::of("");
        let unit = Artifact::Unit { name: "kubelet.service".into(), inputs: Vec::new(), stamp, check: None };
        kubelet.changes.push(Change { artifact: unit, reason: Reason::Missing, before: None });
        steps.push(kubelet);
    }
    let graph = build(&plan, Stage::Living, steps);
    assert!(!comes_before(&graph, "kubelet@w-1", "certificates@w-2"));
    assert_eq!(graph.waves().joining.len(), 3);
}

/// A step in which the host's member joins etcd.
fn joining(host: &str, replaces: Option<u64>) -> Step {
    let replaces = replaces.map(crate::cluster::etcd::MemberId);
    let learner = Membership::Learner { host: host.parse().unwrap(), peer_url: String::new(), replaces, peers: Vec::new() };
    let mut etcd = step(&format!("etcd@{host}"));
    etcd.changes.insert(0, Change { artifact: Artifact::Membership(learner), reason: Reason::Missing, before: None });
    etcd
}

#[test]
fn a_member_joins_on_a_running_kubelet_and_its_api_server_follows() {
    let plan = plan(2, 0, 0);
    let mut steps: Vec<Step> = full(&plan).into_iter().filter(|step| step.id != id("etcd@cp-2")).collect();
    steps.push(joining("cp-2", None));
    let graph = build(&plan, Stage::Living, steps);
    for (earlier, later) in [("kubelet", "etcd"), ("etcd", "control-plane"), ("control-plane", "healthy")] {
        assert!(comes_before(&graph, &format!("{earlier}@cp-2"), &format!("{later}@cp-2")), "{earlier} {later}");
    }
    assert!(comes_before(&graph, "certificates@cp-2", "kubelet@cp-2"));
    assert!(comes_before(&graph, "etcd@cp-1", "kubelet@cp-1"), "elsewhere the kubelet is last");
    assert!(comes_before(&graph, "healthy@cp-1", "certificates@cp-2"));
    assert!(!comes_before(&graph, "healthy@cp-1", "images@cp-2"), "it is prepared meanwhile");
}

#[test]
fn lost_members_come_first_and_new_ones_last() {
    let order = |joins: &[(&str, Option<u64>)], plan: &Plan| {
        let mut steps: Vec<Step> = full(plan);
        steps.retain(|step| !joins.iter().any(|(host, _)| step.id == id(&format!("etcd@{host}"))));
        steps.extend(joins.iter().map(|(host, replaces)| joining(host, *replaces)));
        build(plan, Stage::Living, steps).waves().carriers.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let stacked = [("cp-1", None), ("cp-3", Some(7))];
    assert_eq!(order(&stacked, &plan(4, 0, 0)), ["cp-3", "cp-2", "cp-4", "cp-1"]);
    // API servers that name a member come after it has joined.
    assert_eq!(order(&[("etcd-1", None)], &plan(1, 2, 0)), ["etcd-2", "etcd-1", "cp-1"]);
}

#[test]
fn the_order_does_not_depend_on_the_order_of_the_input() {
    let plan = plan(3, 0, 2);
    let forward = build(&plan, Stage::Living, full(&plan));
    let backward = build(&plan, Stage::Living, full(&plan).into_iter().rev().collect());
    assert!(forward.steps().eq(backward.steps()));
    assert_eq!(forward.to_svg(), backward.to_svg());
}

#[test]
fn a_cycle_is_printed_whole() {
    let steps = ["system@a", "runtime@a", "etcd@a", "kubelet@a"].map(|text| Step::empty(id(text))).into();
    let edges =
        [("system@a", "runtime@a"), ("runtime@a", "etcd@a"), ("etcd@a", "kubelet@a"), ("kubelet@a", "runtime@a")];
    let error =
        StepGraph::assemble(Stage::Fresh, BTreeSet::new(), steps, edges.map(|(a, b)| (id(a), id(b)))).unwrap_err();
    assert_eq!(error.to_string(), "these steps wait for each other: runtime@a → etcd@a → kubelet@a → runtime@a");
}

#[test]
fn steps_out_of_place_are_refused() {
    let plan = plan(1, 0, 1);
    let refused = |steps| StepGraph::build(&plan, Stage::Fresh, steps, &plan.limits).unwrap_err();
    assert_eq!(refused(vec![step("etcd@w-1")]), GraphError::NoPlace(id("etcd@w-1")));
    assert_eq!(refused(vec![step("system@w-9")]), GraphError::NoPlace(id("system@w-9")));
    assert_eq!(refused(vec![step("etcd@cp-1"), step("etcd@cp-1")]), GraphError::Duplicate(id("etcd@cp-1")));
}

#[test]
fn gates_are_asked_only_where_something_changes_around_them() {
    let plan = plan(1, 0, 1);
    let gates = || {
        let gate = Gate::ApiServerReady("cp-1".parse().unwrap());
        vec![Step { gates: vec![gate], ..Step::empty(id("healthy@cp-1")) }]
    };
    let relevant = |steps: Vec<Step>| -> Vec<String> {
        let graph = build(&plan, Stage::Living, steps);
        graph
            .steps()
            .zip(graph.relevant())
            .filter(|(_, relevant)| *relevant)
            .map(|(step, _)| step.id.to_string())
            .collect()
    };
    assert_eq!(relevant(gates()), Vec::<String>::new());
    let with = |text: &str| relevant(gates().into_iter().chain([step(text)]).collect());
    assert_eq!(with("addons@cluster"), ["healthy@cp-1", "addons@cluster"]);
    assert_eq!(with("system@w-1"), ["system@w-1"]);
}

#[test]
fn a_selection_names_what_it_leaves_out_and_keeps_the_health_of_changed_hosts() {
    let plan = plan(3, 0, 1);
    let graph = build(&plan, Stage::Living, full(&plan));
    let selected = graph.select(&BTreeSet::new(), &BTreeSet::from([Phase::Etcd])).unwrap();
    let kept: Vec<String> =
        selected.steps().filter(|step| selected.is_selected(&step.id)).map(|step| step.id.to_string()).collect();
    assert_eq!(kept, ["etcd@cp-1", "healthy@cp-1", "etcd@cp-2", "healthy@cp-2", "etcd@cp-3", "healthy@cp-3"]);
    assert!(selected.left_out().any(|step| step.id == id("kubelet@w-1")));
    assert_eq!(selected.changes(), 3);
    let unknown =
        build(&plan, Stage::Living, Vec::new()).select(&BTreeSet::from(["x".parse().unwrap()]), &BTreeSet::new());
    assert_eq!(unknown.unwrap_err(), GraphError::NoHost("x".parse().unwrap()));
}

#[test]
fn the_longest_path_of_a_bootstrap_goes_through_the_images() {
    let plan = plan(3, 0, 2);
    insta::assert_snapshot!(build(&plan, Stage::Fresh, full(&plan)).to_text());
    insta::assert_snapshot!(build(&plan, Stage::Living, full(&plan)).to_text());
}

#[test]
fn a_long_path_is_told_by_its_ends() {
    let plan = plan(3, 0, 50);
    let text = build(&plan, Stage::Living, full(&plan)).to_text();
    assert!(text.contains("control-plane@cp-1 → kubelet@cp-1 → healthy@cp-1 → 103 more → "), "{text}");
}

#[test]
fn drawings_leave_out_implied_edges() {
    let plan = plan(1, 0, 0);
    let graph = build(&plan, Stage::Fresh, full(&plan));
    insta::assert_snapshot!(graph.to_dot());
    insta::assert_snapshot!(graph.to_mermaid());
}

#[test]
fn fifty_hosts_share_a_row_of_the_picture() {
    let plan = plan(3, 0, 50);
    let svg = build(&plan, Stage::Fresh, full(&plan)).to_svg();
    assert!(svg.contains("(50)") && svg.len() < 60_000, "{} bytes", svg.len());
    // For looking at: SLIPWAY_PICTURES=directory cargo test --lib graph
    if let Some(directory) = std::env::var_os("SLIPWAY_PICTURES").map(std::path::PathBuf::from) {
        let small = super::tests::plan(3, 0, 2);
        for (name, plan, stage) in [
            ("fresh", &small, Stage::Fresh),
            ("living", &small, Stage::Living),
            ("many", &plan, Stage::Fresh),
            ("many-living", &plan, Stage::Living),
        ] {
            std::fs::write(directory.join(format!("{name}.svg")), build(plan, stage, full(plan)).to_svg()).unwrap();
        }
    }
}
