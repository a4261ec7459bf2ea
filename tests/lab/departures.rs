//! Hosts deleted from the plan file leave the cluster by the next `apply`: of three control planes one that
//! is switched off, and one with pods under a disruption budget, while somebody writes; and of three etcd
//! hosts without a Node one that is switched off and one that answers.

use std::time::Duration;

use super::cluster::Cluster;
use super::highly_available::{etcd_is_healthy, etcd_members};
use super::machines::{Machines, eventually};
use super::grow::Writer;
use super::plan_file::{plan, with_local_proxy, write};
use super::reset::{LOOK, is_as_before};
use super::single_node::nothing_is_left_to_do;
use super::slipway::Desk;

/// A workload that may never be without a ready pod, and a pod that nobody would start again.
const LOAD: &str = r#"
set -e
export KUBECONFIG=/etc/kubernetes/admin.conf HOME=/tmp
kubectl create deployment web --image=lab.local/tool:1 --replicas=2 -- lab-tool serve --port 8080
kubectl create poddisruptionbudget web --selector=app=web --min-available=1
kubectl run alone --command --image=lab.local/tool:1 --overrides='{"spec":{"nodeName":"left-31","tolerations":[{"operator":"Exists"}]}}' -- lab-tool serve --port 8081
kubectl wait --for=condition=Available deployment/web --timeout=120s
kubectl wait --for=condition=Ready pod/alone --timeout=120s
"#;

#[test]
#[ignore = "in the lab, with `cargo xtask test`"]
fn hosts_deleted_from_the_plan_leave_the_cluster() {
    const ALL: [&str; 3] = ["left-30", "left-31", "left-32"];
    let roles: &[&str] = &["control-plane", "worker"];
    let machines = Machines::boot(&ALL);
    let desk = Desk::new();
    let three = write(&desk, "three", &with_local_proxy(plan(&machines, &ALL.map(|host| (host, roles)))));
    let alone = write(&desk, "one", &with_local_proxy(plan(&machines, &[(ALL[0], roles)])));
    let before = machines.shell("left-31", LOOK);

    machines.step("three control planes, with something on two of them");
    desk.run_for(0, &["apply", &three]);
    let cluster = Cluster::of(&desk, &machines, &three, "left-30");
    cluster.kubectl(&["cordon", "left-32"]);
    machines.shell("left-30", LOAD);

    machines.step("a pod that nobody would start again keeps its host from leaving");
    desk.run_for(4, &["diff", &alone])
        .says("host left-31 left the plan, and its Node cannot be drained: pod default/alone has no controller")
        .says("nothing was changed");
    cluster.kubectl(&["delete", "pod", "alone", "--grace-period=1"]);

    machines.step("one is switched off; what will become of both is shown first, and needs a yes");
    machines.power_off("left-32");
    desk.run_for(0, &["diff", &alone])
        .says("pods on Node/left-31")
        .says("etcd member left-31 (")
        .says("leaves for good: left-31: pods moved away first, etcd member removed, Node deleted, machine reset")
        .says("host left-32: it left the plan and is taken out of the cluster, but its machine is NOT reset");
    desk.run_for(8, &["apply", &alone]).says("leaves for good: left-32").says("leaves for good: left-31");

    machines.step("they leave while somebody writes, and the run is killed when both members are gone");
    let writer = Writer::start(cluster.at(&machines, "left-30"), "left");
    let leaving = desk.start(&["apply", &alone, "--yes", "--output", "json"]);
    eventually("the second one has left etcd", Duration::from_secs(240), || {
        let out = leaving.out();
        let over = out.lines().any(|line| line.contains("\"leave@left-31\"") && line.contains("step-finished"));
        if over { Ok(()) } else { Err(out) }
    });
    leaving.kill();
    let left = desk.run_for(0, &["apply", &alone, "--yes"]);
    eprintln!("{}", left.out);
    cluster.nodes_are_ready(&["left-30"]);
    etcd_is_healthy(&cluster, "left-30");
    assert_eq!(etcd_members(&cluster, "left-30"), ["left-30"]);
    is_as_before(&machines, "left-31", &before);
    cluster.kubectl(&["wait", "--for=condition=Available", "deployment/web", "--timeout=60s"]);
    nothing_is_left_to_do(&desk, &alone, 1);
    writer.lost_nothing(&machines, &cluster);
}

