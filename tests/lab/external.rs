//! Somebody else keeps the CAs: openssl on this machine signs every request of slipway, for the first
//! certificates and for those that follow, and no host ever has a CA's key.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::Cluster;
use super::machines::Machines;
use super::plan_file::{plan, write};
use super::single_node::nothing_is_left_to_do;
use super::slipway::Desk;

const CONTROL_PLANE: &str = "ca-52";
const WORKER: &str = "ca-53";

/// The CAs, as their requests' directories are called, and their names.
const AUTHORITIES: [(&str, &str); 3] = [("cluster", "kubernetes"), ("front-proxy", "front-proxy-ca"), ("etcd", "etcd-ca")];

/// Runs `openssl …` on the desk; it must succeed.
fn openssl(desk: &Desk, arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).current_dir(desk.path("")).stdin(Stdio::null()).output().expect("openssl runs");
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Makes the CAs, which slipway sees only the certificates of.
fn create_authorities(desk: &Desk) {
    for (authority, name) in AUTHORITIES {
        let (subject, key, certificate) = (format!("/O=Example/CN={name}"), format!("{authority}.key"), format!("{authority}.crt"));
        let line = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "400", "-subj", &subject];
        let rest = ["-keyout", &key, "-out", &certificate, "-addext", "keyUsage=critical,keyCertSign,cRLSign"];
        openssl(desk, &[line.as_slice(), &rest].concat());
    }
}

/// Signs every request in that directory, as it asks to be. Returns how many there were.
fn sign(desk: &Desk, directory: &str) -> usize {
    let mut signed = 0;
    for (authority, _) in AUTHORITIES {
        let requests = desk.path(directory).join("requests").join(authority);
        for entry in std::fs::read_dir(requests).expect("there are requests of every CA") {
            let request = entry.expect("a directory can be read").path();
            let (key, ca) = (format!("{authority}.key"), format!("{authority}.crt"));
            let text = |path: &Path| path.display().to_string();
            let (input, output) = (text(&request), text(&request.with_extension("crt")));
            let line = ["x509", "-req", "-days", "200", "-copy_extensions", "copy", "-CA", &ca, "-CAkey", &key];
            openssl(desk, &[line.as_slice(), &["-CAcreateserial", "-in", &input, "-out", &output]].concat());
            signed += 1;
        }
    }
    signed
}

/// Every served certificate by host and name, with its serial number; each is the one of its file.
fn served(desk: &Desk, plan: &str) -> Vec<(String, String)> {
    let listed = desk.run_for(0, &["certs", "list", plan, "--output", "json"]);
    let entries: Value = serde_json::from_str(&listed.out).unwrap_or_else(|error| panic!("{error}: {listed}"));
    let served = entries.as_array().expect("an array").iter().filter(|entry| !entry["served"].is_null());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    // What other components serve is signed by themselves, and nobody's to renew.
    let ours = served.filter(|entry| ["apiserver", "etcd/server", "etcd/peer"].contains(&entry["name"].as_str().unwrap_or_default()));
    ours.map(|entry| {
        assert_eq!(entry.pointer("/served/loaded"), Some(&json!(true)), "{entry}");
        (format!("{} {}", text(&entry["host"]), text(&entry["name"])), text(&entry["serial"]))
    })
    .collect()
}

fn no_host_has_a_key(machines: &Machines) {
    for host in [CONTROL_PLANE, WORKER] {
        assert_eq!(machines.shell(host, "find / -xdev \\( -name ca.key -o -name front-proxy-ca.key \\)"), "", "{host}");
    }
}

#[test]
#[ignore = "in the lab, with `cargo xtask test`"]
fn somebody_else_signs_all_certificates() {
    let machines = Machines::boot(&[CONTROL_PLANE, WORKER]);
    let desk = Desk::new();
    create_authorities(&desk);
    let mut wanted = plan(&machines, &[(CONTROL_PLANE, &["control-plane"]), (WORKER, &["worker"])]);
    wanted["pki"] = json!({ "algorithm": "ECDSA-P256", "authority": { "external": {
        "cluster": "cluster.crt", "frontProxy": "front-proxy.crt", "etcd": "etcd.crt",
    } } });
    let file = write(&desk, "external", &wanted);

    machines.step("nothing can be made before somebody has signed");
    desk.run_for(4, &["apply", &file, "--yes"]).says("certs csr");
    desk.run_for(0, &["certs", "csr", &file, "--out", "first"]);
    assert_ne!(desk.run(&["certs", "import", &file, "first", "--yes"]).says("no certificate").code, Some(0));

    machines.step("what openssl signed makes a cluster");
    let requests = sign(&desk, "first");
    desk.run_for(0, &["certs", "import", &file, "first", "--yes"]).says(&format!("{requests} certificates"));
    let cluster = Cluster::of(&desk, &machines, &file, CONTROL_PLANE);
    for host in [CONTROL_PLANE, WORKER] {
        cluster.wait_for_node(host, "True", Duration::from_secs(60));
    }
    nothing_is_left_to_do(&desk, &file, 2);
    no_host_has_a_key(&machines);

    machines.step("what slipway would have to sign itself is refused");
    desk.run_for(4, &["certs", "renew", &file, "--all", "--yes"]).says("csr");
    nothing_is_left_to_do(&desk, &file, 2);

    machines.step("what is signed anew is brought in, and served");
    let before = served(&desk, &file);
    desk.run_for(0, &["certs", "csr", &file, "--out", "second"]);
    assert_eq!(sign(&desk, "second"), requests);
    desk.run_for(0, &["certs", "import", &file, "second", "--yes"]);
    let after = served(&desk, &file);
    assert!(before.len() == 3 && after.len() == 3, "{before:?} {after:?}");
    for (old, new) in before.iter().zip(&after) {
        assert!(old.0 == new.0 && old.1 != new.1, "{old:?} {new:?}");
    }
    cluster.nodes_are_ready(&[CONTROL_PLANE, WORKER]);
    nothing_is_left_to_do(&desk, &file, 2);
    no_host_has_a_key(&machines);

    machines.step("one that is not what was asked for is refused, and nothing changes");
    desk.run_for(0, &["certs", "csr", &file, "--out", "third"]);
    sign(&desk, "third");
    let requests = desk.path("third/requests/etcd");
    let copied = std::fs::copy(requests.join(format!("{CONTROL_PLANE}.etcd-server.crt")), requests.join(format!("{CONTROL_PLANE}.etcd-peer.crt")));
    copied.expect("a certificate can be copied");
    desk.run_for(4, &["certs", "import", &file, "third", "--yes"]).says("another key");
    assert_eq!(served(&desk, &file), after);
}
