//! The operator keeps the CA keys: a cluster is made, grows and is renewed, and no host ever has a key.

use std::time::Duration;

use age::secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::machines::{Machines, eventually};
use super::plan_file::{plan, write};
use super::single_node::nothing_is_left_to_do;
use super::slipway::Desk;

const CONTROL_PLANE: &str = "ca-50";
const WORKER: &str = "ca-51";

/// Where on a host somebody could have left a key.
const PLACES: &str = "/etc /root /home /run /tmp /var/lib/etcd /var/lib/kubelet /var/lib/slipway /var/log /var/tmp";

/// No host has a file of that name, or a line of one of the keys in any file.
fn no_host_has_a_key(machines: &Machines, desk: &Desk, identity: &age::x25519::Identity, hosts: &[&str]) {
    for authority in ["ca", "front-proxy-ca", "etcd-ca"] {
        let encrypted = std::fs::read(desk.path(&format!("authorities/{authority}.key.age"))).expect("the store has the key");
        let key = String::from_utf8(age::decrypt(identity, &encrypted).expect("the identity opens it")).expect("PEM is text");
        // A line of the middle, which no other key shares.
        let lines: Vec<&str> = key.lines().collect();
        let line = lines[lines.len() / 2];
        assert!(key.contains("PRIVATE KEY") && line.len() > 30, "{authority}");
        for host in hosts {
            let found = machines.shell(host, &format!("grep -rlsF -e '{line}' {PLACES} || true"));
            assert_eq!(found, "", "{host} holds the key of {authority}");
        }
    }
    for host in hosts {
        let found = machines.shell(host, "find / -xdev \\( -name ca.key -o -name front-proxy-ca.key \\)");
        assert_eq!(found, "", "{host}");
    }
}

/// The serial numbers that are served, as `certs list` saw them, each loaded.
fn served(desk: &Desk, plan: &str) -> Vec<String> {
    let listed = desk.run_for(0, &["certs", "list", plan, "--output", "json"]);
    let entries: Value = serde_json::from_str(&listed.out).unwrap_or_else(|error| panic!("{error}: {listed}"));
    let served = entries.as_array().expect("an array").iter().filter(|entry| {
        let name = entry["name"].as_str().unwrap_or_default();
        !entry["served"].is_null() && ["apiserver", "etcd/server", "etcd/peer"].contains(&name)
    });
    let serials: Vec<String> = served
        .map(|entry| {
            assert_eq!(entry.pointer("/served/loaded"), Some(&json!(true)), "{entry}");
            assert_eq!(entry["externallyManaged"], json!(false), "{entry}");
            entry["serial"].as_str().unwrap_or_default().to_owned()
        })
        .collect();
    assert_eq!(serials.len(), 3, "{listed}");
    serials
}

#[test]
#[ignore = "in the lab, with `cargo xtask test`"]
fn the_operator_keeps_the_keys_of_the_authorities() {
    let machines = Machines::boot(&[CONTROL_PLANE, WORKER]);
    let desk = Desk::new();
    let identity = age::x25519::Identity::generate();
    write_private(&desk, "identity", identity.to_string().expose_secret());
    let with = |roles: &[(&str, &[&str])]| {
        let mut wanted = plan(&machines, roles);
        wanted["pki"] = json!({ "algorithm": "ECDSA-P256", "authority": { "operator": {
            "directory": "authorities", "recipients": [identity.to_public().to_string()], "identityFile": "identity",
        } } });
        wanted["kubelet"]["configuration"]["serverTLSBootstrap"] = json!(true);
        wanted
    };
    let alone = write(&desk, "alone", &with(&[(CONTROL_PLANE, &["control-plane"])]));
    let both = write(&desk, "both", &with(&[(CONTROL_PLANE, &["control-plane"]), (WORKER, &["worker"])]));

    machines.step("nothing is made before somebody asks for CAs, and then once");
    desk.run_for(0, &["check", &alone]).says("certs approve");
    assert_ne!(desk.run(&["diff", &alone]).says("create-ca").code, Some(0));
    desk.run_for(0, &["certs", "create-ca", &alone]);
    assert_ne!(desk.run(&["certs", "create-ca", &alone]).says("is there already").code, Some(0));

    machines.step("a control plane, and then a worker joins");
    desk.run_for(0, &["apply", &alone]);
    desk.run_for(0, &["apply", &both, "--yes"]);
    let cluster = Cluster::of(&desk, &machines, &both, CONTROL_PLANE);
    cluster.wait_for_node(WORKER, "True", Duration::from_secs(60));
    nothing_is_left_to_do(&desk, &both, 2);
    no_host_has_a_key(&machines, &desk, &identity, &[CONTROL_PLANE, WORKER]);
    let flags = machines.shell(CONTROL_PLANE, "cat /etc/kubernetes/manifests/kube-controller-manager.yaml");
    assert!(!flags.contains("cluster-signing"), "{flags}");

    machines.step("what kubelets ask for is signed here");
    eventually("both kubelets ask", Duration::from_secs(60), || {
        let seen = cluster.ask(&["get", "certificatesigningrequests", "--output", "name"])?;
        if seen.lines().count() >= 2 { Ok(()) } else { Err(seen) }
    });
    desk.run_for(0, &["certs", "approve", &both]).says("approved and signed");
    eventually("the kubelets serve it", Duration::from_secs(60), || {
        let listed = desk.run_for(0, &["certs", "list", &both, "--output", "json"]);
        let entries: Value = serde_json::from_str(&listed.out).map_err(|error| error.to_string())?;
        let signed = entries.as_array().into_iter().flatten().filter(|entry| {
            entry["name"] == "kubelet-server" && entry["issuer"] == "kubernetes" && entry.pointer("/served/loaded") == Some(&json!(true))
        });
        if signed.count() == 2 { Ok(()) } else { Err(listed.out) }
    });

    machines.step("all certificates are renewed, and served");
    let before = served(&desk, &both);
    desk.run_for(0, &["certs", "renew", &both, "--all", "--yes"]);
    let after = served(&desk, &both);
    assert!(before.iter().zip(&after).all(|(old, new)| old != new), "{before:?} {after:?}");
    cluster.wait_for_node(WORKER, "True", Duration::from_secs(60));
    nothing_is_left_to_do(&desk, &both, 2);
    no_host_has_a_key(&machines, &desk, &identity, &[CONTROL_PLANE, WORKER]);
    if std::env::var_os("SLIPWAY_TORTURE").is_some() {
        they_are_replaced(&machines, &desk, &identity, &both);
    }
}

