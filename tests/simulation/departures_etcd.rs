//! Hosts with only the role `etcd` that were deleted from the plan file leave the cluster by the next `apply`,
//! although they have no Node: known by the list of what slipway made, or by etcd's own list and what their
//! machines say; after nobody asks them any more; cut off anywhere with the same end. Members that slipway did
//! not make are left alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use slipway::inventory::Inventory;
use slipway::names::{HostName, Mode, RemotePath};
use slipway::phase::{Phase, StepId, Target};
use slipway::plan::Plan;
use slipway::planning::{self, LocalSource, Options};
use slipway::report::difference::{Difference, Look};
use slipway::simulation::host::Entry;
use slipway::simulation::{Fault, Moment, Point, Simulation};
use slipway::trust::decide::Requested;
use slipway::trust::rotation::Aims;

use crate::crashes::{Operation, survives};
use crate::departures::{nodes, of, part, refused};
use crate::plans::{beginning, host, names, plan, planned, settled, simulated, succeeded, text, voters};

const THREE: &[&str] = &["cp-1", "cp-2", "worker-1", "etcd-1", "etcd-2", "etcd-3"];
const ONE: &[&str] = &["cp-1", "cp-2", "worker-1", "etcd-1"];
const FIVE: &[&str] = &["cp-1", "cp-2", "worker-1", "etcd-1", "etcd-2", "etcd-3", "etcd-4", "etcd-5"];
const REPLACED: &[&str] = &["cp-1", "cp-2", "worker-1", "etcd-1", "etcd-2", "etcd-4"];

fn everyone() -> Arc<Plan> {
    plan(&text(2, 1, 5, "endpoint: {localProxy: {}}\n"))
}

fn of_hosts(names: &[&str]) -> Arc<Plan> {
    part(&everyone(), names)
}

async fn living(names: &[&str]) -> Simulation {
    let simulation = Simulation::new(&everyone(), 11, beginning());
    succeeded(&simulation, &of_hosts(names)).await;
    simulation
}

/// The hosts on the list of what slipway made.
fn listed(simulation: &Simulation) -> BTreeSet<String> {
    let world = simulation.world();
    let stored = &world.clusters.values().next().unwrap().objects["ConfigMap/kube-system/slipway-inventory"]["data"];
    let inventory = Inventory::read(&serde_json::from_value(stored.clone()).unwrap());
    inventory.hosts.keys().map(ToString::to_string).collect()
}

/// The list as an earlier slipway wrote it: without hosts.
fn forget_hosts(simulation: &Simulation) {
    let mut world = simulation.world();
    let cluster = world.clusters.values_mut().next().unwrap();
    cluster.objects.get_mut("ConfigMap/kube-system/slipway-inventory").unwrap()["data"].as_object_mut().unwrap().remove("hosts");
}

/// Gives the locks back, and nothing else: a host that is away stays away.
fn unlock(simulation: &Simulation) {
    simulation.world().hosts.values_mut().for_each(|host| host.lock = None);
}

/// Everything that was made, in order.
fn story(simulation: &Simulation) -> Vec<String> {
    let made = simulation.world().made.clone();
    made.iter().map(|(step, id)| step.as_ref().map_or_else(|| id.clone(), |step| format!("{step}: {id}"))).collect()
}

fn place(story: &[String], begins: &str) -> usize {
    story.iter().position(|line| line.starts_with(begins)).unwrap_or_else(|| panic!("{begins} in {story:#?}"))
}

/// What is changed on a host that leaves.
async fn changes(simulation: &Simulation, plan: &Arc<Plan>, phase: Phase, name: &str) -> Vec<String> {
    let graph = planned(simulation, plan).await.graph;
    unlock(simulation);
    let step = graph.step(&StepId { phase, target: Target::Host(host(name)) });
    step.map(|step| step.changes.iter().map(|change| change.artifact.id()).collect()).unwrap_or_default()
}

