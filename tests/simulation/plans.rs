//! Plans to simulate, and what every simulation ends with.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use slipway::artifact::Artifact;
use slipway::names::HostName;
use slipway::plan::Plan;
use slipway::plan::load::parse;
use slipway::planning::Planned;
use slipway::report::Report;
use slipway::simulation::{Simulation, SimulatedCluster};

/// The time at which every simulation begins.
pub fn beginning() -> Timestamp {
    "2026-11-21T03:00:00Z".parse().unwrap()
}

pub fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

/// A plan from YAML; keys are of the kind that is made fast.
pub fn plan(text: &str) -> Arc<Plan> {
    let (plan, _) = parse(text).unwrap_or_else(|problems| panic!("{text}\n{problems:?}"));
    Arc::new(plan)
}

/// A cluster of that many control planes and workers; `more` are other fields.
pub fn cluster(control_planes: usize, workers: usize, more: &str) -> Arc<Plan> {
    plan(&text(control_planes, workers, 0, more))
}

/// The plan file of such a cluster, with dedicated etcd hosts if asked for.
pub fn text(control_planes: usize, workers: usize, etcd: usize, more: &str) -> String {
    let mut hosts = String::new();
    for (role, prefix, count, base) in
        [("control-plane", "cp", control_planes, 10), ("worker", "worker", workers, 100), ("etcd", "etcd", etcd, 200)]
    {
        for index in 1..=count {
            hosts.push_str(&format!("  - {{name: {prefix}-{index}, address: 192.0.2.{}, roles: [{role}]}}\n", base + index));
        }
    }
    let endpoint = if more.contains("endpoint:") || control_planes == 1 { "" } else { "endpoint: {localProxy: {}}\n" };
    format!("version: 1\nname: simulated\nkubernetes: {{version: v1.34.2}}\npki: {{algorithm: ECDSA-P256}}\n{endpoint}{more}hosts:\n{hosts}")
}

/// Runs on a paused clock.
pub fn simulated<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(work)
}

/// Plans, or says why not.
pub async fn planned(simulation: &Simulation, plan: &Arc<Plan>) -> Planned<SimulatedCluster> {
    match simulation.plan(plan).await {
        Ok(planned) => planned,
        Err(failure) => panic!("{failure}"),
    }
}

/// Plans and carries out.
pub async fn applied(simulation: &Simulation, plan: &Arc<Plan>) -> Option<Report> {
    let planned = planned(simulation, plan).await;
    simulation.carry_out(&planned.graph, &planned.cluster, &plan.limits, |_| {}).await
}

/// The same, and everything must go well.
pub async fn succeeded(simulation: &Simulation, plan: &Arc<Plan>) {
    let report = applied(simulation, plan).await.expect("nobody kills it");
    let failures: Vec<String> = report.failures().map(ToString::to_string).collect();
    assert!(report.succeeded(), "{failures:#?}");
}

/// Nothing is left to do, nothing runs with old files, and no rule was broken.
pub async fn settled(simulation: &Simulation, plan: &Arc<Plan>, context: &str) {
    settled_but_for(simulation, plan, context, |_| false).await;
}

/// The same, but these artifacts may be left to do.
pub async fn settled_but_for(simulation: &Simulation, plan: &Arc<Plan>, context: &str, may_be_left: impl Fn(&Artifact) -> bool) {
    let planned = planned(simulation, plan).await;
    simulation.world().unlock_all();
    let left: Vec<String> = planned
        .graph
        .steps()
        .flat_map(|step| step.changes.iter().map(move |change| (step, change)))
        .filter(|(_, change)| !may_be_left(&change.artifact))
        .map(|(step, change)| format!("{}: {} {}", step.id, change.artifact.id(), change.reason))
        .collect();
    assert_eq!(left, Vec::<String>::new(), "{context}: left to do");
    let world = simulation.world();
    assert_eq!(world.violations, Vec::<String>::new(), "{context}: rules were broken");
    assert_eq!(world.stale(), Vec::<String>::new(), "{context}: something runs with old files");
}

/// The names of etcd's members that have a vote.
pub fn voters(simulation: &Simulation) -> BTreeSet<String> {
    let world = simulation.world();
    assert_eq!(world.clusters.len(), 1, "one etcd");
    world.clusters.values().flat_map(|cluster| cluster.voters().map(|member| member.name.clone())).collect()
}

pub fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}
