//! A cluster whose certificates have all expired, those of its kubelets too: nobody can log in to it any
//! more, and no component trusts another. One command brings it back.

use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::Cluster;
use super::machines::{Machines, eventually};
use super::plan_file::{plan, with_local_proxy, write};
use super::single_node::nothing_is_left_to_do;
use super::slipway::Desk;

const CONTROL_PLANES: [&str; 3] = ["cp-64", "cp-65", "cp-66"];
const WORKERS: [&str; 2] = ["worker-64", "worker-65"];

/// Certificates with time left, by host and name, but for those of CAs and what components sign for
/// themselves; none when everything has expired.
fn alive(desk: &Desk, plan: &str) -> Vec<String> {
    // A leaf that has expired is worth an exit code of its own.
    let listed = desk.run(&["certs", "list", plan, "--warn-within", "1s", "--output", "json"]);
    assert!(matches!(listed.code, Some(0 | 11)), "{listed}");
    let entries: Value = serde_json::from_str(&listed.out).unwrap_or_else(|error| panic!("{error}: {listed}"));
    let signs_itself = |entry: &&Value| entry["name"].as_str().is_some_and(|name| name.ends_with("-server"));
    let leaves = entries.as_array().expect("an array").iter().filter(|entry| entry["authority"] == false && !signs_itself(entry));
    let mut count = 0;
    let alive: Vec<String> = leaves
        .inspect(|_| count += 1)
        // What is only in a component's memory has no end that anybody sees while it is not served.
        .filter(|entry| entry["secondsLeft"].as_i64().is_some_and(|left| left >= 0))
        .map(|entry| format!("{} {} {}", entry["host"], entry["name"], entry["secondsLeft"]))
        .collect();
    // Ten that kubeadm knows and the kubelet's.
    assert!(count >= 3 * 11 + 2, "{count} leaves: {listed}");
    alive
}

#[test]
#[ignore = "in the lab, with `cargo xtask torture`"]
fn a_cluster_whose_certificates_have_all_expired_is_brought_back_by_one_command() {
    let all: Vec<&str> = CONTROL_PLANES.into_iter().chain(WORKERS).collect();
    let machines = Machines::boot(&all);
    let desk = Desk::new();
    let role = |name: &&'static str| -> (&str, &[&str]) { (*name, if WORKERS.contains(name) { &["worker"] } else { &["control-plane"] }) };
    let roles: Vec<(&str, &[&str])> = CONTROL_PLANES.iter().chain(WORKERS.iter()).map(role).collect();
    let mut wanted = with_local_proxy(plan(&machines, &roles));
    let usual = write(&desk, "usual", &wanted);
    wanted["pki"] = json!({ "validity": "4m", "renewBefore": "5s" });
    let short = write(&desk, "short", &wanted);

    machines.step("a cluster with certificates of four minutes, and something in it");
    desk.run_for(0, &["apply", &short]);
    let cluster = Cluster::of(&desk, &machines, &short, "cp-64");
    cluster.nodes_are_ready(&all);
    cluster.kubectl(&["create", "configmap", "kept", "--from-literal", "written=before"]);

    machines.step("all of them end, and nobody gets in");
    // A kubelet asks for another one while it can, so its last one may begin just before the API server's end.
    eventually("every leaf has expired", Duration::from_secs(600), || {
        let alive = alive(&desk, &short);
        std::thread::sleep(Duration::from_secs(5));
        if alive.is_empty() { Ok(()) } else { Err(alive.join(", ")) }
    });
    let refused = cluster.ask(&["get", "nodes"]).expect_err("the API server's certificate has expired");
    assert!(refused.contains("certificate"), "{refused}");
    desk.run_for(10, &["status", &usual]).says("certificate expired");

    machines.step("the hosts restart as well, so that no component holds on to an old connection");
    for host in &all {
        machines.power_off(host);
    }
    for host in &all {
        machines.power_on(host);
    }

    machines.step("one command brings it back");
    eprintln!("{}", desk.run_for(0, &["certs", "renew", &usual, "--yes"]).out);
    let cluster = Cluster::of(&desk, &machines, &usual, "cp-64");
    for host in &all {
        cluster.wait_for_node(host, "True", Duration::from_secs(120));
    }
    assert_eq!(cluster.kubectl(&["get", "configmap", "kept", "--output", "jsonpath={.data.written}"]), "before");
    desk.run_for(0, &["certs", "list", &usual, "--warn-within", "30d"]);
    // The stored configuration says how long the cluster signs for, and the plan says another time now.
    desk.run_for(0, &["apply", &usual, "--yes"]);
    nothing_is_left_to_do(&desk, &usual, all.len());
}
