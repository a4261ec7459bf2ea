//! Hosts that were deleted from the plan file leave the cluster by the next `apply`: in order, one member at
//! a time, whether they answer or not, after whoever comes in their place; and cut off anywhere it ends the
//! same. Nodes that slipway did not mark are left alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use slipway::departed::HOST_ANNOTATION;
use slipway::phase::{Phase, StepId, Target};
use slipway::plan::Plan;
use slipway::simulation::Simulation;
use slipway::simulation::fingerprint::Fingerprint;

use crate::crashes::{Operation, survives};
use crate::plans::{beginning, host, names, plan, planned, settled, simulated, succeeded, text, voters};

/// A plan with these hosts of a larger one, in whose world everything happens.
pub fn part(all: &Plan, names: &[&str]) -> Arc<Plan> {
    let mut plan = all.clone();
    plan.hosts.retain(|host| names.contains(&host.name.as_str()));
    assert_eq!(plan.hosts.len(), names.len());
    Arc::new(plan)
}

fn everyone() -> Arc<Plan> {
    plan(&text(5, 3, 0, "endpoint: {localProxy: {}}\n"))
}

async fn living(before: &Arc<Plan>) -> Simulation {
    let simulation = Simulation::new(&everyone(), 11, beginning());
    succeeded(&simulation, before).await;
    simulation
}

pub fn nodes(simulation: &Simulation) -> BTreeSet<String> {
    let world = simulation.world();
    let objects = world.clusters.values().flat_map(|cluster| cluster.objects.keys().cloned().collect::<Vec<_>>());
    objects.filter_map(|id| id.strip_prefix("Node/").map(str::to_owned)).collect()
}

/// What a host is, of a fingerprint.
pub fn of(print: &Fingerprint, host: &str) -> Fingerprint {
    let own = print.iter().filter(|(name, _)| name.starts_with(&format!("{host}: ")));
    own.map(|(name, text)| (name.clone(), text.clone())).collect()
}

/// Sets or takes away the mark of a Node.
fn marked(simulation: &Simulation, name: &str, mark: Option<&str>) {
    let mut world = simulation.world();
    let cluster = world.clusters.values_mut().next().unwrap();
    let annotations = cluster.objects.get_mut(&format!("Node/{name}")).unwrap().pointer_mut("/metadata/annotations").unwrap();
    match mark {
        Some(mark) => annotations[HOST_ANNOTATION] = mark.into(),
        None => _ = annotations.as_object_mut().unwrap().remove(HOST_ANNOTATION),
    }
}

/// Why a plan is refused, and that nothing was changed.
pub async fn refused(simulation: &Simulation, plan: &Arc<Plan>) -> String {
    let before = simulation.world().fingerprint();
    let failure = simulation.plan(plan).await.err().expect("it is refused");
    simulation.world().unlock_all();
    assert_eq!(simulation.world().fingerprint(), before);
    failure.to_string()
}

#[test]
fn a_host_deleted_from_the_plan_leaves_and_its_machine_is_as_delivered() {
    simulated(async {
        let (before, after) = (part(&everyone(), &["cp-1", "cp-2", "cp-3", "worker-1", "worker-2"]), part(&everyone(), &["cp-1", "cp-2", "worker-1"]));
        let simulation = living(&before).await;
        let delivered = Simulation::new(&everyone(), 11, beginning()).world().fingerprint();
        let graph = planned(&simulation, &after).await.graph;
        simulation.world().unlock_all();
        assert_eq!(graph.waves().leaving, [host("cp-3"), host("worker-2")]);
        let changes = |phase, name| -> Vec<String> {
            let step = graph.step(&StepId { phase, target: Target::Host(host(name)) }).expect("it leaves");
            step.changes.iter().map(|change| change.artifact.id()).collect()
        };
        assert_eq!(
            changes(Phase::Leave, "cp-3"),
            ["pods on Node/cp-3", "/etc/kubernetes/manifests/kube-apiserver.yaml", "etcd member cp-3 (https://192.0.2.13:2380)"]
        );
        assert_eq!(changes(Phase::Leave, "worker-2"), ["pods on Node/worker-2"]);
        assert_eq!(changes(Phase::Reset, "worker-2").last().unwrap(), "Node/worker-2", "the Node goes last: it is what the next run would find");
        succeeded(&simulation, &after).await;
        settled(&simulation, &after, "left").await;
        assert_eq!((voters(&simulation), nodes(&simulation)), (names(&["cp-1", "cp-2"]), names(&["cp-1", "cp-2", "worker-1"])));
        let print = simulation.world().fingerprint();
        for name in ["cp-3", "worker-2"] {
            assert_eq!(of(&print, name), of(&delivered, name), "{name}");
        }
    });
}

#[test]
fn five_become_three_and_one_and_whoever_is_replaced_waits_for_the_successor() {
    simulated(async {
        let simulation = living(&part(&everyone(), &["cp-1", "cp-2", "cp-3", "cp-4", "cp-5"])).await;
        for left in [&["cp-2", "cp-4", "cp-5"][..], &["cp-1", "cp-4", "cp-5"], &["cp-4"], &["cp-4", "cp-2", "cp-3"]] {
            let after = part(&everyone(), left);
            let graph = planned(&simulation, &after).await.graph;
            simulation.world().unlock_all();
            succeeded(&simulation, &after).await;
            settled(&simulation, &after, "changed").await;
            assert_eq!((voters(&simulation), nodes(&simulation)), (names(left), names(left)));
            let made = simulation.world().made.clone();
            if let (Some(joined), Some(gone)) = (
                made.iter().rposition(|(_, artifact)| artifact.starts_with("vote of etcd member cp-1")),
                made.iter().rposition(|(_, artifact)| artifact.starts_with("etcd member cp-2")),
            ) {
                assert!(joined < gone, "cp-1 came before cp-2 went");
            }
            assert!(graph.waves().leaving.iter().all(|host| !left.contains(&host.as_str())));
        }
    });
}

