//! Being cut off anywhere costs nothing: every change of an operation is cut off before, within and
//! after its effect, and with its reply lost, and every gate with the engine's death; then the operation
//! is run again, and must end as if nothing had happened.
//!
//! A new operation is one test with `survives`. The test command tries a part of the points that
//! moves through all kinds of them; `SLIPWAY_TORTURE=1` tries every one.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::SignedDuration;
use slipway::eviction::Consent;
use slipway::graph::StepGraph;
use slipway::plan::Plan;
use slipway::planning;
use slipway::simulation::fingerprint::Fingerprint;
use slipway::simulation::{Fault, Moment, Point, SimulatedCluster, Simulation};
use slipway::teardown::{self, Request};
use slipway::trust::rotation::{self, Aims};
use slipway::trust::specification::ClusterPair;

use crate::plans::{beginning, cluster, host, planned, settled, settled_but_for, simulated, succeeded};

/// What is run, killed and run again.
pub enum Operation {
    Apply(Arc<Plan>),
    /// CAs are brought to the next state of their replacement.
    Rotation(Arc<Plan>, Aims),
    /// These hosts are reset; all, if none are named.
    Reset(Arc<Plan>, Vec<&'static str>),
}

impl Operation {
    pub async fn graph(&self, simulation: &Simulation) -> (StepGraph, SimulatedCluster) {
        match self {
            Self::Apply(plan) => {
                let planned = planned(simulation, plan).await;
                (planned.graph, planned.cluster)
            }
            Self::Rotation(plan, aims) => {
                let planned = simulation.plan_towards(plan, aims.clone()).await.unwrap_or_else(|failure| panic!("{failure}"));
                (planned.graph, planned.cluster)
            }
            Self::Reset(plan, hosts) => {
                let lock = Some("a rehearsal".to_owned());
                let transport = simulation.transport();
                let (facts, _) = planning::probe_all(plan, &transport, lock).await.unwrap_or_else(|failure| panic!("{failure}"));
                let all = plan.hosts.iter().map(|host| host.name.clone());
                let chosen: BTreeSet<_> =
                    if hosts.is_empty() { all.collect() } else { hosts.iter().map(|name| host(name)).collect() };
                let request = Request { plan, facts: &facts, chosen: &chosen, foreign: false, force: false, gone: false, drained: &chosen, consent: Consent::default() };
                let graph = teardown::graph(request).unwrap_or_else(|refusals| panic!("{refusals:?}"));
                (graph, simulation.cluster(Arc::new(request.survivors())))
            }
        }
    }

    fn plan(&self) -> &Arc<Plan> {
        match self {
            Self::Apply(plan) | Self::Rotation(plan, _) | Self::Reset(plan, _) => plan,
        }
    }

