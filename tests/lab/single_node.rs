//! One host: what is shown is what is done, and a second run has nothing to do.

use super::cluster::Cluster;
use super::machines::Machines;
use super::plan_file::{plan, write};
use super::slipway::{Desk, Ended};
use super::snapshot::Snapshot;

/// The digest that `diff --output json` tells.
pub fn digest(diff: &Ended) -> String {
    let difference: serde_json::Value = serde_json::from_str(&diff.out).unwrap_or_else(|error| panic!("{error}: {diff}"));
    difference["digest"].as_str().expect("a difference has a digest").to_owned()
}

/// A second run changes nothing, with one round trip for each host.
pub fn nothing_is_left_to_do(desk: &Desk, plan: &str, hosts: usize) {
    let again = desk.run_for(0, &["apply", plan]);
    let trips = vec!["1"; hosts].join("+");
    again.says("nothing to do").says(&format!("({hosts} hosts, {trips} round trips)"));
    desk.run_for(0, &["diff", plan, "--exit-code"]);
}

#[test]
#[ignore = "in the lab, with `cargo xtask test`"]
fn a_single_node_becomes_what_was_reviewed() {
    let machines = Machines::boot(&["cp-39"]);
    let desk = Desk::new();
    let file = write(&desk, "single", &plan(&machines, &[("cp-39", &["control-plane", "worker"])]));
    let before = Snapshot::of(&machines, &["cp-39"]);

    machines.step("diff tells the same twice and changes nothing");
    let shown = desk.run_for(7, &["diff", &file, "--exit-code", "--output", "json"]);
    let again = desk.run_for(0, &["diff", &file, "--output", "json"]);
    assert_eq!(digest(&shown), digest(&again));
    before.is_unchanged(&machines);

    machines.step("apply refuses anything but what was reviewed");
    let reviewed = digest(&shown);
    let (rest, last) = reviewed.split_at(reviewed.len() - 1);
    let other = format!("{rest}{}", if last == "0" { "1" } else { "0" });
    let refused = desk.run_for(8, &["apply", &file, "--expect", &other]);
    refused.says("not the reviewed one");
    before.is_unchanged(&machines);

    machines.step("apply does what was reviewed");
    let applied = desk.run_for(0, &["apply", &file, "--expect", &reviewed]);
    eprintln!("{}", applied.out);

    machines.step("the node is ready");
    let cluster = Cluster::of(&desk, &machines, &file, "cp-39");
    cluster.nodes_are_ready(&["cp-39"]);
    assert_eq!(cluster.kubectl(&["get", "--raw", "/readyz"]), "ok");

    machines.step("nothing is left to do");
    nothing_is_left_to_do(&desk, &file, 1);

    machines.step("the node comes back after a power cut, with its pods");
    cluster.serve(&desk, "served", "cp-39");
    cluster.pod_address("served");
    machines.power_off("cp-39");
    machines.power_on("cp-39");
    super::machines::eventually("the API is back", std::time::Duration::from_secs(120), || cluster.ask(&["get", "--raw", "/readyz"]));
    cluster.wait_for_node("cp-39", "True", std::time::Duration::from_secs(120));
    cluster.pod_address("served");
    nothing_is_left_to_do(&desk, &file, 1);

    machines.step("what leaves the plan goes, and nothing else");
    let mut wanted = plan(&machines, &[("cp-39", &["control-plane", "worker"])]);
    wanted["hosts"][0]["labels"] = serde_json::json!({ "zone": "a" });
    let with_label = write(&desk, "with-label", &wanted);
    desk.run_for(0, &["apply", &with_label, "--yes"]);
    nothing_is_left_to_do(&desk, &with_label, 1);
    cluster.kubectl(&["label", "node", "cp-39", "theirs=x"]);
    cluster.kubectl(&["create", "configmap", "theirs", "--namespace", "kube-system"]);
    let labels = || cluster.kubectl(&["get", "node", "cp-39", "--output", "jsonpath={.metadata.labels.zone}/{.metadata.labels.theirs}"]);
    assert_eq!(labels(), "a/x");
    wanted["hosts"][0]["labels"] = serde_json::json!({});
    wanted["coreDns"] = serde_json::json!({ "enabled": false });
    let without = write(&desk, "without", &wanted);
    desk.run_for(7, &["diff", &without, "--exit-code"]).says("- Deployment/kube-system/coredns: no longer wanted").says("labels.zone");
    desk.run_for(0, &["apply", &without, "--yes"]);
    assert_eq!(labels(), "/x");
    for gone in ["deployment/coredns", "service/kube-dns", "configmap/coredns", "serviceaccount/coredns"] {
        let seen = cluster.ask(&["get", gone, "--namespace", "kube-system"]).expect_err(gone);
        assert!(seen.contains("NotFound"), "{gone}: {seen}");
    }
    cluster.kubectl(&["get", "configmap/theirs", "daemonset/kube-proxy", "--namespace", "kube-system"]);
    nothing_is_left_to_do(&desk, &without, 1);
}
