//! Members of etcd and API servers let each other in only with certificates that the other's CAs signed. So a
//! replacement of CAs in its four states never costs the quorum, and one that leaves a state out does.

use std::collections::BTreeSet;
use std::sync::Arc;

use slipway::graph::{Step, StepGraph};
use slipway::phase::{Stage, Target};
use slipway::plan::Plan;
use slipway::simulation::Simulation;
use slipway::trust::rotation::{self, Aim, Aims};
use slipway::trust::specification::{Authority, ClusterPair};

use crate::crashes::{Operation, living, next_state};
use crate::plans::{cluster, host, plan, simulated, text};

const ETCD: ClusterPair = ClusterPair::Authority(Authority::Etcd);

fn own_etcd() -> Arc<Plan> {
    plan(&text(2, 0, 3, "endpoint: {localProxy: {}}\n"))
}

/// How many voting members of etcd reach each other.
fn together(simulation: &Simulation) -> usize {
    let world = simulation.world();
    let now = world.elapsed();
    world.clusters.keys().map(|id| world.up(id, now).len()).sum()
}

/// A cluster whose next CAs are made, and that trusts none of them yet.
async fn prepared(plan: &Arc<Plan>) -> Simulation {
    let simulation = living(plan).await;
    let aims = next_state(&simulation, plan).await;
    Operation::Rotation(Arc::clone(plan), aims).finish(&simulation, "made").await;
    simulation
}

/// Signs with etcd's next CA before anybody trusts it.
fn too_early() -> Aims {
    Aims::from([(ETCD, Aim { step: rotation::Step::SignNew, retire: false })])
}

/// Where members are on the control planes, `crashes` shows the same, cut off anywhere.
#[test]
fn a_replacement_in_four_states_never_costs_the_quorum() {
    simulated(async {
        let plan = own_etcd();
        let simulation = living(&plan).await;
        let mut states = 0;
        loop {
            let aims = next_state(&simulation, &plan).await;
            let ends = aims.values().any(|aim| aim.retire);
            // It ends with nothing left to do and no rule broken: the world counts at every effect who is left.
            Operation::Rotation(Arc::clone(&plan), aims).finish(&simulation, "state").await;
            assert_eq!(together(&simulation), 3);
            states += 1;
            if ends {
                break;
            }
        }
        assert_eq!(states, 5, "made, trusted, signs, trusted alone, tidied");
    });
}

/// The first member that shows the new certificate is let in by nobody, so no second one is changed.
#[test]
fn a_state_that_is_left_out_stops_at_the_first_member() {
    simulated(async {
        let plan = cluster(3, 1, "");
        let simulation = prepared(&plan).await;
        let planned = simulation.plan_towards(&plan, too_early()).await.unwrap_or_else(|failure| panic!("{failure}"));
        let report = simulation.carry_out(&planned.graph, &planned.cluster, &plan.limits, |_| {}).await.unwrap();
        assert!(!report.succeeded());
        assert_eq!((together(&simulation), simulation.world().violations.clone()), (2, Vec::new()));
    });
}

#[test]
fn the_world_sees_a_quorum_that_is_lost_to_certificates() {
    simulated(async {
        let plan = cluster(3, 1, "");
        let simulation = prepared(&plan).await;
        let planned = simulation.plan_towards(&plan, too_early()).await.unwrap_or_else(|failure| panic!("{failure}"));
        simulation.world().unlock_all();
        // The same steps without order and gates.
        let of_hosts = planned.graph.steps().filter(|step| matches!(step.id.target, Target::Host(_)) && !step.changes.is_empty());
        let steps: Vec<Step> = of_hosts.map(|step| Step { before: Vec::new(), gates: Vec::new(), ..step.clone() }).collect();
        let graph = StepGraph::assemble(Stage::Fresh, BTreeSet::new(), steps, []).unwrap();
        simulation.carry_out(&graph, &planned.cluster, &plan.limits, |_| {}).await.unwrap();
        let broken = simulation.world().violations.clone();
        assert!(broken.iter().any(|broken| broken.contains("leaves 1 of 3 etcd members up")), "{broken:?}");
    });
}

/// A member restarts with what is in its files; until then it trusts what it had read.
#[test]
fn a_ca_takes_effect_with_a_restart_and_a_certificate_at_once() {
    simulated(async {
        let plan = own_etcd();
        let simulation = prepared(&plan).await;
        let other = living(&plan).await;
        let copied = |simulation: &Simulation, file: &str| {
            let path = slipway::names::RemotePath::fixed(&format!("/etc/kubernetes/pki/etcd/{file}"));
            let entry = other.world().hosts[&host("etcd-3")].files[&path].clone();
            simulation.world().host_mut(&host("etcd-3")).files.insert(path, entry);
        };
        let server = |simulation: &Simulation| {
            let mut world = simulation.world();
            let now = world.elapsed();
            world.api_server(&host("cp-1"), now).map(drop)
        };
        copied(&simulation, "ca.crt");
        assert_eq!(together(&simulation), 3, "another CA is only in a file");
        copied(&simulation, "peer.crt");
        assert_eq!(together(&simulation), 2, "its certificate is another cluster's");
        assert_eq!(server(&simulation), Ok(()), "two members are left to ask");
        for name in ["etcd-1", "etcd-2"] {
            let path = slipway::names::RemotePath::fixed("/etc/kubernetes/pki/etcd/server.crt");
            let entry = other.world().hosts[&host(name)].files[&path].clone();
            simulation.world().host_mut(&host(name)).files.insert(path, entry);
        }
        assert_eq!(together(&simulation), 2, "members show each other another certificate");
        let refused = server(&simulation).unwrap_err();
        assert!(refused.contains("etcd on etcd-"), "{refused}");
    });
}
