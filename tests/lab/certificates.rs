//! The renewal of every certificate of a cluster that serves: a client that connects anew for every
//! request, through the proxy of a worker, counts requests that fail. There shall be none.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::Cluster;
use super::machines::{Machines, eventually};
use super::plan_file::{plan, with_local_proxy, write};
use super::single_node::nothing_is_left_to_do;
use super::slipway::Desk;

const CONTROL_PLANES: [&str; 3] = ["cp-61", "cp-62", "cp-63"];
const WORKER: &str = "worker-61";
const ALL: [&str; 4] = ["cp-61", "cp-62", "cp-63", WORKER];

/// Reads and writes through the host's own proxy until the file `stop` is there. Each request has a
/// connection of its own and nothing is tried again, so that whatever goes wrong is counted.
const CLIENT: &str = r#"#!/bin/bash
cd /root/client
ask() {
  printf '%s' "$1" | timeout 30 openssl s_client -quiet -verify_quiet -verify_return_error -connect 127.0.0.1:6443 \
    -CAfile /etc/kubernetes/pki/ca.crt -cert client.crt -key client.key 2>"error.$2"
}
head=$'Host: kubernetes\r\nConnection: close\r\n'
reader() {
  n=0
  while [ ! -e stop ]; do
    answer=$(ask $'GET /api/v1/namespaces/default HTTP/1.1\r\n'"$head"$'\r\n' read)
    n=$((n + 1))
    case $answer in 'HTTP/1.1 200 '*) ;; *) echo "$(date +%T.%N) read ${answer:0:200} $(tail -n 3 error.read)" >>failures ;; esac
  done
  echo "$n" >read
}
writer() {
  n=0
  while [ ! -e stop ]; do
    body="{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"written-$n\"}}"
    request=$'POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\n'"$head"$'Content-Type: application/json\r\nContent-Length: '"${#body}"
    answer=$(ask "$request"$'\r\n\r\n'"$body" write)
    case $answer in 'HTTP/1.1 201 '*) echo "written-$n" >>acknowledged ;; *) echo "$(date +%T.%N) write ${answer:0:200} $(tail -n 3 error.write)" >>failures ;; esac
    n=$((n + 1))
  done
  echo "$n" >write
}
touch acknowledged failures
reader & writer &
wait
touch ended
"#;

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

fn start_client(machines: &Machines, desk: &Desk, plan: &str) {
    let file = desk.path("client.kubeconfig");
    desk.run_for(0, &["kubeconfig", plan, "--out", &file.display().to_string()]);
    let text = std::fs::read_to_string(&file).expect("a kubeconfig was written");
    machines.shell(WORKER, "mkdir -p /root/client");
    for (name, field) in [("client.crt", "client-certificate-data"), ("client.key", "client-key-data")] {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(&format!("{field}: "))).expect("the field is there");
        machines.shell(WORKER, &format!("printf %s {line} | base64 -d >/root/client/{name}"));
    }
    let script = desk.path("client.sh");
    std::fs::write(&script, CLIENT).expect("a script can be written");
    machines.put(WORKER, &script, "/root/client/client.sh");
    machines.shell(WORKER, "setsid bash /root/client/client.sh >/dev/null 2>&1 </dev/null &");
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
    start_client(&machines, &desk, &short);
    eventually("the client writes", Duration::from_secs(20), || {
        let written = machines.shell(WORKER, "wc -l </root/client/acknowledged || echo 0");
        if written.trim().parse::<u32>().is_ok_and(|lines| lines > 20) { Ok(()) } else { Err(written) }
    });
    let renewed = desk.run_for(0, &["certs", "renew", &usual, "--all", "--yes"]);
    eprintln!("{}", renewed.out);
    machines.shell(WORKER, "touch /root/client/stop; until [ -e /root/client/ended ]; do sleep 0.2; done");

    machines.step("no request failed, and what was acknowledged is there");
    let failures = machines.shell(WORKER, "cat /root/client/failures");
    let counts = machines.shell(WORKER, "cd /root/client; echo $(cat read) reads, $(cat write) writes");
    eprintln!("{}", counts.trim());
    assert_eq!(failures, "", "{counts}");
    let acknowledged = machines.shell(WORKER, "cat /root/client/acknowledged");
    let stored = cluster.at(&machines, "cp-62").kubectl(&["get", "configmaps", "--output", "jsonpath={.items[*].metadata.name}"]);
    let stored: BTreeSet<&str> = stored.split_whitespace().collect();
    let lost: Vec<&str> = acknowledged.lines().filter(|name| !stored.contains(name)).collect();
    assert!(acknowledged.lines().count() > 100 && lost.is_empty(), "lost: {lost:?} of {counts}");

    machines.step("what is served is new everywhere");
    let after = serials(&machines);
    for (old, new) in before.iter().zip(&after) {
        assert!(new.contains("serial=") && old != new, "{old} is still served as {new}");
    }
    desk.run_for(0, &["certs", "list", &usual, "--warn-within", "30d"]);
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