#[test]
fn hosts_without_a_node_leave_when_no_api_server_asks_them_any_more() {
    simulated(async {
        let after = of_hosts(ONE);
        let simulation = living(THREE).await;
        let delivered = Simulation::new(&everyone(), 11, beginning()).world().fingerprint();
        assert_eq!(listed(&simulation), names(&["etcd-1", "etcd-2", "etcd-3"]));
        let graph = planned(&simulation, &after).await.graph;
        simulation.world().unlock_all();
        assert_eq!(graph.waves().leaving, [host("etcd-2"), host("etcd-3")]);
        let told = Difference::of(&graph).to_text(Look::default());
        assert!(told.contains("leaves for good: etcd-2: etcd member removed, machine reset"), "{told}");
        assert_eq!(changes(&simulation, &after, Phase::Leave, "etcd-2").await, ["etcd member etcd-2 (https://192.0.2.202:2380)"]);
        assert!(!changes(&simulation, &after, Phase::Reset, "etcd-2").await.iter().any(|change| change.contains("Node/")));
        simulation.world().made.clear();
        succeeded(&simulation, &after).await;
        settled(&simulation, &after, "left").await;
        let story = story(&simulation);
        let first = place(&story, "etcd member ");
        for name in ["cp-1", "cp-2"] {
            assert!(place(&story, &format!("control-plane@{name}: /etc/kubernetes/manifests/kube-apiserver.yaml")) < first, "{story:#?}");
        }
        assert_eq!((voters(&simulation), listed(&simulation)), (names(&["etcd-1"]), names(&["etcd-1"])));
        assert_eq!(nodes(&simulation), names(&["cp-1", "cp-2", "worker-1"]));
        let print = simulation.world().fingerprint();
        for name in ["etcd-2", "etcd-3"] {
            assert_eq!(of(&print, name), of(&delivered, name), "{name}");
        }
    });
}

#[test]
fn three_become_five_others_and_one() {
    simulated(async {
        let simulation = living(THREE).await;
        for left in [&["etcd-1", "etcd-4", "etcd-5"][..], &["etcd-4"], &["etcd-4", "etcd-2", "etcd-3"], &["etcd-1", "etcd-2", "etcd-3", "etcd-4", "etcd-5"]] {
            let after = of_hosts(&[&["cp-1", "cp-2", "worker-1"], left].concat());
            succeeded(&simulation, &after).await;
            settled(&simulation, &after, "changed").await;
            assert_eq!((voters(&simulation), listed(&simulation)), (names(left), names(left)));
        }
    });
}

#[test]
fn one_that_does_not_answer_is_taken_out_before_its_successor_joins() {
    simulated(async {
        let after = of_hosts(REPLACED);
        let simulation = living(THREE).await;
        simulation.world().host_mut(&host("etcd-3")).reachable = false;
        let planned = planned(&simulation, &after).await;
        let warnings = planned.warnings();
        assert!(warnings.contains("host etcd-3: it left the plan and is taken out of the cluster, but its machine is NOT reset"), "{warnings}");
        assert!(!warnings.contains("etcd-stranger") && !warnings.contains("departed-pods"), "{warnings}");
        unlock(&simulation);
        let left = of(&simulation.world().fingerprint(), "etcd-3");
        simulation.world().made.clear();
        succeeded(&simulation, &after).await;
        settled(&simulation, &after, "replaced").await;
        let story = story(&simulation);
        assert!(place(&story, "etcd member etcd-3") < place(&story, "etcd learner etcd-4"), "{story:#?}");
        let all = names(&["etcd-1", "etcd-2", "etcd-4"]);
        assert_eq!((voters(&simulation), listed(&simulation)), (all.clone(), all));
        let found = of(&simulation.world().fingerprint(), "etcd-3");
        let touched: Vec<&String> = left.iter().filter(|(name, text)| found.get(*name) != Some(*text) && !name.contains("pod ")).map(|(name, _)| name).collect();
        assert_eq!(touched, Vec::<&String>::new(), "nothing on it was touched");
    });
}

/// A member that is down on a machine that answers counts for the quorum too, whichever of those that leave it is.
#[test]
fn one_that_is_not_well_leaves_before_the_others() {
    simulated(async {
        for (sick, after) in [("etcd-2", ONE), ("etcd-3", ONE), ("etcd-3", REPLACED)] {
            let after = of_hosts(after);
            let simulation = living(THREE).await;
            simulation.world().host_mut(&host(sick)).pods.remove("etcd");
            let graph = planned(&simulation, &after).await.graph;
            simulation.world().unlock_all();
            assert_eq!(graph.waves().leaving[0], host(sick));
            succeeded(&simulation, &after).await;
            settled(&simulation, &after, sick).await;
            let wanted = after.hosts.iter().filter(|host| host.name.as_str().starts_with("etcd")).map(|host| host.name.to_string()).collect();
            assert_eq!(voters(&simulation), wanted);
        }
    });
}

