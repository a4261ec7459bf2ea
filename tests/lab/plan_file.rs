//! Plan files for the lab. A plan is a JSON value (which is YAML too), so that a test says only
//! what is special about its own.

use serde_json::{Value, json};

use super::machines::{Machines, VERSION};
use super::slipway::Desk;

/// A plan for these hosts, given as `name: role,role`.
pub fn plan(machines: &Machines, hosts: &[(&str, &[&str])]) -> Value {
    let hosts: Vec<Value> = hosts
        .iter()
        .map(|(name, roles)| json!({ "name": name, "address": machines.address(name), "roles": roles }))
        .collect();
    json!({
        "version": 1,
        "name": "e2e",
        "kubernetes": { "version": VERSION },
        // docs/lab.md says why each of these is needed.
        "runtime": {
            "cgroupDriver": "cgroupfs",
            "settings": { "plugins": { "io.containerd.grpc.v1.cri": { "restrict_oom_score_adj": true } } },
        },
        "kubelet": { "configuration": {
            "imageGCHighThresholdPercent": 100,
            "evictionHard": { "memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%" },
        } },
        "kubeProxy": { "configuration": { "conntrack": { "maxPerCore": 0, "min": 0 } } },
        "binaries": {
            "kubelet": { "upload": machines.program("kubelet") },
            "kubectl": { "upload": machines.program("kubectl") },
        },
        "ssh": {
            "user": "root",
            "identityFile": machines.identity_file(),
            "knownHostsFile": machines.known_hosts(),
            "connectTimeout": "8s",
        },
        "hosts": hosts,
    })
}

/// The same with the proxy on every host without an API server.
pub fn with_local_proxy(mut plan: Value) -> Value {
    plan["endpoint"] = json!({ "localProxy": { "image": "lab.local/haproxy:2.6" } });
    plan
}

/// The same with an address of the lab's network that the control planes hold among themselves. No host of
/// the lab ever has it.
pub fn with_vip(mut plan: Value) -> Value {
    plan["endpoint"] = json!({ "vip": {
        "address": VIP, "keepalivedImage": "lab.local/keepalived:2.2", "haproxyImage": "lab.local/haproxy:2.6",
    } });
    plan
}

/// The address of `with_vip`.
pub const VIP: &str = "10.91.0.250";

/// The same plan with the next release and its images; its programs come as before.
pub fn of_release(machines: &Machines, plan: &Value, version: &str) -> Value {
    let mut plan = plan.clone();
    plan["kubernetes"]["version"] = version.into();
    let images = machines.images_of(version);
    let archive = |name: &str, roles: &[&str]| json!({ "file": images.join(format!("{name}.tar")), "roles": roles });
    let all: &[&str] = &["control-plane", "worker"];
    plan["images"] = json!({ "archives": [
        archive(&format!("kube-apiserver_{version}"), &["control-plane"]),
        archive(&format!("kube-controller-manager_{version}"), &["control-plane"]),
        archive(&format!("kube-scheduler_{version}"), &["control-plane"]),
        archive(&format!("kube-proxy_{version}"), all),
        archive("coredns_v1.8.0", all),
        archive("pause_3.4.1", all),
    ] });
    plan
}

/// Writes a plan onto the desk. Returns its name there.
pub fn write(desk: &Desk, name: &str, plan: &Value) -> String {
    let file = format!("{name}.yaml");
    std::fs::write(desk.path(&file), format!("{plan:#}\n")).expect("a plan can be written");
    file
}
