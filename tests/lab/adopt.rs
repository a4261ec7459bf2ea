//! A cluster of two that kubeadm made becomes slipway's: the plan is read off it, what is left to do is
//! what was said, nothing is made anew or restarted without need, and kubeadm still works on it.

use std::time::Duration;

use serde_json::Value;

use super::cluster::Cluster;
use super::machines::{Machines, VERSION, eventually};
use super::plan_file::{of_release, write};
use super::single_node::nothing_is_left_to_do;
use super::slipway::Desk;

const CONTROL_PLANE: &str = "ad-65";
const WORKER: &str = "ad-66";
const TOKEN: &str = "abcdef.0123456789abcdef";
/// The release it goes to.
const NEXT: &str = "v1.21.14";

/// What only the lab needs is said in docs/lab.md.
const CONTAINERD: &str = r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "k8s.gcr.io/pause:3.2"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "/etc/cni/net.d"
"#;

/// The unit and drop-in as kubeadm's package brings them.
const KUBELET_UNIT: &str = "[Unit]
Description=kubelet
[Service]
ExecStart=/usr/bin/kubelet
Restart=always
StartLimitInterval=0
RestartSec=2
[Install]
WantedBy=multi-user.target
";

const KUBELET_DROP_IN: &str = r#"[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
ExecStart=
ExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
"#;

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

fn prepare(machines: &Machines, name: &str) {
    let script = format!(
        "set -e
        mkdir -p /etc/systemd/system/kubelet.service.d /etc/cni/net.d
        cat > /etc/containerd/config.toml <<'END'\n{CONTAINERD}END
        cat > /etc/systemd/system/kubelet.service <<'END'\n{KUBELET_UNIT}END
        cat > /etc/systemd/system/kubelet.service.d/10-kubeadm.conf <<'END'\n{KUBELET_DROP_IN}END
        cat > /root/kubeadm.yaml <<'END'\n{configuration}END
        sysctl -q -w net.ipv4.ip_forward=1
        if [ -e /proc/sys/net/bridge ]; then sysctl -q -w net.bridge.bridge-nf-call-iptables=1; fi
        systemctl daemon-reload
        systemctl -q enable kubelet
        systemctl restart containerd",
        configuration = configuration(&machines.address(name)),
    );
    machines.shell(name, &script);
}

/// Gives a node a network for its pods.
fn network(machines: &Machines, name: &str) {
    let subnet = machines.shell(
        CONTROL_PLANE,
        &format!(
            "timeout 60 sh -c 'until kubectl --kubeconfig /etc/kubernetes/admin.conf get node {name} \
             -o jsonpath={{.spec.podCIDR}} | grep .; do sleep 0.5; done'"
        ),
    );
    let configuration = format!(
        r#"{{"cniVersion": "0.4.0", "name": "lab", "plugins": [{{"type": "bridge", "bridge": "cni0", "isGateway": true,
        "ipam": {{"type": "host-local", "ranges": [[{{"subnet": "{}"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}}}]}}"#,
        subnet.trim()
    );
    machines.shell(name, &format!("cat > /etc/cni/net.d/10-lab.conflist <<'END'\n{configuration}\nEND"));
}

/// `kubeadm init` and `kubeadm join`.
fn make(machines: &Machines) {
    for name in [CONTROL_PLANE, WORKER] {
        prepare(machines, name);
    }
    let said = machines.shell(CONTROL_PLANE, "kubeadm init --config /root/kubeadm.yaml 2>&1");
    network(machines, CONTROL_PLANE);
    let place = said.find("sha256:").unwrap_or_else(|| panic!("kubeadm init printed no join command:\n{said}"));
    let digest: String = said[place..].chars().take("sha256:".len() + 64).collect();
    machines.shell(
        WORKER,
        &format!(
            "kubeadm join {}:6443 --token {TOKEN} --discovery-token-ca-cert-hash {digest} \
             --cri-socket /run/containerd/containerd.sock 2>&1",
            machines.address(CONTROL_PLANE)
        ),
    );
    network(machines, WORKER);
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
    let diff = desk.run_for(7, &["diff", "adopted.yaml", "--exit-code", "--output", "json"]);
    let difference: Value = serde_json::from_str(&diff.out).unwrap_or_else(|error| panic!("{error}: {diff}"));
    let own = left(&difference);
    // And the annotation of each Node that says where its host is reached.
    let wanted = [
        "ConfigMap/kube-system/slipway-inventory",
        "/etc/kubernetes/manifests",
        "/etc/modules-load.d/slipway.conf",
        "/etc/sysctl.d/90-slipway.conf",
        "/etc/systemd/system/kubelet.service",
        "/etc/systemd/system/kubelet.service.d/20-slipway.conf",
        "/var/lib/slipway/formed",
        "unit kubelet.service",
    ];
    let other: Vec<&String> = own.iter().filter(|id| !wanted.contains(&id.as_str()) && !id.starts_with("Node/")).collect();
    assert!(other.is_empty(), "{other:?} in {difference:#}");

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
