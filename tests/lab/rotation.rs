//! All CAs and the service-account key are replaced on a cluster that serves: killed on the way and
//! resumed, turned back once from state 2 and brought forward again. With three control planes
//! (`SLIPWAY_TORTURE=1`) no request through the workers' proxy fails meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use super::cluster::Cluster;
use super::machines::{Machines, eventually};
use super::plan_file::{plan, with_local_proxy, write};
use super::single_node::nothing_is_left_to_do;
use super::slipway::Desk;

/// Asks the API through the worker's own proxy, with a new connection for every request.
const CLIENT: &str = "rm -f /run/stop /run/asked /run/failed /run/leaders
nohup sh -c 'while [ ! -e /run/stop ]; do
    kubectl --kubeconfig /root/client.conf --request-timeout 20s get --raw /api/v1/namespaces/default > /dev/null 2> /run/said || {
        if grep -q leader.changed /run/said; then echo >> /run/leaders; else date +%T >> /run/failed; cat /run/said >> /run/failed; fi; }
    echo >> /run/asked
    sleep 0.2
done' > /dev/null 2>&1 &";

/// The certificates of a file as their fingerprints.
fn fingerprints(machines: &Machines, host: &str, path: &str) -> Vec<String> {
    let script = format!(
        "n=0; while :; do n=$((n+1)); \
         awk -v n=$n '/BEGIN CERT/{{c++}} c==n' {path} | openssl x509 -noout -fingerprint -sha256 2>/dev/null || break; done"
    );
    machines.shell(host, &script).lines().map(str::to_owned).collect()
}