#[test]
fn a_departure_that_would_end_the_quorum_is_refused() {
    simulated(async {
        let dead = |simulation: &Simulation, name: &str| _ = simulation.world().host_mut(&host(name)).pods.remove("etcd");
        let simulation = living(THREE).await;
        dead(&simulation, "etcd-1");
        let reason = refused(&simulation, &of_hosts(ONE)).await;
        assert!(reason.contains("etcd-2, etcd-3 left the plan with a member of etcd, and nobody tells who its members are"), "{reason}");
        let simulation = living(FIVE).await;
        ["etcd-1", "etcd-2"].into_iter().for_each(|name| dead(&simulation, name));
        let reason = refused(&simulation, &of_hosts(THREE)).await;
        let expected = "without etcd-4, etcd-5, which left the plan, etcd would lose its quorum: 1 of the 3 members that stay are healthy, 2 are needed";
        assert!(reason.contains(expected), "{reason}");
    });
}

#[test]
fn a_run_on_a_part_of_the_work_takes_nobody_out_and_forgets_nobody() {
    simulated(async {
        let after = of_hosts(ONE);
        let simulation = living(THREE).await;
        let hosts = [host("worker-1")];
        let options =
            Options { hosts: &hosts, phases: &[], renew: &Requested::NONE, lock: None, now: beginning(), rotation: Aims::new(), local: LocalSource::Assumed };
        let graph = match planning::plan(Arc::clone(&after), &simulation.transport(), simulation.reach(), options).await {
            Ok(planned) => planned.graph,
            Err(failure) => panic!("{failure}"),
        };
        let relevant = graph.steps().zip(graph.relevant()).filter(|(_, relevant)| *relevant).map(|(step, _)| step);
        let named: Vec<String> = relevant.flat_map(|step| &step.changes).map(|change| change.artifact.id()).filter(|id| id.contains("inventory") || id.contains("etcd-")).collect();
        assert_eq!(named, Vec::<String>::new());
    });
}

#[test]
fn a_list_of_an_earlier_slipway_is_completed_and_the_machine_itself_vouches() {
    simulated(async {
        let simulation = living(THREE).await;
        forget_hosts(&simulation);
        // Nothing left the plan: the list is completed, and nothing else is done.
        let completed = simulation.fork();
        completed.world().made.clear();
        succeeded(&completed, &of_hosts(THREE)).await;
        assert_eq!(story(&completed), ["ConfigMap/kube-system/slipway-inventory"]);
        assert_eq!(listed(&completed), names(&["etcd-1", "etcd-2", "etcd-3"]));

        let after = of_hosts(ONE);
        simulation.world().made.clear();
        succeeded(&simulation, &after).await;
        settled(&simulation, &after, "left").await;
        let story = story(&simulation);
        let noted = place(&story, "ConfigMap/kube-system/slipway-inventory");
        assert!(noted < place(&story, "etcd member etcd-2"), "where they are is noted before they are members no more: {story:#?}");
        assert_eq!((voters(&simulation), listed(&simulation)), (names(&["etcd-1"]), names(&["etcd-1"])));
    });
}

/// What somebody does to a world.
type Meddling = fn(&Simulation);

/// Nothing says that slipway made it: it stays, and a warning names it.
#[test]
fn a_member_that_slipway_cannot_know_is_left_alone() {
    simulated(async {
        let after = of_hosts(REPLACED);
        let away: Meddling = |simulation| simulation.world().host_mut(&host("etcd-3")).reachable = false;
        let emptied: Meddling = |simulation| {
            let mut world = simulation.world();
            let own: Vec<RemotePath> = world.hosts[&host("etcd-3")].below("/var/lib/slipway").map(|(path, _)| path.clone()).collect();
            own.iter().for_each(|path| _ = world.host_mut(&host("etcd-3")).files.remove(path));
        };
        let rewritten: Meddling = |simulation| {
            let mut world = simulation.world();
            let record = RemotePath::fixed("/var/lib/slipway/records/etc%2Fkubernetes%2Fmanifests%2Fetcd.yaml");
            assert!(world.host_mut(&host("etcd-3")).files.remove(&record).is_some());
        };
        let cases: [(&str, Meddling); 3] = [("away", away), ("no trace of slipway", emptied), ("another's manifest", rewritten)];
        for (case, happens) in cases {
            let simulation = living(THREE).await;
            forget_hosts(&simulation);
            happens(&simulation);
            let before = of(&simulation.world().fingerprint(), "etcd-3");
            let planned = planned(&simulation, &after).await;
            unlock(&simulation);
            let warnings = planned.warnings();
            assert!(warnings.contains("etcd has a member on no host of the plan: etcd-3 (https://192.0.2.203:2380)"), "{case}: {warnings}");
            assert_eq!(planned.graph.waves().leaving, Vec::<HostName>::new(), "{case}");
            assert_eq!(of(&simulation.world().fingerprint(), "etcd-3"), before, "{case}: not even a lock was taken");
        }
    });
}