    /// Runs it to its end; everything must go well.
    pub async fn finish(&self, simulation: &Simulation, context: &str) {
        let (graph, cluster) = self.graph(simulation).await;
        let report = simulation.carry_out(&graph, &cluster, &self.plan().limits, |_| {}).await.expect("nobody kills it");
        let failures: Vec<String> = report.failures().map(ToString::to_string).collect();
        assert!(report.succeeded(), "{context}: {failures:#?}");
        match self {
            Self::Apply(plan) => settled(simulation, plan, context).await,
            // The walk stays in the state it is in. Keys of CAs are not seen, so until the last state is over
            // they are written again.
            Self::Rotation(plan, aims) => {
                let keys: Vec<String> = aims.keys().map(|pair| pair.key_path().to_string()).collect();
                settled_but_for(simulation, plan, context, |artifact| keys.contains(&artifact.id())).await;
            }
            Self::Reset(..) => {
                let (graph, _) = self.graph(simulation).await;
                simulation.world().unlock_all();
                assert_eq!(graph.changes(), 0, "{context}: left to take back");
                assert_eq!(simulation.world().violations, Vec::<String>::new(), "{context}");
            }
        }
    }
}

/// How many points of an operation the test command tries.
const SAMPLE: usize = 8;

/// Every way to cut an operation off.
fn faults(graph: &StepGraph) -> Vec<Fault> {
    let mut faults = Vec::new();
    // What has nothing to do is not asked.
    for (step, _) in graph.steps().zip(graph.relevant()).filter(|(_, relevant)| *relevant) {
        let point = |artifact: String| Point { step: step.id.clone(), artifact };
        for change in &step.changes {
            let point = point(change.artifact.id());
            faults.extend(Moment::ALL.map(|moment| Fault::Kill(point.clone(), moment)));
            faults.push(Fault::ReplyLost(point.clone()));
            faults.push(Fault::Fail(point, Moment::Within));
        }
        faults.extend(step.gates.iter().map(|gate| Fault::Kill(point(gate.to_string()), Moment::Before)));
    }
    faults
}

fn difference(wanted: &Fingerprint, found: &Fingerprint) -> Vec<String> {
    let names: BTreeSet<&String> = wanted.keys().chain(found.keys()).collect();
    let differs = names.into_iter().filter(|name| wanted.get(*name) != found.get(*name));
    differs.take(6).map(|name| format!("{name}\n  wanted {:?}\n  found  {:?}", wanted.get(name), found.get(name))).collect()
}

/// Cuts the operation off everywhere and runs it again. Returns the state it ends in.
pub async fn survives(name: &str, start: &Simulation, operation: &Operation) -> Fingerprint {
    survives_some(name, start, operation, SAMPLE).await
}

/// The same; the test command tries about that many points.
async fn survives_some(name: &str, start: &Simulation, operation: &Operation, sample: usize) -> Fingerprint {
    let (graph, planned) = operation.graph(start).await;
    let calm = start.fork();
    operation.finish(&calm, name).await;
    let wanted = calm.world().fingerprint();

    let all = faults(&graph);
    let torture = std::env::var_os("SLIPWAY_TORTURE").is_some();
    // Odd, so that steps of equal length are not always cut off at the same place.
    let stride = if torture { 1 } else { (all.len() / sample).max(1) | 1 };
    let survivors = start.world().hosts.keys().cloned().collect::<Vec<_>>();
    let mut tried = 0;
    for fault in all.iter().step_by(stride) {
        let context = format!("{name}, {fault:?}");
        let simulation = start.fork();
        simulation.world().faults.push(fault.clone());
        let cluster = simulation.cluster_like(&planned);
        simulation.carry_out(&graph, &cluster, &operation.plan().limits, |_| {}).await;
        assert!(simulation.world().faults.is_empty(), "{context}: it never struck");
        operation.finish(&simulation, &context).await;
        let found = simulation.world().fingerprint();
        assert_eq!(difference(&wanted, &found), Vec::<String>::new(), "{context}");
        tried += 1;
    }
    println!("{name}: {tried} of {} points on {} hosts", all.len(), survivors.len());
    wanted
}

/// A cluster that lives.
pub async fn living(plan: &Arc<Plan>) -> Simulation {
    let simulation = Simulation::new(plan, 7, beginning());
    succeeded(&simulation, plan).await;
    simulation
}

#[test]
fn a_bootstrap_is_cut_off_anywhere() {
    simulated(async {
        let plan = cluster(3, 1, "");
        let start = Simulation::new(&plan, 7, beginning());
        survives("bootstrap", &start, &Operation::Apply(plan)).await;
    });
}

#[test]
fn a_change_of_every_api_server_is_cut_off_anywhere() {
    simulated(async {
        let start = living(&cluster(3, 1, "")).await;
        let plan = cluster(3, 1, "apiServer: {extraArgs: {audit-log-maxage: 7}}\netcd: {extraArgs: {quota-backend-bytes: 4294967296}}\n");
        survives("change", &start, &Operation::Apply(plan)).await;
    });
}

#[test]
fn a_renewal_of_every_certificate_is_cut_off_anywhere() {
    simulated(async {
        let plan = cluster(3, 1, "");
        let start = living(&plan).await;
        {
            let mut world = start.world();
            world.now = world.now.checked_add(SignedDuration::from_hours(24 * 350)).unwrap();
        }
        let renewed = survives("renewal", &start, &Operation::Apply(plan)).await;
        assert!(!renewed.is_empty());
    });
}

/// Where a replacement of every CA goes next.
pub async fn next_state(simulation: &Simulation, plan: &Arc<Plan>) -> Aims {
    let facts = planning::probe_all(plan, &simulation.transport(), None).await.unwrap_or_else(|failure| panic!("{failure}")).0;
    let positions = ClusterPair::of(plan).map(|pair| (pair, rotation::position(plan, &facts, pair).unwrap())).collect();
    rotation::forward(&positions)
}

#[test]
fn a_replacement_of_every_ca_is_cut_off_anywhere() {
    simulated(async {
        let plan = cluster(3, 1, "");
        let start = living(&plan).await;
        let old = start.world().fingerprint();
        let mut states = 0;
        loop {
            let aims = next_state(&start, &plan).await;
            let ends = aims.values().any(|aim| aim.retire);
            let operation = Operation::Rotation(Arc::clone(&plan), aims);
            survives_some(&format!("CA replacement, state {states}"), &start, &operation, SAMPLE / 4).await;
            operation.finish(&start, "next state").await;
            states += 1;
            if ends {
                break;
            }
        }
        assert_eq!(states, 5, "made, trusted, signs, trusted alone, tidied");
        assert_eq!(difference(&old, &start.world().fingerprint()), Vec::<String>::new(), "nothing but the keys is another");
    });
}

#[test]
fn a_reset_of_everything_is_cut_off_anywhere() {
    simulated(async {
        let plan = cluster(3, 1, "");
        let delivered = Simulation::new(&plan, 7, beginning()).world().fingerprint();
        let start = living(&plan).await;
        start.world().expects_loss = true;
        let end = survives("reset", &start, &Operation::Reset(plan, Vec::new())).await;
        assert_eq!(difference(&delivered, &end), Vec::<String>::new(), "hosts are as they were delivered");
    });
}

#[test]
fn a_control_plane_that_leaves_is_cut_off_anywhere() {
    simulated(async {
        let plan = cluster(3, 1, "");
        let start = living(&plan).await;
        survives("departure", &start, &Operation::Reset(plan, vec!["cp-3"])).await;
    });
}

#[test]
fn objects_and_marks_that_are_no_longer_wanted_go_wherever_it_is_cut_off() {
    simulated(async {
        let with_labels = |more: &str, labels: &str| {
            let text = crate::plans::text(1, 1, 0, more).replace("roles: [worker]", &format!("roles: [worker], {labels}"));
            crate::plans::plan(&text)
        };
        let before = with_labels("", "labels: {zone: a, rack: b}, taints: [{key: dedicated, effect: NoSchedule}]");
        let start = living(&before).await;
        let ids = |simulation: &Simulation| simulation.world().clusters.values().next().unwrap().objects.keys().cloned().collect::<BTreeSet<String>>();
        {
            // Somebody else's of the same name as one that will not be wanted, and a mark of somebody else's.
            let mut world = start.world();
            let objects = &mut world.clusters.values_mut().next().unwrap().objects;
            let metadata = &mut objects.get_mut("ConfigMap/kube-system/kube-proxy").unwrap()["metadata"];
            metadata["annotations"] = serde_json::json!({});
            objects.get_mut("Node/worker-1").unwrap()["metadata"]["labels"]["theirs"] = "x".into();
        }
        let was = ids(&start);
        let after = with_labels("kubeProxy: {enabled: false}\n", "labels: {zone: a}");
        survives("prune", &start, &Operation::Apply(Arc::clone(&after))).await;
        succeeded(&start, &after).await;
        let gone: Vec<String> = was.difference(&ids(&start)).cloned().collect();
        assert_eq!(gone, [
            "ClusterRoleBinding/kubeadm:node-proxier",
            "DaemonSet/kube-system/kube-proxy",
            "Role/kube-system/kube-proxy",
            "RoleBinding/kube-system/kube-proxy",
            "ServiceAccount/kube-system/kube-proxy",
        ], "the ConfigMap was somebody else's");
        let world = start.world();
        let node = &world.clusters.values().next().unwrap().objects["Node/worker-1"];
        assert_eq!(node["metadata"]["labels"], serde_json::json!({ "zone": "a", "theirs": "x" }));
        assert!(!node["spec"]["taints"].to_string().contains("dedicated"), "{node}");
    });
}
