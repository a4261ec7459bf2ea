//! Settings that a Node with pods cannot take: it is emptied first, in its turn, and whatever cuts the
//! run off, its kubelet never starts with what it must not find.

use std::sync::Arc;

use slipway::plan::Plan;
use slipway::simulation::Simulation;

use crate::crashes::{Operation, living, survives};
use crate::plans::{beginning, cluster, planned, settled, simulated, succeeded};

const LIMITS: &str = "limits: {maxUnavailable: 2}\n";

fn with(control_planes: usize, workers: usize, more: &str) -> Arc<Plan> {
    cluster(control_planes, workers, &format!("{LIMITS}{more}"))
}

/// What was done on hosts and to Nodes, in order, as `step: artifact`.
async fn story(simulation: &Simulation, plan: &Arc<Plan>) -> Vec<String> {
    simulation.world().made.clear();
    succeeded(simulation, plan).await;
    settled(simulation, plan, "settings").await;
    let made = simulation.world().made.clone();
    let name = |step: &Option<slipway::phase::StepId>| step.as_ref().map_or_else(String::new, |step| format!("{step}: "));
    made.iter().map(|(step, id)| format!("{}{id}", name(step))).collect()
}

fn of<'a>(story: &'a [String], part: &str) -> Vec<&'a str> {
    story.iter().map(String::as_str).filter(|line| line.contains(part)).collect()
}

fn place(story: &[String], line: &str) -> usize {
    story.iter().position(|said| said == line).unwrap_or_else(|| panic!("{line} in {story:#?}"))
}

#[test]
fn another_cpu_policy_empties_each_node_in_its_turn() {
    simulated(async {
        let simulation = living(&with(3, 4, "")).await;
        let plan = with(3, 4, "kubelet: {configuration: {cpuManagerPolicy: static, reservedSystemCPUs: '0'}}\n");
        let story = story(&simulation, &plan).await;
        for host in ["cp-1", "cp-2", "cp-3", "worker-1", "worker-2", "worker-3", "worker-4"] {
            let lines = [
                format!("drain of Node/{host}"),
                format!("kubelet-upgrade@{host}: stop of kubelet.service"),
                format!("kubelet-upgrade@{host}: /var/lib/kubelet/config.yaml"),
                format!("kubelet-upgrade@{host}: unit kubelet.service"),
                format!("return of Node/{host}"),
            ];
            let places: Vec<usize> = lines.iter().map(|line| place(&story, line)).collect();
            assert!(places.is_sorted(), "{host}: {story:#?}");
        }
        let order = ["cp-1", "cp-2", "cp-3", "worker-1", "worker-2"].map(|host| (format!("return of Node/{host}"), format!("drain of Node/{host}")));
        for pair in order.windows(2) {
            assert!(place(&story, &pair[0].0) < place(&story, &pair[1].1), "{pair:?} in {story:#?}");
        }
        assert!(place(&story, "drain of Node/worker-3") < place(&story, "return of Node/worker-2"), "two at a time: {story:#?}");
    });
}

#[test]
fn a_field_that_only_needs_a_restart_drains_nobody() {
    simulated(async {
        let simulation = living(&with(1, 2, "")).await;
        let plan = with(1, 2, "kubelet: {configuration: {maxPods: 120, reservedSystemCPUs: '0'}}\n");
        let story = story(&simulation, &plan).await;
        assert_eq!(of(&story, "Node/"), Vec::<&str>::new());
        assert_eq!(of(&story, "unit kubelet.service").len(), 3, "{story:#?}");
    });
}

#[test]
fn another_cgroup_driver_ends_all_pods_between_the_kubelets_stop_and_start() {
    simulated(async {
        let simulation = living(&with(3, 1, "")).await;
        let plan = with(3, 1, "runtime: {cgroupDriver: cgroupfs}\n");
        let story = story(&simulation, &plan).await;
        for host in ["cp-1", "cp-2", "cp-3", "worker-1"] {
            let lines = ["stop of kubelet.service", "/etc/containerd/config.toml", "unit containerd.service", "/var/lib/kubelet/config.yaml", "unit kubelet.service"];
            let places: Vec<usize> = lines.iter().map(|line| place(&story, &format!("kubelet-upgrade@{host}: {line}"))).collect();
            assert!(places.is_sorted(), "{host}: {story:#?}");
        }
        assert_eq!(of(&story, "runtime@"), Vec::<&str>::new());
    });
}

#[test]
fn containerd_restarts_in_the_turn_of_its_host() {
    simulated(async {
        let simulation = living(&with(3, 3, "")).await;
        let plan = with(3, 3, "runtime: {pauseImage: 'registry.example/pause:9'}\n");
        let told = planned(&simulation, &plan).await;
        simulation.world().unlock_all();
        assert_eq!(told.graph.waves().carriers.len(), 3);
        let story = story(&simulation, &plan).await;
        assert_eq!(of(&story, "Node/"), Vec::<&str>::new());
        let restarts = of(&story, "unit containerd.service");
        assert_eq!(&restarts[..3], ["runtime@cp-1: unit containerd.service", "runtime@cp-2: unit containerd.service", "runtime@cp-3: unit containerd.service"]);
        assert_eq!(restarts.len(), 6);
        // Mirrors are read at each pull.
        let plan = with(3, 3, "runtime: {pauseImage: 'registry.example/pause:9', mirrors: {docker.io: {endpoints: ['https://mirror.example']}}}\n");
        let story = self::story(&simulation, &plan).await;
        assert_eq!(of(&story, "unit "), Vec::<&str>::new());
        assert_eq!(of(&story, "/etc/containerd/certs.d/docker.io/hosts.toml").len(), 6);
    });
}

#[test]
fn nobody_is_drained_where_the_plan_says_never_but_the_kubelet_still_stands_still() {
    simulated(async {
        let simulation = living(&with(1, 1, "upgrade: {drain: never}\n")).await;
        let plan = with(1, 1, "upgrade: {drain: never}\nkubelet: {configuration: {cpuManagerPolicy: static, resolvConf: /etc/other}}\n");
        let story = story(&simulation, &plan).await;
        assert_eq!(of(&story, "Node/"), Vec::<&str>::new());
        assert_eq!(of(&story, "stop of kubelet.service").len(), 2, "{story:#?}");
    });
}

#[test]
fn a_host_that_has_never_run_a_kubelet_is_not_drained() {
    simulated(async {
        let plan = with(1, 2, "kubelet: {configuration: {cpuManagerPolicy: static}}\n");
        let simulation = Simulation::new(&plan, 7, beginning());
        succeeded(&simulation, &with(1, 1, "")).await;
        let story = story(&simulation, &plan).await;
        assert_eq!(of(&story, "drain of Node/worker-2"), Vec::<&str>::new());
        assert!(of(&story, "kubelet@worker-2: unit kubelet.service").len() == 1, "{story:#?}");
        assert_eq!(of(&story, "drain of Node/").len(), 2, "{story:#?}");
    });
}

#[test]
fn settings_that_empty_nodes_are_cut_off_anywhere() {
    simulated(async {
        let start = living(&with(3, 1, "")).await;
        let more = "runtime: {cgroupDriver: cgroupfs}\nkubelet: {configuration: {cpuManagerPolicy: static}}\n";
        let end = survives("settings", &start, &Operation::Apply(with(3, 1, more))).await;
        assert!(end.iter().all(|(_, text)| !text.contains("cordoned-for")), "a Node stays cordoned");
    });
}