/// The names of etcd's members, asked on a host without a Node.
const MEMBERS: &str = "for task in $(ctr -n k8s.io tasks ls -q); do ctr -n k8s.io tasks exec --exec-id look $task etcdctl \
    --endpoints=https://127.0.0.1:2379 --cacert=/etc/kubernetes/pki/etcd/ca.crt --cert=/etc/kubernetes/pki/etcd/server.crt \
    --key=/etc/kubernetes/pki/etcd/server.key member list 2>/dev/null && break; done | cut -d, -f3 | sort | tr -d '\n'";

#[test]
#[ignore = "in the lab, with `cargo xtask test`"]
fn etcd_hosts_deleted_from_the_plan_leave_the_cluster() {
    const ALL: [&str; 4] = ["left-33", "left-34", "left-35", "left-36"];
    let machines = Machines::boot(&ALL);
    let desk = Desk::new();
    let roles = |hosts: &[&'static str]| -> Vec<(&'static str, &'static [&'static str])> {
        let of = |host: &&'static str| if *host == ALL[0] { (*host, ["control-plane", "worker"].as_slice()) } else { (*host, ["etcd"].as_slice()) };
        hosts.iter().map(of).collect()
    };
    let three = write(&desk, "three", &with_local_proxy(plan(&machines, &roles(&ALL))));
    let alone = write(&desk, "one", &with_local_proxy(plan(&machines, &roles(&ALL[..2]))));
    let before = machines.shell("left-35", LOOK);

    machines.step("three etcd hosts, which are no Nodes");
    desk.run_for(0, &["apply", &three]);
    let cluster = Cluster::of(&desk, &machines, &three, "left-33");
    cluster.nodes_are_ready(&["left-33"]);
    let listed = || cluster.kubectl(&["--namespace", "kube-system", "get", "configmap", "slipway-inventory", "--output", "jsonpath={.data.hosts}"]);
    assert!(["left-34 {", "left-35 {", "left-36 {"].iter().all(|line| listed().contains(line)), "{}", listed());

    machines.step("one is switched off; what will become of two is shown first, and needs a yes");
    machines.power_off("left-36");
    desk.run_for(0, &["diff", &alone])
        .says("etcd member left-35 (")
        .says("leaves for good: left-36: etcd member removed, machine not touched")
        .says("leaves for good: left-35: etcd member removed, machine reset")
        .says("host left-36: it left the plan and is taken out of the cluster, but its machine is NOT reset");
    desk.run_for(8, &["apply", &alone]).says("leaves for good: left-35");

    machines.step("they leave while somebody writes, and the run is killed when both members are gone");
    let writer = Writer::start(cluster.at(&machines, "left-33"), "etcd-left");
    let leaving = desk.start(&["apply", &alone, "--yes", "--output", "json"]);
    eventually("the second one has left etcd", Duration::from_secs(240), || {
        let out = leaving.out();
        let over = out.lines().any(|line| line.contains("\"leave@left-35\"") && line.contains("step-finished"));
        if over { Ok(()) } else { Err(out) }
    });
    let place = |text: &str| leaving.out().lines().position(|line| line.contains(text) && line.contains("step-finished"));
    let (asked, left) = (place("\"control-plane@left-33\""), place("\"leave@left-35\""));
    assert!(asked.is_some() && asked < left, "the API server stops asking the member before it goes: {}", leaving.out());
    leaving.kill();
    let rest = desk.run_for(0, &["apply", &alone, "--yes"]);
    eprintln!("{}", rest.out);
    cluster.nodes_are_ready(&["left-33"]);
    assert_eq!(machines.shell("left-34", MEMBERS).trim(), "left-34");
    let servers = machines.shell("left-33", "grep -o 'etcd-servers=.*' /etc/kubernetes/manifests/kube-apiserver.yaml");
    assert_eq!(servers.trim().trim_end_matches('"'), format!("etcd-servers=https://{}:2379", machines.address("left-34")));
    is_as_before(&machines, "left-35", &before);
    let listed = listed();
    assert!(listed.starts_with("left-34 {") && listed.trim_end().lines().count() == 1, "{listed}");
    nothing_is_left_to_do(&desk, &alone, 2);
    writer.lost_nothing(&machines, &cluster);
}
