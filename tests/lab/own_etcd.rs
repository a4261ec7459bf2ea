//! etcd on a host of its own, and hosts whose runtime has no image: all images come as archives.
//! On the way there two steps fail, on a bad download and on a full disk, and leave nothing half done.

use serde_json::{Value, json};

use super::cluster::Cluster;
use super::machines::Machines;
use super::plan_file::{plan, write};
use super::single_node::nothing_is_left_to_do;
use super::slipway::Desk;
use super::snapshot::Snapshot;

const HOSTS: [&str; 2] = ["etcd-31", "cp-37"];
/// The only host of a second cluster, without etcd.
const SECOND: &str = "cp-36";

/// In place of curl: brings the bytes of another file.
const FALSE_CURL: &str = "cat > /usr/bin/curl <<'EOF'\n#!/bin/sh\nwhile [ \"$1\" != -o ]; do shift; done\necho 'not a kubelet' > \"$2\"\nEOF\nchmod +x /usr/bin/curl";

#[test]
#[ignore = "in the lab, with `cargo xtask test`"]
fn etcd_on_its_own_host_and_images_from_archives() {
    let mut machines = Machines::boot_with(&HOSTS, &["--bare-images"]);
    let desk = Desk::new();
    let roles: [(&str, &[&str]); 2] = [("etcd-31", &["etcd"]), ("cp-37", &["control-plane", "worker"])];
    let mut plan = plan(&machines, &roles);
    let archive = |name: &str, roles: &[&str]| {
        let mut archive = json!({ "file": machines.images().join(name) });
        if !roles.is_empty() {
            archive["roles"] = json!(roles);
        }
        archive
    };
    let cluster_roles = ["control-plane", "worker"];
    plan["images"] = json!({ "archives": [
        archive("pause_3.2.tar", &[]),
        archive("etcd_3.4.13-0.tar", &["etcd"]),
        archive("kube-apiserver_v1.20.2.tar", &["control-plane"]),
        archive("kube-controller-manager_v1.20.2.tar", &["control-plane"]),
        archive("kube-scheduler_v1.20.2.tar", &["control-plane"]),
        archive("kube-proxy_v1.20.2.tar", &cluster_roles),
        archive("coredns_1.7.0.tar", &cluster_roles),
    ] });

    machines.step("a download with another checksum is not installed");
    bad_download(&machines, &desk, &plan);
    machines.step("a step on a full disk fails, and leaves no part of a file");
    full_disk(&machines, &desk, &plan);

    machines.step("the same command again, with space");
    let file = write(&desk, "own-etcd", &plan);
    let applied = desk.run_for(0, &["apply", &file]);
    eprintln!("{}", applied.out);
    let cluster = Cluster::of(&desk, &machines, &file, "cp-37");
    cluster.nodes_are_ready(&["cp-37"]);
    nothing_is_left_to_do(&desk, &file, 2);
    machines.shell("etcd-31", "[ -d /var/lib/etcd/member ]");
    machines.shell("cp-37", "[ ! -d /var/lib/etcd/member ]");
    let images = machines.shell("etcd-31", "ctr -n k8s.io images ls -q");
    assert!(images.contains("etcd:3.4.13-0") && !images.contains("kube-apiserver"), "{images}");
    let members = machines.shell(
        "etcd-31",
        "for task in $(ctr -n k8s.io tasks ls -q); do ctr -n k8s.io tasks exec --exec-id look $task etcdctl \
         --endpoints=https://127.0.0.1:2379 --cacert=/etc/kubernetes/pki/etcd/ca.crt --cert=/etc/kubernetes/pki/etcd/server.crt \
         --key=/etc/kubernetes/pki/etcd/server.key member list 2>/dev/null && break; done",
    );
    assert!(members.contains("started, etcd-31"), "{members}");

    machines.step("a plan of another cluster is refused on these hosts");
    another_cluster(&machines, &desk, &plan);

    machines.step("a second cluster keeps its objects in the same etcd, as one that somebody else runs");
    machines.add(&[SECOND], &[]);
    etcd_of_somebody_else(&machines, &desk);
}

