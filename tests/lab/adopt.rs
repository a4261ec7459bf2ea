//! A cluster of two that kubeadm made becomes slipway's: the plan is read off it, what is left to do is
//! what was said, nothing is made anew or restarted without need, and kubeadm still works on it.

use std::time::Duration;

use serde_json::Value;

use super::cluster::Cluster;
use super::kubeadm::{TOKEN, ca_digest, network, prepare};
use super::machines::{Machines, VERSION, eventually};
use super::plan_file::{of_release, write};
use super::single_node::nothing_is_left_to_do;
use super::slipway::Desk;

const CONTROL_PLANE: &str = "ad-65";
const WORKER: &str = "ad-66";
/// The release it goes to.
const NEXT: &str = "v1.21.14";

/// What kubeadm is told, with settings of a person's own among it.
fn configuration(address: &str) -> String {
    format!(
        "apiVersion: kubeadm.k8s.io/v1beta2
kind: InitConfiguration
bootstrapTokens: [{{token: {TOKEN}}}]
localAPIEndpoint: {{advertiseAddress: {address}}}
nodeRegistration: {{criSocket: /run/containerd/containerd.sock}}
---
apiVersion: kubeadm.k8s.io/v1beta2
kind: ClusterConfiguration
kubernetesVersion: {VERSION}
controlPlaneEndpoint: {address}:6443
networking: {{podSubnet: 10.244.0.0/16}}
apiServer:
  certSANs: [api.example.test]
  extraArgs: {{profiling: 'false', event-ttl: 2h}}
  extraVolumes: [{{name: audit, hostPath: /var/log/audit, mountPath: /var/log/audit, pathType: DirectoryOrCreate}}]
scheduler:
  extraArgs: {{v: '3'}}
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
maxPods: 60
imageGCHighThresholdPercent: 100
evictionHard: {{memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}}
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
conntrack: {{maxPerCore: 0, min: 0}}
"
    )
}

/// `kubeadm init` and `kubeadm join`.
fn make(machines: &Machines) {
    for name in [CONTROL_PLANE, WORKER] {
        prepare(machines, name, &configuration(&machines.address(name)));
    }
    let said = machines.shell(CONTROL_PLANE, "kubeadm init --config /root/kubeadm.yaml 2>&1");
    network(machines, CONTROL_PLANE, CONTROL_PLANE);
    let digest = ca_digest(&said);
    machines.shell(
        WORKER,
        &format!(
            "kubeadm join {}:6443 --token {TOKEN} --discovery-token-ca-cert-hash {digest} \
             --cri-socket /run/containerd/containerd.sock 2>&1",
            machines.address(CONTROL_PLANE)
        ),
    );
    network(machines, CONTROL_PLANE, WORKER);
}

/// What must stay: the CA, etcd's cluster, each Node, and each pod with its restarts.
fn identity(machines: &Machines) -> Vec<String> {
    let kubectl = |arguments: &str| machines.shell(CONTROL_PLANE, &format!("kubectl --kubeconfig /etc/kubernetes/admin.conf {arguments}"));
    let pods = kubectl(
        "get pods --all-namespaces -o jsonpath='{range .items[*]}{.metadata.name} {.metadata.uid} \
         {.status.containerStatuses[*].containerID} {.status.containerStatuses[*].restartCount}{\"\\n\"}{end}'",
    );
    let nodes = kubectl("get nodes -o jsonpath='{range .items[*]}{.metadata.name} {.metadata.uid}{\"\\n\"}{end}'");
    let files = machines.shell(CONTROL_PLANE, "cd /etc/kubernetes && find . -type f | sort | xargs sha256sum; ls /var/lib/etcd/member/snap");
    let worker = machines.shell(WORKER, "cd /etc/kubernetes && find . -type f | sort | xargs sha256sum");
    [pods, nodes, files, worker].iter().flat_map(|text| text.lines().map(str::to_owned)).collect()
}

/// What slipway brings to every host that it adopts, and to the cluster.
const OWN: [&str; 8] = [
    "ConfigMap/kube-system/slipway-inventory",
    "/etc/kubernetes/manifests",
    "/etc/modules-load.d/slipway.conf",
    "/etc/sysctl.d/90-slipway.conf",
    "/etc/systemd/system/kubelet.service",
    "/etc/systemd/system/kubelet.service.d/20-slipway.conf",
    "/var/lib/slipway/formed",
    "unit kubelet.service",
];

/// A difference has nothing but that, and the annotation of each Node that says where its host is reached.
pub fn only_own_is_left(desk: &Desk, plan: &str) {
    let diff = desk.run_for(7, &["diff", plan, "--exit-code", "--output", "json"]);
    let difference: Value = serde_json::from_str(&diff.out).unwrap_or_else(|error| panic!("{error}: {diff}"));
    let own = left(&difference);
    let other: Vec<&String> = own.iter().filter(|id| !OWN.contains(&id.as_str()) && !id.starts_with("Node/")).collect();
    assert!(other.is_empty(), "{other:?} in {difference:#}");
}

