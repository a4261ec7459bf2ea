//! A cluster goes to the next minor version: in which order, never with anything newer than an API
//! server (the simulated world watches that), and whatever cuts the run off.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use slipway::graph::StepGraph;
use slipway::names::RemotePath;
use slipway::phase::{Phase, StepId, Target};
use slipway::plan::Plan;
use slipway::simulation::{Fault, Moment, Point, Simulation};

use crate::crashes::{Operation, living, survives};
use crate::plans::{applied, host, plan, planned, settled, simulated, succeeded, text};

const OLD: &str = "v1.33.4";
const NEW: &str = "v1.34.2";

/// Such a cluster of that version.
fn of_version(version: &str, control_planes: usize, workers: usize, more: &str) -> Arc<Plan> {
    plan(&text(control_planes, workers, 0, more).replace(NEW, version))
}

/// A living cluster of the old version on whose hosts the new packages were installed.
async fn ready_to_go(control_planes: usize, workers: usize, more: &str) -> Simulation {
    let simulation = living(&of_version(OLD, control_planes, workers, more)).await;
    for host in simulation.world().hosts.values_mut() {
        assert_eq!(host.kubelet_running, OLD);
        NEW.clone_into(&mut host.system.kubelet_version);
    }
    simulation
}

/// What was done about versions and Nodes, in order, a line each.
fn story(simulation: &Simulation) -> Vec<String> {
    let told = ["kube-apiserver.yaml", "kube-controller-manager.yaml", "drain of", "return of", "unit kubelet", "DaemonSet/kube-system/kube-proxy"];
    let world = simulation.world();
    let made = world.made.iter().filter(|(_, id)| told.iter().any(|part| id.contains(part)));
    made.map(|(step, id)| match step {
        Some(step) => format!("{step}: {}", id.rsplit('/').next().unwrap_or(id)),
        None => id.clone(),
    })
    .collect()
}

#[test]
fn api_servers_go_first_then_controllers_then_kubelets_and_workers_after_a_canary() {
    simulated(async {
        let more = "limits: {maxUnavailable: 2}\n";
        let simulation = ready_to_go(3, 4, more).await;
        simulation.world().made.clear();
        let plan = of_version(NEW, 3, 4, more);
        succeeded(&simulation, &plan).await;
        settled(&simulation, &plan, "upgrade").await;
        let story = story(&simulation);
        // How long things take decides which of two workers of one window is first.
        let place = |line: &str| story.iter().position(|said| said == line).unwrap_or_else(|| panic!("{line} in {story:#?}"));
        let rising = [
            "control-plane@cp-1: kube-apiserver.yaml",
            "control-plane@cp-2: kube-apiserver.yaml",
            "control-plane@cp-3: kube-apiserver.yaml",
            "controllers@cp-1: kube-controller-manager.yaml",
            "controllers@cp-2: kube-controller-manager.yaml",
            "controllers@cp-3: kube-controller-manager.yaml",
            "DaemonSet/kube-system/kube-proxy",
            "drain of Node/cp-1",
            "kubelet-upgrade@cp-1: unit kubelet.service",
            "return of Node/cp-1",
            "drain of Node/cp-2",
            "return of Node/cp-3",
            "drain of Node/worker-1",
            "kubelet-upgrade@worker-1: unit kubelet.service",
            "return of Node/worker-1",
            "drain of Node/worker-2",
            "return of Node/worker-2",
            "drain of Node/worker-4",
        ];
        let places: Vec<usize> = rising.iter().map(|line| place(line)).collect();
        assert!(places.is_sorted(), "{places:?} in {story:#?}");
        assert!(place("drain of Node/worker-3") < place("return of Node/worker-2"), "two at a time: {story:#?}");
        let world = simulation.world();
        assert!(world.hosts.values().all(|host| host.kubelet_running == NEW));
    });
}

