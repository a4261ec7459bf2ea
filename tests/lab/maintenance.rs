//! Nodes behind a drain: machines that are rebooted, a machine that does not come back, and another
//! cgroup driver below everything that runs. Afterwards all is as before, and takes pods.
//!
//! A host of the lab that reboots is off until somebody switches it on again, as a machine whose firmware
//! waits; the story is who does.

use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::Cluster;
use super::machines::{Machines, eventually};
use super::plan_file::{plan, write};
use super::single_node::nothing_is_left_to_do;
use super::slipway::Desk;
use super::upgrade::{available, workload};

const CONTROL_PLANE: &str = "nd-63";
const WORKER: &str = "nd-64";
const BOTH: [&str; 2] = [CONTROL_PLANE, WORKER];
const SOON: Duration = Duration::from_secs(120);

/// Both hosts with a workload that must not be interrupted.
fn made(machines: &Machines, desk: &Desk) -> (Value, String, Cluster) {
    let wanted = plan(machines, &[(CONTROL_PLANE, &["control-plane"]), (WORKER, &["worker"])]);
    let file = write(desk, "maintained", &wanted);
    desk.run_for(0, &["apply", &file, "--yes"]);
    let cluster = Cluster::of(desk, machines, &file, CONTROL_PLANE);
    cluster.nodes_are_ready(&BOTH);
    workload(desk, &cluster);
    (wanted, file, cluster)
}

fn node(cluster: &Cluster, name: &str) -> Value {
    let text = eventually("the API answers", SOON, || cluster.ask(&["get", "node", name, "--output", "json"]));
    serde_json::from_str(&text).expect("a Node is JSON")
}

/// It takes pods, and nobody left a mark on it.
fn is_open(cluster: &Cluster, name: &str) -> bool {
    let node = node(cluster, name);
    node["spec"]["unschedulable"] != true && !node["metadata"]["annotations"].to_string().contains("cordoned-for")
}

fn boot_id(cluster: &Cluster, name: &str) -> String {
    node(cluster, name).pointer("/status/nodeInfo/bootID").and_then(Value::as_str).expect("a kubelet tells the boot id").to_owned()
}

/// The names of the workload's pods on a Node.
fn pods_on(cluster: &Cluster, name: &str) -> Vec<String> {
    let selector = format!("spec.nodeName={name}");
    let text = cluster.kubectl(&["get", "pods", "--field-selector", &selector, "--output", "jsonpath={.items[*].metadata.name}"]);
    text.split_whitespace().map(str::to_owned).collect()
}

fn everything_runs(cluster: &Cluster) {
    eventually("the workload runs", SOON, || match available(cluster) {
        Some(2) => Ok(()),
        seen => Err(format!("{seen:?}")),
    });
    for name in BOTH {
        cluster.wait_for_node(name, "True", SOON);
        assert!(is_open(cluster, name), "{name}");
    }
}

/// The machine goes down by itself.
fn goes_down(machines: &Machines, name: &str) {
    eventually(&format!("{name} goes down"), SOON, || if machines.is_off(name) { Ok(()) } else { Err("it is on".to_owned()) });
}

