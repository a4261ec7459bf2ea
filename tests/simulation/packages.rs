//! Kubernetes from packages on simulated hosts: installed and held, changed in each host's turn, cut off
//! anywhere and finished by the next run, and gone after a reset.

use std::sync::Arc;

use slipway::plan::Plan;
use slipway::simulation::Simulation;

use crate::crashes::{Operation, living, survives};
use crate::plans::{beginning, host, plan, simulated};

fn packaged(version: &str) -> Arc<Plan> {
    const MORE: &str = "binaries: {kubelet: packages, kubectl: packages}\npackages: {key: {file: Release.key, fingerprint: '0000000000000000000000000000000000000000'}}\n";
    let mut text = crate::plans::text(1, 1, 0, MORE);
    text = text.replace("v1.34.2", version);
    plan(&text)
}

/// The packages of a host, as `NAME VERSION held`.
fn packages(simulation: &Simulation, name: &str) -> Vec<String> {
    let world = simulation.world();
    world.hosts[&host(name)].packages.iter().map(|(name, found)| format!("{name} {} {}", found.version, found.held)).collect()
}

#[test]
fn a_bootstrap_and_an_upgrade_with_packages_are_cut_off_anywhere() {
    simulated(async {
        let (old, new) = (packaged("v1.34.1"), packaged("v1.34.2"));
        survives("bootstrap with packages", &Simulation::new(&old, 7, beginning()), &Operation::Apply(Arc::clone(&old))).await;
        let simulation = living(&old).await;
        assert_eq!(packages(&simulation, "worker-1"), ["kubectl 1.34.1-1.1 true", "kubelet 1.34.1-1.1 true"]);
        survives("upgrade with packages", &simulation, &Operation::Apply(Arc::clone(&new))).await;
        crate::plans::succeeded(&simulation, &new).await;
        assert_eq!(packages(&simulation, "worker-1"), ["kubectl 1.34.2-1.1 true", "kubelet 1.34.2-1.1 true"]);
        assert_eq!(simulation.world().hosts[&host("worker-1")].kubelet_running, "v1.34.2");
    });
}

#[test]
fn a_reset_takes_packages_away_and_a_hold_that_is_gone_is_mended() {
    simulated(async {
        let wanted = packaged("v1.34.2");
        let simulation = living(&wanted).await;
        simulation.world().host_mut(&host("worker-1")).packages.get_mut("kubelet").expect("it is installed").held = false;
        crate::plans::succeeded(&simulation, &wanted).await;
        assert_eq!(packages(&simulation, "worker-1"), ["kubectl 1.34.2-1.1 true", "kubelet 1.34.2-1.1 true"]);
        survives("reset with packages", &simulation, &Operation::Reset(wanted, Vec::new())).await;
    });
}