/// What a difference would change, of all steps.
fn left(difference: &Value) -> Vec<String> {
    let steps = difference["steps"].as_array().cloned().unwrap_or_default();
    let changes = steps.iter().flat_map(|step| step["changes"].as_array().cloned().unwrap_or_default());
    changes.map(|change| change["artifact"].as_str().unwrap_or_else(|| panic!("{change}")).to_owned()).collect()
}

#[test]
#[ignore = "in the lab, with `cargo xtask test`"]
fn a_cluster_of_kubeadms_is_adopted_without_a_restart_of_its_components() {
    let mut machines = Machines::boot_with(&[CONTROL_PLANE, WORKER], &["--binaries"]);
    let desk = Desk::new();

    machines.step("kubeadm makes a cluster");
    make(&machines);
    let kubectl = "kubectl --kubeconfig /etc/kubernetes/admin.conf";
    machines.shell(CONTROL_PLANE, &format!("{kubectl} label node {WORKER} example.test/zone=a && {kubectl} taint node {WORKER} example.test/own=x:PreferNoSchedule"));
    eventually("all pods run", Duration::from_secs(120), || {
        let text = machines.shell(CONTROL_PLANE, &format!("{kubectl} get pods -A -o jsonpath='{{range .items[*]}}{{.status.containerStatuses[*].ready}} {{end}}'"));
        let ready = text.split_whitespace().filter(|word| *word == "true").count();
        if ready == 8 && !text.contains("false") { Ok(()) } else { Err(text) }
    });
    let before = identity(&machines);

    machines.step("adopt writes a plan and changes nothing");
    let host = format!("root@{}", machines.address(CONTROL_PLANE));
    let (key, known) = (machines.identity_file(), machines.known_hosts());
    let (key, known) = (key.display().to_string(), known.display().to_string());
    let arguments = ["adopt", "--host", &host, "--identity-file", &key, "--known-hosts-file", &known, "--out", "adopted.yaml"];
    let adopted = desk.run_for(0, &arguments);
    eprintln!("{}\n{}", adopted.out, adopted.err);
    let text = std::fs::read_to_string(desk.path("adopted.yaml")).expect("the plan was written");
    eprintln!("{text}");
    assert_eq!(identity(&machines), before);
    assert!(!text.contains("# Not in this plan"), "{text}");
    desk.run_for(9, &arguments);

    machines.step("what is left to do is slipway's own");
    only_own_is_left(&desk, "adopted.yaml");

    machines.step("apply restarts nothing but the kubelets");
    let applied = desk.run_for(0, &["apply", "adopted.yaml", "--yes"]);
    eprintln!("{}", applied.out);
    assert_eq!(identity(&machines), before);
    nothing_is_left_to_do(&desk, "adopted.yaml", 2);

    machines.step("the nodes are ready and kubeadm works on");
    let cluster = Cluster::of(&desk, &machines, "adopted.yaml", CONTROL_PLANE);
    // A kubelet that has just been restarted says for a moment that it is not ready.
    for node in [CONTROL_PLANE, WORKER] {
        cluster.wait_for_node(node, "True", Duration::from_secs(60));
    }
    machines.shell(CONTROL_PLANE, "kubeadm certs check-expiration");

    machines.step("slipway takes it to another release, and kubeadm still works on it");
    machines.make(NEXT);
    let mut plan = of_release(&machines, &slipway::yaml::read(&text).expect("a plan is YAML"), NEXT);
    for program in ["kubelet", "kubectl"] {
        plan["binaries"][program]["upload"] = serde_json::json!(machines.program_of(NEXT, program));
    }
    let upgraded = write(&desk, "upgraded", &plan);
    desk.run_for(0, &["apply", &upgraded, "--yes"]);
    nothing_is_left_to_do(&desk, &upgraded, 2);
    let versions = cluster.kubectl(&["get", "nodes", "--output", "jsonpath={.items[*].status.nodeInfo.kubeletVersion} {.items[*].spec.unschedulable}"]);
    assert_eq!(versions.trim(), format!("{NEXT} {NEXT}"));
    assert!(cluster.kubectl(&["get", "--raw", "/version"]).contains(NEXT));
    let images = cluster.kubectl(&["get", "daemonset/kube-proxy", "--namespace", "kube-system", "--output", "jsonpath={.spec.template.spec.containers[*].image}"]);
    assert!(images.ends_with(NEXT), "{images}");
    let label = cluster.kubectl(&["get", "node", WORKER, "--output", "jsonpath={.metadata.labels.example\\.test/zone}"]);
    assert_eq!(label, "a", "what its owner had set is still there");
    for node in [CONTROL_PLANE, WORKER] {
        cluster.wait_for_node(node, "True", Duration::from_secs(60));
    }
    let table = machines.shell(CONTROL_PLANE, "kubeadm certs check-expiration 2>&1");
    assert!(!table.contains("MISSING"), "{table}");
    let stored = machines.shell(CONTROL_PLANE, "kubeadm config view 2>/dev/null || kubectl --kubeconfig /etc/kubernetes/admin.conf get configmap kubeadm-config -n kube-system -o yaml");
    assert!(stored.contains(NEXT), "{stored}");
    let join = machines.shell(CONTROL_PLANE, "kubeadm token create --print-join-command 2>/dev/null");
    assert!(join.starts_with("kubeadm join "), "{join}");
}