#[test]
fn a_patch_release_needs_no_drain_unless_the_plan_says_so() {
    simulated(async {
        for (more, drains) in [("", false), ("upgrade: {drain: always}\n", true)] {
            let simulation = living(&of_version("v1.34.1", 1, 1, more)).await;
            for host in simulation.world().hosts.values_mut() {
                NEW.clone_into(&mut host.system.kubelet_version);
            }
            simulation.world().made.clear();
            let plan = of_version(NEW, 1, 1, more);
            succeeded(&simulation, &plan).await;
            settled(&simulation, &plan, more).await;
            assert_eq!(story(&simulation).iter().any(|line| line.starts_with("drain of")), drains, "{more}");
            assert!(simulation.world().hosts.values().all(|host| host.kubelet_running == NEW));
        }
    });
}

#[test]
fn a_node_that_a_dead_run_left_cordoned_is_given_back_and_the_operators_is_not() {
    simulated(async {
        let plan = of_version(NEW, 1, 2, "");
        let simulation = living(&plan).await;
        {
            let mut world = simulation.world();
            for cluster in world.clusters.values_mut() {
                for (name, mark) in [("worker-1", true), ("worker-2", false)] {
                    let node = cluster.objects.get_mut(&format!("Node/{name}")).expect("it is registered");
                    node["spec"]["unschedulable"] = true.into();
                    if mark {
                        node["metadata"]["annotations"]["slipway.dev/cordoned-for"] = NEW.into();
                    }
                }
            }
        }
        let planned = planned(&simulation, &plan).await;
        let steps: Vec<String> = planned.graph.steps().filter(|step| !step.changes.is_empty()).map(|step| step.id.to_string()).collect();
        assert_eq!(steps, ["kubelet-upgrade@worker-1"]);
        simulation.world().unlock_all();
        succeeded(&simulation, &plan).await;
        settled(&simulation, &plan, "left cordoned").await;
        let world = simulation.world();
        let objects = &world.clusters.values().next().expect("a cluster").objects;
        let cordoned = |name: &str| objects[&format!("Node/{name}")]["spec"]["unschedulable"] == true;
        assert!(!cordoned("worker-1") && cordoned("worker-2"));
    });
}

fn point(phase: Phase, name: &str, artifact: &str) -> Point {
    Point { step: StepId { phase, target: Target::Host(host(name)) }, artifact: artifact.to_owned() }
}

/// Every change that was made, in order, as `step: artifact`.
fn made(simulation: &Simulation) -> Vec<String> {
    let told = |(step, id): &(Option<StepId>, String)| format!("{}: {id}", step.as_ref().map(ToString::to_string).unwrap_or_default());
    simulation.world().made.iter().map(told).collect()
}

#[test]
fn what_etcd_holds_is_kept_before_anything_is_changed_and_an_upgrade_that_goes_on_keeps_it() {
    simulated(async {
        let simulation = ready_to_go(3, 2, "").await;
        simulation.world().made.clear();
        let plan = of_version(NEW, 3, 2, "");
        let there = point(Phase::ControlPlane, "cp-2", "/etc/kubernetes/manifests/kube-apiserver.yaml");
        simulation.world().faults.push(Fault::Kill(there, Moment::Before));
        assert!(applied(&simulation, &plan).await.is_none(), "it is killed");
        let story = made(&simulation);
        assert!(story[..5].iter().all(|line| line.starts_with("snapshot@")), "{:#?}", &story[..8]);
        assert!(!story[5].starts_with("snapshot@") && story[4] == format!("snapshot@cp-1: snapshot of etcd before {NEW}"), "{:#?}", &story[..8]);
        let kept = simulation.world().hosts[&host("cp-1")].snapshots.clone();
        let (name, snapshot) = kept.first_key_value().expect("one was taken");
        assert!(name.ends_with("Z_v1.33.4_to_v1.34.2"), "{name}");
        assert!(snapshot.objects.as_ref().is_some_and(|objects| objects.contains_key("Node/worker-2")), "all that was stored");
        let old = simulation.world().hosts[&host("cp-3")].at("/etc/kubernetes/manifests/kube-apiserver.yaml").cloned();
        let copy = snapshot.files.get(&RemotePath::fixed("/etc/kubernetes/manifests/kube-apiserver.yaml")).expect("it is replaced");
        assert!(copy.bytes().is_some_and(|bytes| String::from_utf8_lossy(bytes).contains(OLD)) && old.is_some(), "the old manifest");

        simulation.world().unlock_all();
        simulation.world().made.clear();
        succeeded(&simulation, &plan).await;
        settled(&simulation, &plan, "an upgrade that went on").await;
        assert!(!made(&simulation).iter().any(|line| line.starts_with("snapshot@")), "what is from before is kept, and nothing else");
        assert_eq!(simulation.world().hosts[&host("cp-1")].snapshots, kept);
    });
}

