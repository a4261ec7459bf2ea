//! A kubelet that was started anew and is never heard: its Node stays ready for a while by the word of the
//! one before, and nobody may take that for the new one's.

use std::collections::BTreeSet;
use std::sync::Arc;

use slipway::cluster::Cluster as _;
use slipway::names::Span;
use slipway::phase::{Phase, StepId, Target};
use slipway::plan::Plan;
use slipway::report::Report;
use slipway::restart::{self, Request};
use slipway::simulation::{Fault, Moment, Point, Simulation};

use crate::crashes::living;
use crate::plans::{applied, cluster, host, planned, settled, simulated, succeeded};

const UNHEARD: &str = "its kubelet has not reported since it was started";

/// Gates end long before the Node's old word is forgotten: whatever does not wait for the new one is met.
fn with(workers: usize, more: &str) -> Arc<Plan> {
    cluster(1, workers, &format!("limits: {{gateTimeout: 10s}}\n{more}"))
}

/// Such a cluster, on which a kubelet of worker-1 that is started from now on is not heard.
async fn with_a_mute_one(workers: usize) -> Simulation {
    let simulation = living(&cluster(1, workers, "")).await;
    simulation.world().faults.push(Fault::Mute(host("worker-1")));
    simulation
}

/// Whether the API says that worker-1 is ready.
async fn seems_ready(simulation: &Simulation, plan: &Arc<Plan>) -> bool {
    simulation.cluster(Arc::clone(plan)).nodes_seen().await.unwrap().of_plan[&host("worker-1")].ready
}

fn failures(report: &Report) -> Vec<String> {
    report.failures().map(ToString::to_string).collect()
}

fn is_cordoned(simulation: &Simulation, name: &str) -> bool {
    let world = simulation.world();
    world.clusters.values().any(|cluster| cluster.objects[&format!("Node/{name}")]["spec"]["unschedulable"] == true)
}

#[test]
fn a_kubelet_that_is_not_heard_after_its_restart_keeps_its_node_from_being_ready() {
    simulated(async {
        let simulation = with_a_mute_one(1).await;
        let plan = with(1, "kubelet: {configuration: {maxPods: 120}}\n");
        let report = applied(&simulation, &plan).await.expect("nobody kills it");
        assert!(seems_ready(&simulation, &plan).await, "its Node is still what the kubelet before said of it");
        let failures = failures(&report);
        assert!(failures.len() == 1 && failures[0].starts_with("ready on cluster: waiting for node worker-1") && failures[0].contains(UNHEARD), "{failures:#?}");

        simulation.world().faults.clear();
        succeeded(&simulation, &plan).await;
        settled(&simulation, &plan, "heard again").await;
    });
}

#[test]
fn a_node_that_was_emptied_is_not_given_back_by_an_old_word_even_by_the_run_after_one_that_died() {
    simulated(async {
        let plan = with(2, "kubelet: {configuration: {cpuManagerPolicy: static, reservedSystemCPUs: '0'}}\n");
        for killed in [false, true] {
            let simulation = with_a_mute_one(2).await;
            if killed {
                let step = StepId { phase: Phase::KubeletUpgrade, target: Target::Host(host("worker-1")) };
                let point = Point { step, artifact: "unit kubelet.service".into() };
                simulation.world().faults.push(Fault::Kill(point, Moment::After));
                assert!(applied(&simulation, &plan).await.is_none(), "it dies when the kubelet was started");
            }
            let planned = planned(&simulation, &plan).await;
            assert!(seems_ready(&simulation, &plan).await);
            let report = simulation.carry_out(&planned.graph, &planned.cluster, &plan.limits, |_| {}).await.expect("nobody kills it");
            let failures = failures(&report);
            let expected = "kubelet-upgrade on worker-1: return of Node/worker-1";
            assert!(failures.len() == 1 && failures[0].starts_with(expected), "killed: {killed}: {failures:#?}");
            assert!(is_cordoned(&simulation, "worker-1") && !is_cordoned(&simulation, "worker-2"), "killed: {killed}");

            simulation.world().faults.clear();
            succeeded(&simulation, &plan).await;
            settled(&simulation, &plan, "heard again").await;
            assert!(!is_cordoned(&simulation, "worker-1"), "killed: {killed}");
        }
    });
}

#[test]
fn a_node_that_was_restarted_on_request_is_waited_for_until_it_is_heard() {
    simulated(async {
        let simulation = with_a_mute_one(2).await;
        let plan = with(2, "");
        let cluster = simulation.cluster(Arc::clone(&plan));
        let nodes = cluster.nodes_seen().await.unwrap().of_plan;
        let hosts = BTreeSet::from([host("worker-1")]);
        let request = Request { plan: &plan, hosts: &hosts, nodes: &nodes, machine: false, drain: Some(Span::seconds(60)) };
        let graph = restart::graph(request).unwrap();
        let report = simulation.carry_out(&graph, &cluster, &plan.limits, |_| {}).await.expect("nobody kills it");
        let failures = failures(&report);
        assert!(failures.len() == 1 && failures[0].contains("Node/worker-1 to run again"), "{failures:#?}");
        assert!(is_cordoned(&simulation, "worker-1"));
    });
}

#[test]
fn a_host_that_is_gone_while_its_gate_is_waited_for_ends_its_step_at_once_and_the_next_run_goes_on() {
    simulated(async {
        let before = cluster(1, 2, "");
        let simulation = living(&before).await;
        let plan = cluster(1, 2, "kubelet: {configuration: {maxPods: 120}}\n");
        let step = StepId { phase: Phase::Kubelet, target: Target::Host(host("worker-1")) };
        let gate = "kubelet on worker-1".to_owned();
        simulation.world().faults.push(Fault::Gone(Point { step: step.clone(), artifact: gate }));
        let report = applied(&simulation, &plan).await.expect("nobody kills it");
        let failures = failures(&report);
        let expected = "kubelet on worker-1: waiting for kubelet on worker-1: the connection to host worker-1 was lost, and the host's lock with it";
        assert!(failures.len() == 1 && failures[0].starts_with(expected), "{failures:#?}");
        let took = report.steps[&step].elapsed;
        assert!(took < plan.limits.gate_timeout.0 / 4, "it was waited for {took:?}");

        succeeded(&simulation, &plan).await;
        settled(&simulation, &plan, "reached again").await;
    });
}
