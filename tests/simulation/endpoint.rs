//! The way to the API servers changes in a cluster that lives: certificates, kubeconfigs and objects
//! follow, the new way is there before anybody takes it, and the old one goes when nobody does.

use std::sync::Arc;

use slipway::graph::StepGraph;
use slipway::phase::Phase;
use slipway::plan::Plan;
use slipway::simulation::Simulation;

use crate::crashes::{Operation, living, survives};
use crate::plans::{cluster, host, planned, simulated};

const VIP: &str = "endpoint: {vip: {address: 192.0.2.250}}\n";
const LOCAL: &str = "endpoint: {localProxy: {}}\n";
const EXTERNAL: &str = "endpoint: {external: {address: api.example.test}}\n";

fn plan(endpoint: &str) -> Arc<Plan> {
    cluster(3, 2, endpoint)
}

/// Names of the pods of slipway's own that run on a host.
fn own_pods(simulation: &Simulation, name: &str) -> Vec<String> {
    simulation.world().hosts[&host(name)].pods.keys().filter(|pod| pod.starts_with("slipway-")).cloned().collect()
}

/// The server that a file of a host names.
fn server(simulation: &Simulation, name: &str, path: &str) -> String {
    let world = simulation.world();
    let text = world.hosts[&host(name)].text(path).expect("it is there");
    text.lines().find_map(|line| line.trim().strip_prefix("server: ")).expect("a server").to_owned()
}

/// Steps of the phase are there, and come after all of the others.
fn come_last(graph: &StepGraph, phase: Phase) {
    let order: Vec<Phase> = graph.steps().map(|step| step.id.phase).collect();
    let first = order.iter().position(|step| *step == phase).unwrap_or_else(|| panic!("no step of {phase}"));
    assert!(order[first..].iter().all(|step| *step == phase), "{order:?}");
}

#[test]
fn the_old_way_goes_when_everybody_has_taken_the_new_one() {
    simulated(async {
        for (from, to) in [(EXTERNAL, VIP), (VIP, LOCAL), (LOCAL, VIP), (VIP, EXTERNAL)] {
            let simulation = living(&plan(from)).await;
            let planned = planned(&simulation, &plan(to)).await;
            simulation.world().unlock_all();
            let changed: Vec<String> = planned
                .graph
                .steps()
                .flat_map(|step| step.changes.iter().map(move |change| format!("{} {}", step.id, change.artifact.id())))
                .collect();
            let has = |wanted: &str| assert!(changed.iter().any(|change| change == wanted), "{from} to {to}: no {wanted} in {changed:#?}");
            has("certificates@worker-1 /etc/kubernetes/kubelet.conf");
            has("cluster-objects@cluster ConfigMap/kube-system/kubeadm-config");
            has("addons@cluster ConfigMap/kube-system/kube-proxy");
            if to != EXTERNAL {
                has("certificates@cp-1 /etc/kubernetes/pki/apiserver.crt");
            }
            if from != EXTERNAL {
                come_last(&planned.graph, Phase::FormerEndpoint);
            }
        }
    });
}

#[test]
fn each_host_ends_with_the_pods_and_the_server_of_the_new_endpoint() {
    simulated(async {
        let simulation = living(&plan(LOCAL)).await;
        assert_eq!((own_pods(&simulation, "cp-2"), own_pods(&simulation, "worker-1")), (vec![], vec!["slipway-api-proxy".to_owned()]));
        for (to, control_plane, worker, node, admin) in [
            (VIP, Some("slipway-api-vip"), None, "https://192.0.2.250:8443", "https://192.0.2.250:8443"),
            (LOCAL, None, Some("slipway-api-proxy"), "https://127.0.0.1:6443", "https://192.0.2.12:6443"),
            (EXTERNAL, None, None, "https://api.example.test:6443", "https://api.example.test:6443"),
        ] {
            crate::plans::succeeded(&simulation, &plan(to)).await;
            assert_eq!(own_pods(&simulation, "cp-2"), control_plane.into_iter().map(str::to_owned).collect::<Vec<_>>(), "{to}");
            assert_eq!(own_pods(&simulation, "worker-1"), worker.into_iter().map(str::to_owned).collect::<Vec<_>>(), "{to}");
            assert_eq!(server(&simulation, "worker-1", "/etc/kubernetes/kubelet.conf"), node);
            assert_eq!(server(&simulation, "cp-2", "/etc/kubernetes/admin.conf"), admin);
            crate::plans::settled(&simulation, &plan(to), to).await;
        }
    });
}

#[test]
fn a_bootstrap_with_a_virtual_address_is_cut_off_anywhere() {
    simulated(async {
        let plan = plan(VIP);
        let start = Simulation::new(&plan, 7, crate::plans::beginning());
        survives("bootstrap with a virtual address", &start, &Operation::Apply(plan)).await;
    });
}

#[test]
fn a_change_of_the_endpoint_is_cut_off_anywhere() {
    simulated(async {
        survives("from an external endpoint to a virtual address", &living(&plan(EXTERNAL)).await, &Operation::Apply(plan(VIP))).await;
        survives("from a virtual address to local proxies", &living(&plan(VIP)).await, &Operation::Apply(plan(LOCAL))).await;
    });
}
