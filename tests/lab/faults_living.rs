//! A living cluster of three control planes and a worker, whose parts fail while it is changed: a
//! control plane that is away, one whose API server was taken off by hand, an etcd member that is
//! killed while somebody writes. No acknowledged write is lost, slipway never takes a second member,
//! and in the end there is nothing to do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::cluster::Cluster;
use super::machines::{Machines, eventually};
use super::plan_file::{plan, with_local_proxy, write};
use super::single_node::nothing_is_left_to_do;
use super::slipway::{Desk, Ended};

const CONTROL_PLANES: [&str; 3] = ["broken-33", "broken-34", "broken-35"];
const WORKER: &str = "broken-36";
const ALL: [&str; 4] = ["broken-33", "broken-34", "broken-35", "broken-36"];

/// Somebody who uses the cluster meanwhile: creates one object after another, at each API server in
/// turn, and remembers those that were acknowledged.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Written>,
}

/// What became of the writes.
struct Written {
    acknowledged: BTreeSet<String>,
    refused: usize,
}

impl Writer {
    fn start(servers: Vec<Cluster>, series: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut written = Written { acknowledged: BTreeSet::new(), refused: 0 };
            for number in 0.. {
                if seen.load(Ordering::Relaxed) {
                    break;
                }
                let name = format!("written-{series}-{number}");
                let server = &servers[number % servers.len()];
                match server.ask(&["create", "configmap", &name, &format!("--from-literal=number={number}")]) {
                    Ok(_) => _ = written.acknowledged.insert(name),
                    Err(_) => written.refused += 1,
                }
            }
            written
        });
        Self { stop, thread }
    }

    fn finish(self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the writer does not panic")
    }
}

/// The steps that begin and end, in order: whether it begins, the phase, the host, the outcome.
fn steps(run: &Ended) -> Vec<(bool, String, String, String)> {
    let events = run.out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events
        .filter_map(|event| {
            let begins = match event["event"].as_str()? {
                "step-started" => true,
                "step-finished" => false,
                _ => return None,
            };
            let (phase, host) = event["step"].as_str()?.split_once('@')?;
            let outcome = event.pointer("/outcome/outcome").and_then(Value::as_str).unwrap_or_default();
            Some((begins, phase.to_owned(), host.to_owned(), outcome.to_owned()))
        })
        .collect()
}

/// The control planes in the order in which they were taken. Fails if one was before the last was
/// healthy again.
fn taken_one_by_one(run: &Ended) -> Vec<String> {
    let mut order: Vec<String> = Vec::new();
    let mut healthy = true;
    for (begins, phase, host, outcome) in steps(run) {
        if !CONTROL_PLANES.contains(&host.as_str()) {
            continue;
        }
        if begins && ["etcd", "control-plane", "kubelet"].contains(&phase.as_str()) && order.last() != Some(&host) {
            assert!(healthy, "{host} was taken before {order:?} was healthy again: {run}");
            order.push(host);
            healthy = false;
        } else if !begins && phase == "healthy" && order.last() == Some(&host) {
            healthy = outcome == "changed";
        }
    }
    order
}

#[test]
#[ignore = "in the lab, with `cargo xtask test`"]
fn a_living_cluster_is_changed_while_parts_of_it_fail() {
    let machines = Machines::boot(&ALL);
    let desk = Desk::new();
    let control_planes = CONTROL_PLANES.map(|name| (name, ["control-plane"].as_slice()));
    let roles: Vec<(&str, &[&str])> = control_planes.into_iter().chain([(WORKER, ["worker"].as_slice())]).collect();
    let mut plan = with_local_proxy(plan(&machines, &roles));
    let file = write(&desk, "living", &plan);
    machines.step("all four at once");
    desk.run_for(0, &["apply", &file]);
    let cluster = Cluster::of(&desk, &machines, &file, CONTROL_PLANES[0]);
    cluster.nodes_are_ready(&ALL);

    machines.step("a worker is changed while a control plane is away");
    let last = CONTROL_PLANES[2];
    machines.power_off(last);
    plan["kubelet"]["configuration"]["maxPods"] = json!(77);
    write(&desk, "living", &plan);
    let refused = desk.run_for(5, &["apply", &file, "--yes"]);
    refused.says(&format!("host {last}")).says("nothing was changed").says("--host NAME");
    let applied = desk.run_for(0, &["apply", &file, "--host", WORKER, "--yes"]);
    applied.says(&format!("host {last}")).says("not asked for");
    machines.shell(WORKER, "grep -q 'maxPods.* 77' /var/lib/kubelet/config.yaml && systemctl is-active -q kubelet");
    for host in &CONTROL_PLANES[..2] {
        machines.shell(host, "! grep -q 'maxPods.* 77' /var/lib/kubelet/config.yaml");
    }
    machines.power_on(last);
    eventually("it is back", Duration::from_secs(120), || cluster.at(&machines, last).ask(&["get", "--raw", "/readyz"]));

    let rounds = if std::env::var_os("SLIPWAY_TORTURE").is_some() { 5 } else { 1 };
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |time| time.subsec_nanos());
    for round in 0..rounds {
        change_while_a_member_is_killed(&machines, &desk, &cluster, &mut plan, round, seed.rotate_left(11 * u32::try_from(round).unwrap_or(0)));
    }
    cluster.nodes_are_ready(&ALL);
}

