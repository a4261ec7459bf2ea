//! Hosts come and go while the cluster lives: workers, control planes, a machine that was lost. Each
//! arrival is tried whole, from many seeds, and cut off anywhere; the world counts voters at every event.

use std::collections::BTreeSet;
use std::sync::Arc;

use slipway::phase::Target;
use slipway::plan::Plan;
use slipway::simulation::Simulation;

use crate::crashes::{Operation, survives};
use crate::plans::{beginning, cluster, host, names, plan, planned, settled, simulated, succeeded, text, voters};

/// A cluster of the first plan on the hosts of the second.
async fn living(before: &Arc<Plan>, after: &Arc<Plan>, seed: u64) -> Simulation {
    let simulation = Simulation::new(after, seed, beginning());
    succeeded(&simulation, before).await;
    simulation
}

/// The plan without some hosts. A cluster that may grow has an endpoint from its beginning.
fn growing(control_planes: usize, workers: usize, etcd: usize) -> Arc<Plan> {
    plan(&text(control_planes, workers, etcd, "endpoint: {localProxy: {}}\n"))
}

#[test]
fn members_join_one_after_another_and_nothing_is_lost() {
    let mut tried = 0;
    for (before, after, members) in [
        (growing(1, 0, 0), growing(3, 1, 0), names(&["cp-1", "cp-2", "cp-3"])),
        (growing(3, 1, 0), growing(5, 2, 0), names(&["cp-1", "cp-2", "cp-3", "cp-4", "cp-5"])),
        (growing(2, 0, 1), growing(2, 0, 3), names(&["etcd-1", "etcd-2", "etcd-3"])),
    ] {
        for seed in 0..if std::env::var_os("SLIPWAY_TORTURE").is_some() { 20 } else { 2 } {
            simulated(async {
                let simulation = living(&before, &after, seed).await;
                let objects = simulation.world().clusters.values().next().unwrap().objects.clone();
                succeeded(&simulation, &after).await;
                settled(&simulation, &after, "joined").await;
                assert_eq!(voters(&simulation), members);
                let world = simulation.world();
                let kept = &world.clusters.values().next().unwrap().objects;
                assert!(objects.keys().all(|id| kept.contains_key(id)), "what was stored is there");
                tried += 1;
            });
        }
    }
    println!("joins: {tried} clusters grew");
}

#[test]
fn a_machine_that_was_lost_is_replaced_before_anybody_else_is_touched() {
    simulated(async {
        let before = cluster(3, 1, "");
        let simulation = living(&before, &before, 3).await;
        simulation.world().replace(&host("cp-2"));
        let changed = cluster(3, 1, "etcd: {extraArgs: {quota-backend-bytes: 4294967296}}\n");
        let graph = planned(&simulation, &changed).await.graph;
        simulation.world().unlock_all();
        let order: Vec<&str> = graph.waves().carriers.iter().map(|host| host.as_str()).collect();
        assert_eq!(order, ["cp-2", "cp-1", "cp-3"]);
        succeeded(&simulation, &changed).await;
        settled(&simulation, &changed, "replaced").await;
        assert_eq!(voters(&simulation), names(&["cp-1", "cp-2", "cp-3"]));
        let world = simulation.world();
        let cluster = world.clusters.values().next().unwrap();
        assert_eq!(cluster.numbered, 4, "the lost member did not come back under its old number");
    });
}

#[test]
fn a_worker_that_joins_touches_nobody_else() {
    simulated(async {
        let (before, after) = (cluster(3, 1, ""), cluster(3, 2, ""));
        let simulation = living(&before, &after, 3).await;
        let graph = planned(&simulation, &after).await.graph;
        simulation.world().unlock_all();
        let changed = graph.steps().filter(|step| !step.changes.is_empty()).map(|step| step.id.target.clone());
        let others: BTreeSet<Target> = changed.filter(|target| *target != Target::Host(host("worker-2"))).collect();
        // Its pods' network is routed by all others.
        let mut allowed: BTreeSet<Target> = before.hosts.iter().map(|host| Target::Host(host.name.clone())).collect();
        allowed.insert(Target::Cluster);
        assert!(others.is_subset(&allowed) && graph.waves().carriers.is_empty(), "{others:?}");
        assert_eq!(graph.waves().joining, [host("worker-2")]);
        succeeded(&simulation, &after).await;
        settled(&simulation, &after, "joined").await;
    });
}

#[test]
fn a_worker_that_joins_is_cut_off_anywhere() {
    simulated(async {
        let after = cluster(3, 2, "");
        let start = living(&cluster(3, 1, ""), &after, 7).await;
        survives("worker joins", &start, &Operation::Apply(after)).await;
    });
}

#[test]
fn two_control_planes_that_join_one_are_cut_off_anywhere() {
    simulated(async {
        let after = growing(3, 1, 0);
        let start = living(&growing(1, 1, 0), &after, 7).await;
        survives("control planes join (1 to 3)", &start, &Operation::Apply(after)).await;
    });
}

#[test]
fn two_control_planes_that_join_three_are_cut_off_anywhere() {
    simulated(async {
        let after = growing(5, 0, 0);
        let start = living(&growing(3, 0, 0), &after, 7).await;
        survives("control planes join (3 to 5)", &start, &Operation::Apply(after)).await;
    });
}

#[test]
fn a_machine_that_is_replaced_is_cut_off_anywhere() {
    simulated(async {
        let plan = cluster(3, 0, "");
        let start = living(&plan, &plan, 7).await;
        start.world().replace(&host("cp-2"));
        survives("replacement", &start, &Operation::Apply(plan)).await;
    });
}