#[test]
#[ignore = "takes minutes; `cargo xtask torture` runs it"]
fn machines_are_rebooted_behind_a_drain_and_one_does_not_come_back() {
    let machines = Machines::boot(&BOTH);
    let desk = Desk::new();
    let (mut wanted, file, cluster) = made(&machines, &desk);

    machines.step("a worker reboots: its pods go before, and it takes new ones after");
    let (before, pods) = (boot_id(&cluster, WORKER), pods_on(&cluster, WORKER));
    let run = desk.start(&["node", "restart", &file, WORKER, "--reboot"]);
    goes_down(&machines, WORKER);
    let left = pods_on(&cluster, WORKER);
    assert!(pods.iter().all(|pod| !left.contains(pod)), "{pods:?} were moved away before: {left:?}");
    assert!(!is_open(&cluster, WORKER), "nothing is sent to a machine that is down");
    machines.power_off(WORKER);
    machines.power_on(WORKER);
    let ended = run.wait();
    assert_eq!(ended.code, Some(0), "{ended}");
    assert_ne!(boot_id(&cluster, WORKER), before);
    cluster.nodes_are_ready(&BOTH);
    everything_runs(&cluster);
    nothing_is_left_to_do(&desk, &file, 2);

    machines.step("so does the only control plane, with the API away meanwhile");
    let before = boot_id(&cluster, CONTROL_PLANE);
    let run = desk.start(&["node", "restart", &file, CONTROL_PLANE, "--reboot"]);
    goes_down(&machines, CONTROL_PLANE);
    machines.power_off(CONTROL_PLANE);
    machines.power_on(CONTROL_PLANE);
    let ended = run.wait();
    assert_eq!(ended.code, Some(0), "{ended}");
    assert_ne!(boot_id(&cluster, CONTROL_PLANE), before);
    everything_runs(&cluster);
    nothing_is_left_to_do(&desk, &file, 2);

    machines.step("a machine that does not come back is said, and its Node stays cordoned");
    wanted["limits"] = json!({ "gateTimeout": "75s" });
    let impatient = write(&desk, "impatient", &wanted);
    let ended = desk.run_for(6, &["node", "restart", &impatient, WORKER, "--reboot"]);
    ended.says(&format!("Node {WORKER} does not run as before after 75 s")).says("its machine has not come back").says("at its console");
    assert!(machines.is_off(WORKER) && !is_open(&cluster, WORKER));
    assert_eq!(available(&cluster), Some(2), "its pods were moved away before");

    machines.step("when somebody has switched it on, the next run finishes");
    machines.power_off(WORKER);
    machines.power_on(WORKER);
    desk.run_for(0, &["apply", &file, "--yes"]);
    everything_runs(&cluster);
    nothing_is_left_to_do(&desk, &file, 2);
}

/// The control groups of all containers on a host, as the kernel knows them.
fn groups(machines: &Machines, name: &str) -> String {
    machines.shell(name, "for id in $(ctr -n k8s.io tasks ls | awk 'NR > 1 { print $2 }'); do grep -m1 -e :memory: -e ^0:: /proc/$id/cgroup; done")
}

#[test]
#[ignore = "takes minutes; `cargo xtask torture` runs it"]
fn the_cgroup_driver_changes_below_everything_that_runs() {
    let machines = Machines::boot(&BOTH);
    let desk = Desk::new();
    let (mut wanted, _, cluster) = made(&machines, &desk);
    for name in BOTH {
        let seen = groups(&machines, name);
        assert!(!seen.is_empty() && !seen.contains(".slice"), "{name}: {seen}");
    }
    machines.step("to systemd: host by host, with every pod made anew");
    wanted["runtime"]["cgroupDriver"] = json!("systemd");
    let file = write(&desk, "systemd", &wanted);
    let shown = desk.run_for(0, &["diff", &file]);
    for name in BOTH {
        shown.says(&format!("drain of Node/{name}: for cgroupDriver, SystemdCgroup"));
    }
    shown.says("stop of kubelet.service");
    let applied = desk.run_for(0, &["apply", &file, "--yes"]);
    eprintln!("{}", applied.out);
    everything_runs(&cluster);
    for name in BOTH {
        let seen = groups(&machines, name);
        assert!(!seen.is_empty() && seen.lines().all(|line| line.contains(".slice")), "{name}: {seen}");
        let on = format!("spec.nodeName={name}");
        let ready = "jsonpath={.items[*].status.containerStatuses[*].ready}";
        let seen = cluster.kubectl(&["get", "pods", "-n", "kube-system", "-l", "k8s-app=kube-proxy", "--field-selector", &on, "--output", ready]);
        assert_eq!(seen, "true", "kube-proxy on {name}");
    }
    cluster.serve(&desk, "after", WORKER);
    cluster.pod_address("after");
    nothing_is_left_to_do(&desk, &file, 2);
}