/// Every etcd member and API server gets other arguments; one API server was taken off by hand
/// before, one member is killed on the way.
fn change_while_a_member_is_killed(machines: &Machines, desk: &Desk, cluster: &Cluster, plan: &mut Value, round: usize, seed: u32) {
    machines.step("an API server is taken off by hand, and every member is to be changed");
    let last = CONTROL_PLANES[2];
    machines.shell(last, "rm /etc/kubernetes/manifests/kube-apiserver.yaml");
    eventually("it is gone", Duration::from_secs(60), || {
        let answer = cluster.at(machines, last).ask(&["get", "--raw", "/readyz"]);
        answer.map_or_else(|_| Ok(()), Err)
    });
    plan["etcd"]["extraArgs"] = json!({ "heartbeat-interval": (110 + round).to_string() });
    let file = write(desk, "living", plan);
    let writer = Writer::start(CONTROL_PLANES[..2].iter().map(|host| cluster.at(machines, host)).collect(), round);

    let run = desk.start(&["apply", &file, "--yes", "--output", "json"]);
    // At any time between the first member's restart and the last one's.
    let victim = CONTROL_PLANES[seed as usize % 3];
    let begun = 1 + seed as usize / 3 % 3;
    eventually("members are being changed", Duration::from_secs(180), || {
        let out = run.out();
        let count = out.lines().filter(|line| line.contains("\"step-started\"") && line.contains("\"etcd@")).count();
        if count >= begun { Ok(()) } else { Err(out) }
    });
    machines.step(&format!("the member on {victim} is killed while number {begun} is changed"));
    // Between two starts of it there is none to kill.
    machines.shell(victim, "for try in $(seq 50); do id=$(pidof etcd) && kill -9 $id && exit; sleep 0.2; done; exit 1");
    let changed = run.wait();
    let order = taken_one_by_one(&changed);
    assert_eq!(order.first().map(String::as_str), Some(last), "what is broken comes first: {changed}");
    match changed.code {
        Some(0) => machines.step("the change was finished"),
        Some(6) => {
            machines.step("the change was stopped");
            eprintln!("{}", changed.out);
            changed.says("\"hint\":\"");
        }
        _ => panic!("neither finished nor refused: {changed}"),
    }

    machines.step("the next run reaches the end");
    eventually("etcd is whole", Duration::from_secs(120), || {
        let status = desk.run(&["status", &file]);
        if status.out.contains("3 of 3 voting members healthy") { Ok(()) } else { Err(status.to_string()) }
    });
    taken_one_by_one(&desk.run_for(0, &["apply", &file, "--yes", "--output", "json"]));
    let written = writer.finish();
    nothing_is_left_to_do(desk, &file, 4);
    let there = cluster.kubectl(&["get", "configmaps", "--output", "name"]);
    let there: BTreeSet<&str> = there.lines().filter_map(|line| line.strip_prefix("configmap/")).collect();
    let lost: Vec<&String> = written.acknowledged.iter().filter(|name| !there.contains(name.as_str())).collect();
    assert!(lost.is_empty(), "acknowledged and not there: {lost:?}");
    assert!(written.acknowledged.len() > 5, "only {} writes were acknowledged, {} were not", written.acknowledged.len(), written.refused);
    machines.step(&format!("{} writes were acknowledged and are there, {} were refused", written.acknowledged.len(), written.refused));
}