/// Every CA of the store is replaced, killed on the way; a copy of the store from before is refused.
fn they_are_replaced(machines: &Machines, desk: &Desk, identity: &age::x25519::Identity, plan: &str) {
    let certificate = |host: &str| machines.shell(host, "cat /etc/kubernetes/pki/ca.crt");
    let (hosts, before) = ([CONTROL_PLANE, WORKER], certificate(CONTROL_PLANE));
    let rotate = ["certs", "rotate-ca", plan, "--ca", "cluster", "--ca", "etcd", "--ca", "front-proxy", "--yes"];
    machines.step("to state 1, killed on the way");
    let running = desk.start(&rotate);
    eventually("it is on its way", Duration::from_secs(120), || if running.err().contains("to state 1") { Ok(()) } else { Err(running.err()) });
    std::thread::sleep(Duration::from_secs(3));
    running.kill();
    desk.run_for(0, &[rotate.as_slice(), &["--until", "trust-both"]].concat()).says("state 1");
    no_host_has_a_key(machines, desk, identity, &hosts);
    nothing_is_left_to_do(desk, plan, 2);

    machines.step("a store without the new CAs is refused");
    std::fs::rename(desk.path("authorities/ca-next.crt"), desk.path("elsewhere.crt")).expect("a file can be moved");
    desk.run_for(4, &["apply", plan, "--yes"]).says("another copy of the store");
    std::fs::rename(desk.path("elsewhere.crt"), desk.path("authorities/ca-next.crt")).expect("a file can be moved");

    machines.step("to the end; credentials that were signed in state 2 are good there");
    desk.run_for(0, &[rotate.as_slice(), &["--until", "sign-new"]].concat()).says("state 2");
    desk.run_for(0, &["kubeconfig", "user", plan, "--name", "olga", "--group", "testers", "--out", "olga.kubeconfig"]);
    desk.run_for(0, &rotate).says("trusts only what is new");
    let after = certificate(WORKER);
    assert!(!after.contains(before.trim()) && after.matches("BEGIN CERTIFICATE").count() == 1, "{after}");
    assert_eq!(after, std::fs::read_to_string(desk.path("authorities/ca.crt")).expect("the store has it"));
    assert!(!desk.path("authorities/ca-next.crt").exists() && desk.path("authorities/ca-old.key.age").exists());
    no_host_has_a_key(machines, desk, identity, &hosts);
    let kubeconfig = std::fs::read_to_string(desk.path("olga.kubeconfig")).expect("it was written");
    let asked = machines.shell(CONTROL_PLANE, &format!("umask 077; cat > /run/olga <<'END'\n{kubeconfig}\nEND\nkubectl --kubeconfig /run/olga auth can-i create selfsubjectaccessreviews.authorization.k8s.io; rm /run/olga"));
    assert_eq!(asked.trim(), "yes", "whoever is authenticated may ask this");
    let cluster = Cluster::of(desk, machines, plan, CONTROL_PLANE);
    cluster.wait_for_node(WORKER, "True", Duration::from_secs(60));
    nothing_is_left_to_do(desk, plan, 2);
}

fn write_private(desk: &Desk, name: &str, text: &str) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(desk.path(name));
    file.and_then(|mut file| writeln!(file, "{text}")).expect("a file can be written");
}
