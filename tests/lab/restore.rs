//! What is kept before an upgrade can be used: a snapshot of etcd is there and whole, holds what was stored
//! before and nothing of what came after, and the lines of docs/operations.md bring the cluster back to it.

use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::Cluster;
use super::machines::{Machines, VERSION, eventually};
use super::plan_file::{of_release, plan, write};
use super::single_node::{digest, nothing_is_left_to_do};
use super::slipway::Desk;

/// The release the cluster goes to and comes back from.
const NEXT: &str = "v1.21.14";
const HOST: &str = "up-46";
const OPERATIONS: &str = include_str!("../../docs/operations.md");
/// The snapshot that the documentation takes as its example.
const EXAMPLE: &str = "/var/lib/slipway/snapshots/20261121T134500Z_v1.33.4_to_v1.34.2";

/// Programs of etcd's image on the host, and a member of its own on the loopback, made of a snapshot: what it
/// holds of the two objects.
const PRIVATE: &str = r#"
set -eu
mkdir -p /mnt/private
ctr -n k8s.io images mount k8s.gcr.io/etcd:3.4.13-0 /mnt/private >/dev/null
trap 'kill $member 2>/dev/null || :; wait; ctr -n k8s.io images unmount --rm /mnt/private >/dev/null; rm -rf /root/private' EXIT
export PATH=$PATH:/mnt/private/usr/bin ETCDCTL_API=3
member=
etcdctl snapshot status "$SNAPSHOT/etcd.db" --write-out json
etcdctl snapshot restore "$SNAPSHOT/etcd.db" --data-dir /root/private >/dev/null 2>&1
etcd --data-dir /root/private --listen-client-urls http://127.0.0.1:12379 --advertise-client-urls http://127.0.0.1:12379 \
  --listen-peer-urls http://127.0.0.1:12380 >/root/private.log 2>&1 &
member=$!
tries=0
until etcdctl --endpoints http://127.0.0.1:12379 endpoint health >/dev/null 2>&1; do
  tries=$((tries + 1))
  if [ $tries -gt 100 ]; then tail -n 20 /root/private.log; exit 1; fi
  sleep 0.2
done
etcdctl --endpoints http://127.0.0.1:12379 get --keys-only --prefix /registry/configmaps/default/
"#;

/// The script in the documentation that restores a snapshot, for this one.
fn documented(snapshot: &str) -> String {
    let section = OPERATIONS.split("### Back to before an upgrade").nth(1).expect("the section is there");
    let script = section.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).expect("it has a script");
    assert!(script.contains(EXAMPLE), "{script}");
    format!("set -eu\nexec 2>&1\n{}", script.replace(EXAMPLE, snapshot))
}

/// The names of some objects; none if nobody answers.
fn stored(cluster: &Cluster) -> Result<Vec<String>, String> {
    let names = cluster.ask(&["get", "configmaps", "--output", "jsonpath={range .items[*]}{.metadata.name}{\"\\n\"}{end}"])?;
    Ok(names.lines().filter(|name| ["before", "after"].contains(name)).map(str::to_owned).collect())
}

#[test]
#[ignore = "in the lab, with `cargo xtask test`"]
fn a_cluster_comes_back_with_the_snapshot_from_before_its_upgrade() {
    let mut machines = Machines::boot(&[HOST]);
    machines.make(NEXT);
    let desk = Desk::new();
    let old = plan(&machines, &[(HOST, &["control-plane", "worker"])]);
    let mut new = of_release(&machines, &old, NEXT);
    for program in ["kubelet", "kubectl"] {
        new["binaries"][program]["upload"] = json!(machines.program_of(NEXT, program));
    }
    let (old, new) = (write(&desk, "old", &old), write(&desk, "new", &new));
    desk.run_for(0, &["apply", &old]);
    let cluster = Cluster::of(&desk, &machines, &old, HOST);
    cluster.kubectl(&["create", "configmap", "before"]);

    machines.step("a snapshot that cannot be taken leaves everything as it was");
    let shown = desk.run_for(0, &["diff", &new, "--output", "json"]);
    shown.says(&format!("snapshot@{HOST}")).says(&format!("snapshot of etcd before {NEXT}"));
    machines.shell(HOST, "touch /var/lib/slipway/snapshots");
    let failed = desk.run_for(6, &["apply", &new, "--yes"]);
    failed.says("cannot write below /var/lib/slipway/snapshots").says("nothing else was begun");
    machines.shell(HOST, "rm /var/lib/slipway/snapshots");
    assert_eq!(digest(&desk.run_for(0, &["diff", &new, "--output", "json"])), digest(&shown), "nothing was changed");

    machines.step("an upgrade keeps what was there before");
    desk.run_for(0, &["apply", &new, "--yes"]);
    nothing_is_left_to_do(&desk, &new, 1);
    cluster.kubectl(&["create", "configmap", "after"]);
    let found = machines.shell(HOST, "cd /var/lib/slipway/snapshots && stat -c '%a %U %n' . * */etcd.db && ls -A /var/lib/etcd && ls */etc/kubernetes/manifests");
    let lines: Vec<&str> = found.lines().collect();
    let name = lines[1].rsplit(' ').next().expect("the name of the snapshot");
    assert!(name.ends_with(&format!("Z_{VERSION}_to_{NEXT}")), "{found}");
    assert_eq!(lines[..4], ["700 root .", &format!("700 root {name}"), &format!("600 root {name}/etcd.db"), "member"], "{found}");
    assert!(lines.contains(&"kube-apiserver.yaml"), "{found}");

    machines.step("the snapshot is whole, and a member made of it holds what was stored before and nothing else");
    let snapshot = format!("/var/lib/slipway/snapshots/{name}");
    let held = machines.shell(HOST, &format!("SNAPSHOT={snapshot}\n{PRIVATE}"));
    let status: Value = serde_json::from_str(held.lines().next().unwrap_or_default()).unwrap_or_else(|error| panic!("{error}: {held}"));
    assert!(status["totalKey"].as_u64() > Some(100), "{held}");
    assert!(held.contains("/registry/configmaps/default/before") && !held.contains("/registry/configmaps/default/after"), "{held}");

    machines.step("the lines of the documentation bring the cluster back to it");
    assert_eq!(stored(&cluster).expect("it answers"), ["after", "before"]);
    let said = machines.shell(HOST, &documented(&snapshot));
    eprintln!("{said}");
    assert!(!said.contains("pgrep:"), "it waits until everything has stopped: {said}");
    let served = eventually("the API server of before serves", Duration::from_secs(120), || {
        let version: Value = serde_json::from_str(&cluster.ask(&["get", "--raw", "/version"])?).map_err(|error| error.to_string())?;
        stored(&cluster).map(|names| (version["gitVersion"].as_str().unwrap_or_default().to_owned(), names))
    });
    assert_eq!(served, (VERSION.to_owned(), vec!["before".to_owned()]));

    machines.step("and slipway brings back the rest");
    desk.run_for(0, &["apply", &old, "--yes"]);
    nothing_is_left_to_do(&desk, &old, 1);
    cluster.nodes_are_ready(&[HOST]);
    cluster.kubectl(&["create", "configmap", "after"]);
    assert_eq!(stored(&cluster).expect("it answers"), ["after", "before"]);
}