/// What tells one generation of pairs from the next, on every control plane.
fn generation(machines: &Machines, hosts: &[&str]) -> BTreeSet<String> {
    let script = "cd /etc/kubernetes/pki && sha256sum ca.crt etcd/ca.crt front-proxy-ca.crt sa.pub ca.key etcd/ca.key front-proxy-ca.key sa.key";
    hosts.iter().flat_map(|host| machines.shell(host, script).lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// The worker's client gets the cluster's admin kubeconfig as it is now.
fn fetch_kubeconfig(machines: &Machines, control_plane: &str, worker: &str) {
    let text = machines.shell(control_plane, "sed 's#server: .*#server: https://127.0.0.1:6443#' /etc/kubernetes/admin.conf");
    machines.shell(worker, &format!("umask 077; cat > /root/client.new <<'END'\n{text}\nEND\nmv /root/client.new /root/client.conf"));
}

#[test]
#[ignore = "in the lab, with `cargo xtask test`"]
fn all_authorities_are_replaced_while_the_cluster_serves() {
    let torture = std::env::var_os("SLIPWAY_TORTURE").is_some();
    let control_planes: &[&str] = if torture { &["cp-30", "cp-31", "cp-32"] } else { &["cp-30"] };
    let workers: &[&str] = if torture { &["worker-30", "worker-31"] } else { &["worker-30"] };
    let all: Vec<&str> = control_planes.iter().chain(workers).copied().collect();
    let machines = Machines::boot(&all);
    let desk = Desk::new();
    let roles: Vec<(&str, &[&str])> = control_planes
        .iter()
        .map(|name| (*name, ["control-plane"].as_slice()))
        .chain(workers.iter().map(|name| (*name, ["worker"].as_slice())))
        .collect();
    let mut wanted = with_local_proxy(plan(&machines, &roles));
    wanted["pki"] = serde_json::json!({ "algorithm": "ECDSA-P256" });
    let file = write(&desk, "rotation", &wanted);
    desk.run_for(0, &["apply", &file]);
    let (first, worker) = ("cp-30", "worker-30");
    let before = generation(&machines, control_planes);
    let cluster = Cluster::of(&desk, &machines, &file, first);
    // What its owner does when slipway names the pod.
    let restart = |cluster: &Cluster| {
        cluster.kubectl(&["delete", "pod", "holder", "--wait=true", "--ignore-not-found"]);
        cluster.serve(&desk, "holder", worker);
        cluster.pod_address("holder");
    };
    restart(&cluster);
    desk.run_for(0, &["certs", "rotate-ca", &file, "--status"]).says("not being replaced");

    machines.step("to state 1, killed on the way and resumed");
    let rotate = ["certs", "rotate-ca", &file, "--yes", "--until"];
    let to = |state| [rotate.as_slice(), &[state]].concat();
    let running = desk.start(&to("trust-both"));
    eventually("it changes a control plane", Duration::from_secs(120), || {
        let said = running.err();
        if said.contains("to state 1") { Ok(()) } else { Err(said) }
    });
    std::thread::sleep(Duration::from_secs(4));
    running.kill();
    eprintln!("{}", desk.run_for(0, &["certs", "rotate-ca", &file, "--status"]).out);
    let reached = desk.run_for(0, &to("trust-both"));
    reached.says("state 1").says("Pod default/holder");
    assert_eq!(fingerprints(&machines, worker, "/etc/kubernetes/pki/ca.crt").len(), 2);
    let cluster = Cluster::of(&desk, &machines, &file, first);
    nothing_is_left_to_do(&desk, &file, all.len());

    machines.step("a client with the kubeconfig of state 1 asks all the time");
    fetch_kubeconfig(&machines, first, worker);
    machines.shell(worker, CLIENT);

    machines.step("to state 2; a pod with a token of the old key is named, and nothing goes on without it");
    desk.run_for(4, &to("sign-new")).says("Pod default/holder").says("restart them");
    restart(&cluster);
    desk.run_for(0, &to("sign-new")).says("state 2");

    machines.step("back to state 1, and forward again");
    desk.run_for(0, &["certs", "rotate-ca", &file, "--yes", "--back"]).says("state 1");
    if torture {
        // Its token is of the key that is to go now.
        desk.run_for(4, &["certs", "rotate-ca", &file, "--yes", "--back"]).says("Pod default/holder");
        restart(&cluster);
        desk.run_for(0, &["certs", "rotate-ca", &file, "--yes", "--back"]).says("state 0");
        for state in ["to state 1", "to state 2"] {
            let running = desk.start(&["certs", "rotate-ca", &file, "--yes"]);
            eventually(state, Duration::from_secs(300), || if running.err().contains(state) { Ok(()) } else { Err(running.err()) });
            std::thread::sleep(Duration::from_secs(10));
            running.kill();
        }
        desk.run_for(4, &to("sign-new")).says("Pod default/holder");
        restart(&cluster);
        // Its certificate is the new CA's; that of state 1 is refused in state 3.
        fetch_kubeconfig(&machines, first, worker);
    }

    machines.step("to the end, killed in the last state");
    let running = desk.start(&["certs", "rotate-ca", &file, "--yes"]);
    eventually("the last state", Duration::from_secs(400), || {
        let said = running.err();
        if said.contains("to state 3") { Ok(()) } else { Err(said) }
    });
    std::thread::sleep(Duration::from_secs(3));
    running.kill();
    desk.run_for(4, &["certs", "rotate-ca", &file, "--yes", "--back"]).says("too late");
    desk.run_for(0, &["certs", "rotate-ca", &file, "--yes"]).says("trusts only what is new");

    machines.step("everything is new, on every host, and nothing of the walk is left");
    let asked = machines.shell(worker, "touch /run/stop; wc -l < /run/asked; cat /run/failed 2>/dev/null || :");
    let leaders: usize = machines.shell(worker, "cat /run/leaders 2>/dev/null | wc -l").trim().parse().expect("a number");
    eprintln!("requests: {asked}, of them {leaders} while etcd's leader changed");
    let after = generation(&machines, control_planes);
    assert!(before.is_disjoint(&after), "{before:?}\n{after:?}");
    // Every control plane has the same: eight files.
    assert_eq!(after.len(), 8, "{after:?}");
    for host in &all {
        let left = machines.shell(host, "find /etc/kubernetes -name '*next*' -o -name 'ca-signing*'");
        assert_eq!(left, "", "{host}");
        assert_eq!(fingerprints(&machines, host, "/etc/kubernetes/pki/ca.crt").len(), 1);
    }
    let cluster = Cluster::of(&desk, &machines, &file, first);
    cluster.nodes_are_ready(&all);
    nothing_is_left_to_do(&desk, &file, all.len());
    desk.run_for(0, &["certs", "rotate-ca", &file, "--status"]).says("not being replaced");
    if torture {
        assert_eq!(asked.trim().lines().count(), 1, "no request failed: {asked}");
        // Why these are counted apart is said in `client`; the walk restarts each member many times.
        assert!(leaders <= 12, "{leaders} requests met a change of etcd's leader");
    }
}