#[test]
fn a_host_that_does_not_answer_is_taken_out_before_its_successor_joins() {
    simulated(async {
        let simulation = living(&part(&everyone(), &["cp-1", "cp-2", "cp-3", "worker-1"])).await;
        let after = part(&everyone(), &["cp-1", "cp-2", "cp-4", "worker-1"]);
        simulation.world().host_mut(&host("cp-3")).reachable = false;
        let planned = planned(&simulation, &after).await;
        let warnings = planned.warnings();
        assert!(warnings.contains("host cp-3: it left the plan and is taken out of the cluster, but its machine is NOT reset"), "{warnings}");
        assert!(!warnings.contains("etcd-stranger"), "{warnings}");
        simulation.world().hosts.values_mut().for_each(|host| host.lock = None);
        let left = of(&simulation.world().fingerprint(), "cp-3");
        succeeded(&simulation, &after).await;
        settled(&simulation, &after, "replaced").await;
        assert_eq!((voters(&simulation), nodes(&simulation)), (names(&["cp-1", "cp-2", "cp-4"]), names(&["cp-1", "cp-2", "cp-4", "worker-1"])));
        let made = simulation.world().made.clone();
        let place = |text: &str| made.iter().position(|(_, artifact)| artifact.starts_with(text)).unwrap_or_else(|| panic!("{text} in {made:?}"));
        assert!(place("etcd member cp-3") < place("etcd learner cp-4"));
        let found = of(&simulation.world().fingerprint(), "cp-3");
        let touched: Vec<&String> = left.iter().filter(|(name, text)| found.get(*name) != Some(*text) && !name.contains("pod ")).map(|(name, _)| name).collect();
        assert_eq!(touched, Vec::<&String>::new(), "nothing on it was touched");
    });
}

#[test]
fn a_departure_that_would_end_the_quorum_is_refused() {
    simulated(async {
        let simulation = living(&part(&everyone(), &["cp-1", "cp-2", "cp-3", "worker-1"])).await;
        let after = part(&everyone(), &["cp-1", "cp-2", "worker-1"]);
        simulation.world().host_mut(&host("cp-2")).pods.remove("etcd");
        let reason = refused(&simulation, &after).await;
        assert!(reason.contains("without cp-3, which left the plan, etcd would lose its quorum: 1 of the 2 members that stay are healthy, 2 are needed"), "{reason}");
    });
}

#[test]
fn no_control_plane_leaves_in_the_middle_of_an_upgrade() {
    simulated(async {
        let simulation = living(&part(&everyone(), &["cp-1", "cp-2", "cp-3", "worker-1"])).await;
        let mut after = Plan::clone(&part(&everyone(), &["cp-1", "cp-2", "worker-1"]));
        after.kubernetes.version = "v1.34.3".parse().unwrap();
        let reason = refused(&simulation, &Arc::new(after)).await;
        assert!(reason.contains("host cp-3 left the plan while the cluster goes to v1.34.3: its API server is v1.34.2"), "{reason}");
    });
}

#[test]
fn nodes_without_the_mark_and_marks_that_lead_astray_are_left_alone() {
    simulated(async {
        let simulation = living(&part(&everyone(), &["cp-1", "cp-2", "cp-3", "worker-1", "worker-2"])).await;
        let after = part(&everyone(), &["cp-1", "cp-2", "cp-3", "worker-1"]);
        let own = slipway::departed::mark(&everyone(), everyone().host(&host("worker-2")).unwrap());
        let other_port = own.replacen("192.0.2.102", "192.0.2.11", 1);
        assert_ne!(own, other_port);
        let option = own.replacen("\"roles\"", "\"user\":\"-oProxyCommand=x\",\"roles\"", 1);
        for (mark, why) in [
            (None, "slipway did not mark it"),
            (Some("{}"), "cannot be read"),
            (Some(other_port.as_str()), "leads to host cp-1 of the plan"),
            (Some(option.as_str()), "holds what no plan may have"),
        ] {
            marked(&simulation, "worker-2", mark);
            let planned = planned(&simulation, &after).await;
            simulation.world().unlock_all();
            assert!(planned.warnings().contains(why), "{why}: {}", planned.warnings());
            let touched: Vec<&StepId> = planned.graph.steps().map(|step| &step.id).filter(|id| id.target == Target::Host(host("worker-2"))).collect();
            assert_eq!(touched, Vec::<&StepId>::new(), "{why}");
        }
    });
}

#[test]
fn hosts_that_leave_are_cut_off_anywhere() {
    simulated(async {
        let start = living(&part(&everyone(), &["cp-1", "cp-2", "cp-3", "worker-1", "worker-2"])).await;
        survives("hosts leave the plan", &start, &Operation::Apply(part(&everyone(), &["cp-1", "cp-2", "worker-1"]))).await;
    });
}

#[test]
fn a_control_plane_that_is_replaced_by_the_plan_is_cut_off_anywhere() {
    simulated(async {
        let start = living(&part(&everyone(), &["cp-1", "cp-2", "cp-3"])).await;
        survives("replaced by the plan", &start, &Operation::Apply(part(&everyone(), &["cp-1", "cp-2", "cp-4"]))).await;
    });
}
