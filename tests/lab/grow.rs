//! A cluster grows from one control plane to three, and its first one is lost with its disk and
//! replaced, while somebody writes. No acknowledged write is lost, and a run that is killed in the
//! middle of a join is finished by the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::cluster::Cluster;
use super::highly_available::{etcd_is_healthy, etcd_members};
use super::machines::{Machines, eventually};
use super::plan_file::{plan, with_local_proxy, write};
use super::single_node::nothing_is_left_to_do;
use super::slipway::Desk;

const THREE: [&str; 3] = ["g-81", "g-82", "g-83"];
const FIVE: [&str; 5] = ["g-81", "g-82", "g-83", "g-84", "g-85"];

/// Makes one ConfigMap after another and remembers which were acknowledged.
pub struct Writer {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<(usize, Vec<String>)>,
}

impl Writer {
    pub fn start(cluster: Cluster, prefix: &'static str) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            let (mut tried, mut acknowledged) = (0, Vec::new());
            while !until.load(Ordering::Relaxed) {
                tried += 1;
                let name = format!("{prefix}-{tried}");
                if cluster.ask(&["create", "configmap", &name]).is_ok() {
                    acknowledged.push(name);
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            (tried, acknowledged)
        });
        Self { ended, thread }
    }

    /// Every acknowledged write is there, and there were some.
    pub fn lost_nothing(self, machines: &Machines, cluster: &Cluster) {
        self.ended.store(true, Ordering::Relaxed);
        let (tried, acknowledged) = self.thread.join().expect("the writer ends");
        let found = cluster.kubectl(&["get", "configmaps", "--output", "name"]);
        let found: Vec<&str> = found.lines().filter_map(|line| line.strip_prefix("configmap/")).collect();
        let lost: Vec<&String> = acknowledged.iter().filter(|name| !found.contains(&name.as_str())).collect();
        machines.step(&format!("{} of {tried} writes were acknowledged, {} of them lost", acknowledged.len(), lost.len()));
        assert!(lost.is_empty() && acknowledged.len() > 10, "{lost:?} lost of {}", acknowledged.len());
    }
}

fn plan_of(machines: &Machines, desk: &Desk, hosts: &[&str]) -> String {
    let roles: Vec<(&str, &[&str])> = hosts.iter().map(|name| (*name, ["control-plane"].as_slice())).collect();
    write(desk, &format!("grow-{}", hosts.len()), &with_local_proxy(plan(machines, &roles)))
}

/// Who etcd's members are, asked in the member of that host, and that all are healthy.
fn members(cluster: &Cluster, host: &str) -> Vec<String> {
    cluster.wait_for_pod("kube-system", &format!("etcd-{host}"));
    etcd_is_healthy(cluster, host);
    etcd_members(cluster, host)
}

fn authority(machines: &Machines, host: &str) -> String {
    machines.shell(host, "sha256sum /etc/kubernetes/pki/ca.crt /etc/kubernetes/pki/ca.key /etc/kubernetes/pki/etcd/ca.crt /etc/kubernetes/pki/sa.pub")
}

#[test]
#[ignore = "in the lab, with `cargo xtask test`"]
fn control_planes_come_and_are_replaced_and_no_write_is_lost() {
    let mut machines = Machines::boot(&THREE);
    let desk = Desk::new();
    machines.step("one control plane");
    let one = plan_of(&machines, &desk, &["g-81"]);
    desk.run_for(0, &["apply", &one]);
    let cluster = Cluster::of(&desk, &machines, &one, "g-81");
    let keys = authority(&machines, "g-81");

    machines.step("two more are announced");
    let three = plan_of(&machines, &desk, &THREE);
    desk.run_for(0, &["diff", &three]).says("etcd learner g-82").says("etcd learner g-83").says("vote of etcd member g-83");

    machines.step("they join, and the run is killed while the first one does");
    let writer = Writer::start(cluster.at(&machines, "g-81"), "grown");
    let joining = desk.start(&["apply", &three, "--yes"]);
    let prepared = |text: &str| text.lines().any(|line| line.contains("g-82 kubelet: ") && line.ends_with(" s") && line.contains(" done "));
    eventually("its kubelet runs", Duration::from_secs(240), || {
        let text = joining.err() + &joining.out();
        if prepared(&text) { Ok(()) } else { Err(text) }
    });
    let killed = joining.kill();
    assert_eq!(killed.code, None, "it was to be killed on its way: {killed}");
    let joined = desk.run_for(0, &["apply", &three, "--yes"]);
    eprintln!("{}", joined.out);
    assert_eq!(members(&cluster, "g-83"), THREE);
    cluster.nodes_are_ready(&THREE);
    nothing_is_left_to_do(&desk, &three, 3);
    writer.lost_nothing(&machines, &cluster);

    machines.step("the first one is lost with its disk, and replaced");
    let cluster = cluster.at(&machines, "g-82");
    let writer = Writer::start(cluster.at(&machines, "g-82"), "replaced");
    machines.lose_and_replace("g-81");
    desk.run_for(0, &["diff", &three]).says("whose data is gone");
    let replaced = desk.run_for(0, &["apply", &three, "--yes"]);
    eprintln!("{}", replaced.out);
    assert_eq!(members(&cluster, "g-83"), THREE);
    assert_eq!(authority(&machines, "g-81"), keys, "there is one CA, the first");
    cluster.wait_for_node("g-81", "True", Duration::from_secs(60));
    nothing_is_left_to_do(&desk, &three, 3);
    writer.lost_nothing(&machines, &cluster);

    // `cargo xtask torture` goes on.
    if std::env::var_os("SLIPWAY_TORTURE").is_some() {
        five_and_back(&mut machines, &desk, &cluster, &three);
    }
}

fn five_and_back(machines: &mut Machines, desk: &Desk, cluster: &Cluster, three: &str) {
    machines.step("five, and back to three");
    machines.add(&["g-84", "g-85"], &[]);
    let writer = Writer::start(cluster.at(machines, "g-82"), "five");
    let five = plan_of(machines, desk, &FIVE);
    desk.run_for(0, &["apply", &five, "--yes"]);
    assert_eq!(members(cluster, "g-85"), FIVE);
    nothing_is_left_to_do(desk, &five, 5);
    // One leaves, and one is lost for good.
    desk.run_for(0, &["reset", &five, "--host", "g-84", "--yes"]);
    machines.power_off("g-85");
    desk.run_for(0, &["reset", &five, "--host", "g-85", "--gone", "--yes"]);
    assert_eq!(members(cluster, "g-82"), THREE);
    // Those that stay forget the way to the pods of those that left.
    desk.run_for(0, &["apply", three, "--yes"]);
    nothing_is_left_to_do(desk, three, 3);
    writer.lost_nothing(machines, cluster);
}
