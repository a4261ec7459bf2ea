//! Nodes are emptied for what they cannot take with pods: a restart that was asked for, another CPU
//! policy, another place for the runtime's data. Afterwards everything runs again, and takes pods.

use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::Cluster;
use super::machines::{Machines, eventually};
use super::plan_file::{plan, write};
use super::single_node::nothing_is_left_to_do;
use super::slipway::Desk;

const SOON: Duration = Duration::from_secs(120);

fn is_open(cluster: &Cluster, node: &str) -> bool {
    let node: Value = serde_json::from_str(&cluster.kubectl(&["get", "node", node, "--output", "json"])).expect("a Node is JSON");
    node["spec"]["unschedulable"] != true && !node["metadata"]["annotations"].to_string().contains("cordoned-for")
}

#[test]
#[ignore = "in the lab, with `cargo xtask test`"]
fn nodes_are_restarted_and_changed_behind_a_drain() {
    let hosts: [(&str, &[&str]); 2] = [("mnt-1", &["control-plane", "worker"]), ("mnt-2", &["worker"])];
    let machines = Machines::boot(&["mnt-1", "mnt-2"]);
    let desk = Desk::new();
    let mut wanted = plan(&machines, &hosts);
    let file = write(&desk, "maintained", &wanted);
    desk.run_for(0, &["apply", &file, "--yes"]);
    let cluster = Cluster::of(&desk, &machines, &file, "mnt-1");
    cluster.nodes_are_ready(&["mnt-1", "mnt-2"]);

    machines.step("a pod that nothing would start again keeps its Node from being restarted");
    cluster.serve(&desk, "alone", "mnt-2");
    cluster.pod_address("alone");
    let pid = || machines.shell("mnt-2", "systemctl show -p MainPID --value kubelet.service containerd.service");
    let before = pid();
    desk.run_for(4, &["node", "restart", &file, "mnt-2"]).says("has no controller");
    assert_eq!(pid(), before, "nothing was touched");

    machines.step("with consent it leaves, and runtime and kubelet are others afterwards");
    desk.run_for(0, &["node", "restart", &file, "mnt-2", "--force"]);
    let after = pid();
    assert!(before.lines().zip(after.lines()).filter(|(line, _)| !line.trim().is_empty()).all(|(one, other)| one != other), "{before} and {after}");
    assert!(cluster.ask(&["get", "pod", "alone"]).is_err(), "it was evicted");
    assert!(is_open(&cluster, "mnt-2"));
    desk.run_for(0, &["node", "restart", &file, "mnt-1", "mnt-2", "--no-drain"]);
    nothing_is_left_to_do(&desk, &file, 2);

    machines.step("another CPU policy: the kubelet would not start with the old notes");
    assert!(machines.shell("mnt-2", "cat /var/lib/kubelet/cpu_manager_state").contains("none"));
    wanted["kubelet"]["configuration"]["cpuManagerPolicy"] = json!("static");
    wanted["kubelet"]["configuration"]["reservedSystemCPUs"] = json!("0");
    let file = write(&desk, "maintained", &wanted);
    desk.run_for(0, &["diff", &file]).says("drain of Node/mnt-2: for cpuManagerPolicy").says("stop of kubelet.service");
    desk.run_for(0, &["apply", &file, "--yes"]);
    for host in ["mnt-1", "mnt-2"] {
        assert!(machines.shell(host, "cat /var/lib/kubelet/cpu_manager_state").contains("static"), "{host}");
        assert!(is_open(&cluster, host));
    }
    nothing_is_left_to_do(&desk, &file, 2);

    machines.step("another place for the runtime's data: all pods are made anew, from images that came again");
    wanted["runtime"]["settings"]["root"] = json!("/var/lib/containerd-other");
    let file = write(&desk, "maintained", &wanted);
    desk.run_for(0, &["apply", &file, "--yes"]);
    assert_eq!(eventually("the API answers", SOON, || cluster.ask(&["get", "--raw", "/readyz"])), "ok");
    cluster.nodes_are_ready(&["mnt-1", "mnt-2"]);
    assert!(machines.shell("mnt-1", "ls /var/lib/containerd-other").contains("metadata"));
    cluster.serve(&desk, "after", "mnt-2");
    cluster.pod_address("after");
    nothing_is_left_to_do(&desk, &file, 2);
}