fn bad_download(machines: &Machines, desk: &Desk, plan: &Value) {
    for name in HOSTS {
        machines.shell(name, FALSE_CURL);
    }
    let mut bad = plan.clone();
    let digest = "0123456789abcdef".repeat(4);
    bad["binaries"]["kubelet"] = json!({ "download": { "address": "https://example.invalid/kubelet", "sha256": { "amd64": digest, "arm64": digest } } });
    let file = write(desk, "download", &bad);
    let ended = desk.run_for(6, &["apply", &file]);
    ended.says("programs@cp-37").says("/usr/local/bin/kubelet").says(&digest);
    for name in HOSTS {
        machines.shell(name, "[ ! -e /usr/local/bin/kubelet ] && ! systemctl is-active -q kubelet && rm /usr/bin/curl");
    }
}

fn full_disk(machines: &Machines, desk: &Desk, plan: &Value) {
    machines.shell("cp-37", "mount -t tmpfs -o size=20m tmpfs /usr/local/bin");
    let file = write(desk, "full", plan);
    desk.run_for(4, &["apply", &file]).says("error[disk-space]").says("20 MiB are free on /usr/local/bin");
    let mut careless = plan.clone();
    careless["preflight"] = json!({ "ignore": ["disk-space"] });
    let file = write(desk, "full", &careless);
    let ended = desk.run_for(6, &["apply", &file]);
    ended.says("programs@cp-37").says("No space left on device").says("free some space");
    machines.shell("cp-37", "[ ! -e /usr/local/bin/kubelet ] && umount /usr/local/bin");
}

/// Hosts of a living cluster in a plan with another control plane: the CA is not theirs.
fn another_cluster(machines: &Machines, desk: &Desk, plan: &Value) {
    let before = Snapshot::of(machines, &["etcd-31"]);
    let mut other = plan.clone();
    other["name"] = json!("other");
    other["etcd"] = json!({});
    let hosts = other["hosts"].as_array_mut().expect("a plan has hosts");
    // The etcd host alone, as the only control plane of a new cluster.
    hosts.truncate(1);
    hosts[0]["roles"] = json!(["control-plane", "worker"]);
    let file = write(desk, "other", &other);
    let ended = desk.run_for(4, &["apply", &file, "--yes"]);
    ended.says("etcd-31");
    eprintln!("{}", ended.err);
    before.is_unchanged(machines);
}

/// The same etcd, given as endpoints with a client certificate. The prefix keeps the clusters apart.
fn etcd_of_somebody_else(machines: &Machines, desk: &Desk) {
    for (file, source) in [
        ("etcd-ca.crt", "etcd/ca.crt"),
        ("client.crt", "apiserver-etcd-client.crt"),
        ("client.key", "apiserver-etcd-client.key"),
    ] {
        std::fs::write(desk.path(file), machines.shell("cp-37", &format!("cat /etc/kubernetes/pki/{source}"))).expect("a file can be written");
    }
    let mut second = plan(machines, &[(SECOND, &["control-plane", "worker"])]);
    second["name"] = json!("second");
    second["etcd"] = json!({ "external": {
        "endpoints": [format!("https://{}:2379", machines.address("etcd-31"))],
        "caFile": "etcd-ca.crt", "certificateFile": "client.crt", "keyFile": "client.key",
    } });
    second["apiServer"] = json!({ "extraArgs": { "etcd-prefix": "/second" } });
    let file = write(desk, "second", &second);
    desk.run_for(0, &["apply", &file]);
    let cluster = Cluster::of(desk, machines, &file, SECOND);
    cluster.nodes_are_ready(&[SECOND]);
    machines.shell(SECOND, "[ ! -e /etc/kubernetes/manifests/etcd.yaml ] && [ ! -e /etc/kubernetes/pki/etcd/ca.key ]");
    nothing_is_left_to_do(desk, &file, 1);
}