/// A mark is only where to look: a machine that is something else by now is not touched.
#[test]
fn a_machine_that_is_another_member_by_now_is_not_reset() {
    simulated(async {
        let simulation = living(THREE).await;
        {
            let mut world = simulation.world();
            let manifest = RemotePath::fixed("/etc/kubernetes/manifests/etcd.yaml");
            let text = world.hosts[&host("etcd-3")].text(manifest.as_str()).unwrap().replace("--name=etcd-3", "--name=another");
            let entry = Entry::file(Mode(0o600), text);
            world.host_mut(&host("etcd-3")).files.insert(manifest, entry);
        }
        let planned = planned(&simulation, &of_hosts(ONE)).await;
        simulation.world().unlock_all();
        assert!(planned.warnings().contains("host etcd-3: it left the plan and is taken out of the cluster, but its machine is NOT reset: the machine at 192.0.2.203 is member another of etcd by now"), "{}", planned.warnings());
    });
}

/// A host that was reset and then deleted from the plan only leaves its mark on the list.
#[test]
fn a_host_that_was_reset_before_leaves_nothing_to_do_but_its_mark() {
    simulated(async {
        let simulation = living(FIVE).await;
        let (three, five) = (of_hosts(THREE), of_hosts(FIVE));
        let (graph, cluster) = Operation::Reset(five, vec!["etcd-4", "etcd-5"]).graph(&simulation).await;
        assert!(simulation.carry_out(&graph, &cluster, &three.limits, |_| {}).await.unwrap().succeeded());
        // It is the world that sees what this order means: the API servers still asked them.
        let broken = std::mem::take(&mut simulation.world().violations);
        assert!(broken.iter().all(|broken| broken.contains("is removed while the API server of")) && !broken.is_empty(), "{broken:?}");
        let planned = planned(&simulation, &three).await;
        simulation.world().unlock_all();
        assert_eq!((planned.graph.waves().leaving.len(), planned.warnings()), (0, String::new()));
        succeeded(&simulation, &three).await;
        settled(&simulation, &three, "forgotten").await;
        assert_eq!(listed(&simulation), names(&["etcd-1", "etcd-2", "etcd-3"]));
    });
}

/// What only learns is in the way of whoever joins, because etcd has one learner at a time.
#[test]
fn a_learner_that_left_the_plan_goes_before_anybody_joins() {
    simulated(async {
        let simulation = living(THREE).await;
        let five = of_hosts(FIVE);
        // A run that adds etcd-4 and etcd-5 is killed when etcd-4 has started and has no vote.
        let first = planned(&simulation, &five).await;
        let made = first.graph.steps().flat_map(|step| step.changes.iter().map(|change| (step.id.clone(), change.artifact.id())));
        let mut votes = made.filter(|(_, artifact)| artifact.starts_with("vote of etcd member"));
        let (step, artifact) = votes.next().unwrap();
        let joined = step.target.to_string();
        simulation.world().faults.push(Fault::Kill(Point { step, artifact }, Moment::Before));
        simulation.carry_out(&first.graph, &first.cluster, &five.limits, |_| {}).await;
        let other = if joined == "etcd-4" { "etcd-5" } else { "etcd-4" };
        // The one that learns is deleted from the plan, and another one is to join in its place.
        let after = of_hosts(&["cp-1", "cp-2", "worker-1", "etcd-1", "etcd-2", other]);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let graph = planned(&simulation, &after).await.graph;
        simulation.world().unlock_all();
        assert!(graph.waves().leaving.contains(&host(&joined)), "{:?}", graph.waves().leaving);
        succeeded(&simulation, &after).await;
        settled(&simulation, &after, "replaced").await;
        assert_eq!(voters(&simulation), names(&["etcd-1", "etcd-2", other]));
    });
}

#[test]
fn etcd_hosts_that_leave_are_cut_off_anywhere() {
    simulated(async {
        let start = living(THREE).await;
        survives("etcd hosts leave the plan", &start, &Operation::Apply(of_hosts(ONE))).await;
    });
}

#[test]
fn etcd_hosts_that_leave_without_a_mark_are_cut_off_anywhere() {
    simulated(async {
        let start = living(THREE).await;
        forget_hosts(&start);
        survives("etcd hosts leave unmarked", &start, &Operation::Apply(of_hosts(ONE))).await;
    });
}

#[test]
fn an_etcd_host_that_is_replaced_by_the_plan_is_cut_off_anywhere() {
    simulated(async {
        let start = living(THREE).await;
        survives("etcd host replaced by the plan", &start, &Operation::Apply(of_hosts(REPLACED))).await;
    });
}