#[test]
fn without_a_snapshot_nothing_is_changed() {
    simulated(async {
        for (name, what) in [("cp-1", "snapshot of etcd"), ("worker-1", "copies of files")] {
            let step = point(Phase::Snapshot, name, &format!("{what} before {NEW}"));
            let simulation = ready_to_go(3, 2, "").await;
            let (before, plan) = (simulation.world().fingerprint(), of_version(NEW, 3, 2, ""));
            simulation.world().made.clear();
            simulation.world().faults.push(Fault::Fail(step, Moment::Before));
            let report = applied(&simulation, &plan).await.expect("it comes to its end");
            let failures: Vec<String> = report.failures().map(ToString::to_string).collect();
            assert!(failures.len() == 1 && failures[0].contains("hint: nothing else was begun"), "{failures:#?}");
            let changed: Vec<String> = made(&simulation).into_iter().filter(|line| !line.starts_with("snapshot@")).collect();
            assert_eq!(changed, Vec::<String>::new(), "{name}");
            assert!(simulation.world().fingerprint() == before, "{name}: nothing but snapshots differs");
            simulation.world().unlock_all();
            succeeded(&simulation, &plan).await;
            settled(&simulation, &plan, name).await;
        }
    });
}

#[test]
fn a_plan_may_go_without_and_then_so_it_goes() {
    simulated(async {
        let more = "upgrade: {snapshots: 0}\n";
        let simulation = ready_to_go(1, 1, more).await;
        simulation.world().without_snapshots = true;
        let plan = of_version(NEW, 1, 1, more);
        succeeded(&simulation, &plan).await;
        settled(&simulation, &plan, "without").await;
        assert!(simulation.world().hosts.values().all(|host| host.snapshots.is_empty()));
    });
}

#[test]
fn a_disk_that_is_too_small_is_said_before_anything_is_changed() {
    simulated(async {
        let simulation = ready_to_go(1, 0, "").await;
        simulation.world().host_mut(&host("cp-1")).etcd_free_bytes = Some(30 << 20);
        let refused = simulation.plan(&of_version(NEW, 1, 0, "")).await.err().expect("it is refused").to_string();
        assert!(refused.contains("error[upgrade-snapshot]: host cp-1: only 30 MiB are free on etcd's data directory"), "{refused}");
    });
}

#[test]
fn an_upgrade_is_cut_off_anywhere() {
    simulated(async {
        let start = ready_to_go(3, 2, "").await;
        let end = survives("upgrade", &start, &Operation::Apply(of_version(NEW, 3, 2, ""))).await;
        assert!(end.iter().all(|(_, text)| !text.contains("cordoned-for")), "a Node stays cordoned");
    });
}

