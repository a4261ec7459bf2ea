//! The renewal of every certificate of a cluster that serves: a client that connects anew for every
//! request, through the proxy of a worker, counts requests that fail. There shall be none.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::cluster::Cluster;
use super::client::Client;
use super::machines::Machines;
use super::plan_file::{plan, with_local_proxy, write};
use super::single_node::nothing_is_left_to_do;
use super::slipway::Desk;

const CONTROL_PLANES: [&str; 3] = ["cp-61", "cp-62", "cp-63"];
const WORKER: &str = "worker-61";
const ALL: [&str; 4] = ["cp-61", "cp-62", "cp-63", WORKER];

/// The serial number a port presents, by openssl.
fn serial(machines: &Machines, host: &str, port: u16) -> String {
    let address = format!("{}:{port}", machines.address(host));
    let script = format!("openssl s_client -connect {address} </dev/null 2>/dev/null | openssl x509 -noout -serial");
    let output = Command::new("sh").arg("-c").arg(script).stdin(Stdio::null()).output().expect("sh runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// What API servers and etcd members present, by host and port.
fn serials(machines: &Machines) -> Vec<String> {
    let ports = CONTROL_PLANES.iter().flat_map(|host| [6443, 2379, 2380].map(|port| (*host, port)));
    ports.map(|(host, port)| format!("{host}:{port} {}", serial(machines, host, port))).collect()
}

#[test]
#[ignore = "in the lab, with `cargo xtask test`"]
fn every_certificate_is_renewed_and_no_request_fails() {
    let machines = Machines::boot(&ALL);
    let desk = Desk::new();
    let role = |name: &'static str| -> (&str, &[&str]) { (name, if name == WORKER { &["worker"] } else { &["control-plane"] }) };
    let roles: Vec<(&str, &[&str])> = ALL.into_iter().map(role).collect();
    let mut wanted = with_local_proxy(plan(&machines, &roles));
    let usual = write(&desk, "usual", &wanted);
    wanted["pki"] = json!({ "validity": "1h", "renewBefore": "10m" });
    let short = write(&desk, "short", &wanted);

    machines.step("a cluster whose certificates soon end");
    desk.run_for(0, &["apply", &short]);
    let cluster = Cluster::of(&desk, &machines, &short, "cp-61");
    cluster.nodes_are_ready(&ALL);

    machines.step("they are told, with an exit code of its own");
    let listed = desk.run_for(11, &["certs", "list", &short, "--warn-within", "30d", "--output", "json"]);
    let entries: Value = serde_json::from_str(&listed.out).unwrap_or_else(|error| panic!("{error}: {listed}"));
    let entries = entries.as_array().expect("an array");
    let served = entries.iter().filter(|entry| entry.pointer("/served/loaded") == Some(&json!(true))).count();
    // API server, etcd twice, kubelet, controller manager and scheduler; and the worker's kubelet.
    assert_eq!(served, 3 * 6 + 1, "{listed}");
    desk.run_for(0, &["certs", "list", &short, "--warn-within", "10m"]);
    desk.run_for(3, &["certs", "renew", &usual, "apisrver"]).says("did you mean `apiserver`");
    desk.run_for(8, &["certs", "renew", &usual, "--all"]).says("--expect");

    machines.step("all are renewed while a client reads and writes");
    let before = serials(&machines);
    let client = Client::start(&machines, &desk, &short, WORKER);
    let renewed = desk.run_for(0, &["certs", "renew", &usual, "--all", "--yes"]);
    eprintln!("{}", renewed.out);
    let heard = client.stop();

    machines.step("no request failed, and what was acknowledged is there");
    eprintln!("{heard}");
    assert_eq!(heard.failures, Vec::<String>::new(), "{heard}");
    assert!(heard.acknowledged.len() > 100 && heard.lost(&cluster.at(&machines, "cp-62")).is_empty(), "{heard}");

    machines.step("what is served is new everywhere");
    let after = serials(&machines);
    for (old, new) in before.iter().zip(&after) {
        assert!(new.contains("serial=") && old != new, "{old} is still served as {new}");
    }
    desk.run_for(0, &["certs", "list", &usual, "--warn-within", "30d"]);
    // The stored configuration says how long the cluster signs for, and the plan says another time now.
    desk.run_for(0, &["apply", &usual, "--yes"]);
    nothing_is_left_to_do(&desk, &usual, 4);
    desk.run_for(0, &["certs", "renew", &usual]).says("nothing to do");

    machines.step("kubeadm reads them, and slipway reads what kubeadm renewed");
    machines.put("cp-61", &machines.program("kubeadm"), "/usr/bin/kubeadm");
    let table = machines.shell("cp-61", "kubeadm certs check-expiration");
    eprintln!("{table}");
    assert_eq!(table.matches("364d").count(), 10, "{table}");
    assert!(!table.contains("MISSING") && !table.contains("invalid"), "{table}");
    machines.shell("cp-61", "kubeadm certs renew all");
    let listed = desk.run_for(0, &["certs", "list", &usual]);
    listed.says("not loaded yet");
    assert!(!listed.out.contains("renew:"), "{listed}");
}