#[test]
fn a_version_that_does_not_come_up_is_put_back_and_the_next_run_goes_on() {
    simulated(async {
        for (image, failed, gone) in [
            ("kube-apiserver", "control-plane on cp-1", 0),
            ("kube-controller-manager", "controllers on cp-1", 3),
        ] {
            let simulation = ready_to_go(3, 1, "").await;
            let plan = of_version(NEW, 3, 1, "");
            simulation.world().broken = Some(format!("{image}:{NEW}"));
            let report = applied(&simulation, &plan).await.expect("nobody kills it");
            let failures: Vec<String> = report.failures().map(ToString::to_string).collect();
            assert_eq!(failures.len(), 1, "{failures:#?}");
            assert!(failures[0].contains(failed) && failures[0].contains("was put back and is healthy"), "{failures:#?}");
            {
                let world = simulation.world();
                let of = |pod: &str, version: &str| world.hosts.values().filter(|host| host.runs(pod) == version.parse().ok()).count();
                assert_eq!((of("kube-apiserver", NEW), of(image, OLD)), (gone, 3), "{image}");
                assert_eq!(world.violations, Vec::<String>::new());
                assert!(world.hosts.values().all(|host| host.kubelet_running == OLD && host.pods.values().all(|pod| pod.problem.is_none())));
            }
            simulation.world().broken = None;
            simulation.world().unlock_all();
            succeeded(&simulation, &plan).await;
            settled(&simulation, &plan, image).await;
        }
    });
}

/// In which wave each worker's kubelet is replaced: one after the wave of all it waits for.
fn waves(graph: &StepGraph) -> BTreeMap<String, usize> {
    let steps: Vec<_> = graph.steps().collect();
    let shape = graph.shape();
    let mut deepest = vec![0_usize; steps.len()];
    let mut waves = BTreeMap::new();
    for (index, step) in steps.iter().enumerate() {
        let before = shape.parents[index].iter().map(|&parent| deepest[parent]).max().unwrap_or_default();
        let Target::Host(name) = &step.id.target else {
            deepest[index] = before;
            continue;
        };
        let counts = step.id.phase == Phase::KubeletUpgrade && name.as_str().starts_with("worker");
        deepest[index] = before + usize::from(counts);
        if counts {
            waves.insert(name.to_string(), deepest[index]);
        }
    }
    waves
}

/// The most Nodes that were emptied and not given back at one moment, and who was given back, in order.
fn emptied_at_once(story: &[String]) -> (usize, Vec<String>) {
    let (mut open, mut most, mut returned) = (BTreeSet::new(), 0, Vec::new());
    for line in story {
        if let Some(node) = line.strip_prefix("drain of Node/") {
            open.insert(node.to_owned());
        } else if let Some(node) = line.strip_prefix("return of Node/") {
            assert!(open.remove(node), "{node} was not emptied");
            returned.push(node.to_owned());
        }
        most = most.max(open.len());
    }
    (most, returned)
}

#[test]
fn a_hundred_workers_go_in_as_many_waves_as_arithmetic_says_and_a_slow_one_holds_up_its_own_place_only() {
    simulated(async {
        let more = "limits: {maxUnavailable: 10%, parallelHosts: 200, stepTimeout: 10h}\n";
        let start = ready_to_go(1, 100, more).await;
        start.world().made.clear();
        let target = of_version(NEW, 1, 100, more);

        let even = start.fork();
        let graph = planned(&even, &target).await.graph;
        even.world().unlock_all();
        let waves = waves(&graph);
        // One alone to see whether it comes back, then ten tenths of the others: 1 + ceil(99 / 10).
        assert_eq!((waves.len(), waves.values().max()), (100, Some(&11)));
        let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
        for wave in waves.values() {
            *sizes.entry(*wave).or_default() += 1;
        }
        assert_eq!(sizes.into_values().collect::<Vec<_>>(), [1, 10, 10, 10, 10, 10, 10, 10, 10, 10, 9]);
        succeeded(&even, &target).await;
        settled(&even, &target, "upgrade").await;
        assert_eq!(emptied_at_once(&story(&even)).0, 10);

        // One of the second wave takes a hundred times as long as all others.
        let slow = start.fork();
        slow.world().faults.push(Fault::Slow(host("worker-5"), 100));
        succeeded(&slow, &target).await;
        settled(&slow, &target, "upgrade with a slow host").await;
        let (most, returned) = emptied_at_once(&story(&slow));
        assert_eq!((most, returned.len()), (10, 101));
        let late = returned.iter().position(|node| node == "worker-5").expect("it comes back");
        // Who has its place in the window: every tenth from it on.
        let behind = (5..=100).step_by(10).count() - 1;
        assert_eq!(returned.len() - 1 - late, behind, "{returned:?}");
    });
}
