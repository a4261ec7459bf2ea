//! Three stacked control planes that kubeadm made, one after another, become slipway's: the plan is read off
//! all of them, what only one of them has stays its own, and a change and a renewal go over all three
//! while the API serves. Until the third has joined there is no plan to write, and that is said.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use super::adopt::only_own_is_left;
use super::cluster::Cluster;
use super::highly_available::{etcd_is_healthy, etcd_members};
use super::kubeadm::{TOKEN, ca_digest, network, prepare};
use super::machines::{Machines, VERSION, eventually};
use super::plan_file::write;
use super::single_node::nothing_is_left_to_do;
use super::slipway::Desk;

const ALL: [&str; 3] = ["nd-60", "nd-61", "nd-62"];
/// The API's name, which every control plane resolves to itself.
const ENDPOINT: &str = "api.nd.test";
/// What the certificates travel under from one control plane to the next.
const CERTIFICATE_KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const KUBECTL: &str = "kubectl --kubeconfig /etc/kubernetes/admin.conf";

/// What kubeadm is told. The endpoint has no port, as many write it.
fn configuration(address: &str) -> String {
    format!(
        "apiVersion: kubeadm.k8s.io/v1beta2
kind: InitConfiguration
bootstrapTokens: [{{token: {TOKEN}}}]
certificateKey: {CERTIFICATE_KEY}
localAPIEndpoint: {{advertiseAddress: {address}}}
nodeRegistration: {{criSocket: /run/containerd/containerd.sock}}
---
apiVersion: kubeadm.k8s.io/v1beta2
kind: ClusterConfiguration
kubernetesVersion: {VERSION}
controlPlaneEndpoint: {ENDPOINT}
networking: {{podSubnet: 10.244.0.0/16}}
apiServer:
  extraArgs: {{event-ttl: 2h}}
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

/// `name` resolves the API's name to the address of `target`.
fn resolve(machines: &Machines, name: &str, target: &str) {
    let address = machines.address(target);
    // The file may be mounted: it is written, not replaced.
    machines.shell(name, &format!("own=$(grep -v {ENDPOINT} /etc/hosts) && printf '%s\\n%s\\n' \"$own\" '{address} {ENDPOINT}' >/etc/hosts"));
}

/// `kubeadm init`. Returns the digest with which others join.
fn init(machines: &Machines) -> String {
    let [first, ..] = ALL;
    for name in ALL {
        prepare(machines, name, &configuration(&machines.address(name)));
        resolve(machines, name, first);
    }
    let said = machines.shell(first, "kubeadm init --config /root/kubeadm.yaml --upload-certs 2>&1");
    network(machines, first, first);
    ca_digest(&said)
}

/// `kubeadm join --control-plane`.
fn join(machines: &Machines, name: &str, digest: &str) {
    let command = format!(
        "kubeadm join {ENDPOINT}:6443 --token {TOKEN} --discovery-token-ca-cert-hash {digest} --control-plane \
         --certificate-key {CERTIFICATE_KEY} --apiserver-advertise-address {} --cri-socket /run/containerd/containerd.sock 2>&1",
        machines.address(name)
    );
    let output = machines.try_shell(name, &command);
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stdout));
    network(machines, ALL[0], name);
    resolve(machines, name, name);
}

/// What must stay on all hosts: PKI, manifests, kubeconfigs, each Node, and each pod with its restarts.
fn identity(machines: &Machines) -> Vec<String> {
    let kubectl = |arguments: &str| machines.shell(ALL[0], &format!("{KUBECTL} {arguments}"));
    let pods = kubectl(
        "get pods --all-namespaces -o jsonpath='{range .items[*]}{.metadata.name} {.metadata.uid} \
         {.status.containerStatuses[*].containerID} {.status.containerStatuses[*].restartCount}{\"\\n\"}{end}'",
    );
    let nodes = kubectl("get nodes -o jsonpath='{range .items[*]}{.metadata.name} {.metadata.uid}{\"\\n\"}{end}'");
    let files = ALL.map(|name| machines.shell(name, "cd /etc/kubernetes && find . -type f | sort | xargs sha256sum"));
    [pods, nodes].iter().chain(&files).flat_map(|text| text.lines().map(str::to_owned)).collect()
}

fn all_pods_are_ready(machines: &Machines, count: usize) {
    eventually("all pods run", Duration::from_secs(180), || {
        let text = machines.shell(ALL[0], &format!("{KUBECTL} get pods -A -o jsonpath='{{range .items[*]}}{{.status.containerStatuses[*].ready}} {{end}}'"));
        let ready = text.split_whitespace().filter(|word| *word == "true").count();
        if ready == count && !text.contains("false") { Ok(()) } else { Err(text) }
    });
}

/// Asks one API server after the other, as whoever has all their addresses, and writes each time.
struct Witness {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<(BTreeSet<String>, Vec<String>)>,
}

impl Witness {
    fn start(servers: Vec<Cluster>, prefix: &'static str) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            let (mut acknowledged, mut unanswered) = (BTreeSet::new(), Vec::new());
            for number in 0.. {
                if until.load(Ordering::Relaxed) {
                    break;
                }
                let name = format!("{prefix}-{number}");
                let mut reasons = Vec::new();
                let stored = servers.iter().any(|server| match server.ask(&["create", "configmap", &name]) {
                    Ok(_) => true,
                    // The one that was asked before stored it, and stopped before it could say so.
                    Err(seen) if seen.contains("AlreadyExists") => true,
                    Err(seen) => {
                        reasons.push(seen);
                        false
                    }
                });
                if stored {
                    acknowledged.insert(name);
                } else {
                    unanswered.push(reasons.join("; "));
                }
                std::thread::sleep(Duration::from_millis(300));
            }
            (acknowledged, unanswered)
        });
        Self { ended, thread }
    }

    /// Somebody answered each time, and what was acknowledged is there.
    fn was_served(self, machines: &Machines, cluster: &Cluster) {
        self.ended.store(true, Ordering::Relaxed);
        let (acknowledged, unanswered) = self.thread.join().expect("the witness ends");
        let stored = cluster.kubectl(&["get", "configmaps", "--output", "jsonpath={.items[*].metadata.name}"]);
        let stored: BTreeSet<&str> = stored.split_whitespace().collect();
        let lost: Vec<&String> = acknowledged.iter().filter(|name| !stored.contains(name.as_str())).collect();
        machines.step(&format!("{} writes, {} that nobody answered, {} lost", acknowledged.len(), unanswered.len(), lost.len()));
        assert!(acknowledged.len() > 10 && unanswered.is_empty() && lost.is_empty(), "{unanswered:#?} {lost:?}");
    }
}

/// The serial number of each host's API server certificate.
fn serials(machines: &Machines) -> Vec<String> {
    ALL.map(|name| machines.shell(name, "openssl x509 -noout -serial -in /etc/kubernetes/pki/apiserver.crt")).into()
}

#[test]
#[ignore = "in the lab, with `cargo xtask torture`"]
fn three_control_planes_of_kubeadms_are_adopted_and_changed_while_they_serve() {
    let machines = Machines::boot_with(&ALL, &["--binaries"]);
    let desk = Desk::new();
    let host = format!("root@{}", machines.address(ALL[1]));
    let (key, known) = (machines.identity_file().display().to_string(), machines.known_hosts().display().to_string());
    let arguments = ["adopt", "--host", &host, "--identity-file", &key, "--known-hosts-file", &known, "--out", "adopted.yaml"];

    machines.step("two control planes of kubeadm's: no plan has an even number");
    let digest = init(&machines);
    join(&machines, ALL[1], &digest);
    all_pods_are_ready(&machines, 12);
    desk.run_for(4, &arguments).says("the cluster has 2 control planes with etcd (nd-60, nd-61)").says("kubeadm join --control-plane");
    assert!(!desk.path("adopted.yaml").exists());

    machines.step("a third one joins, and a person sets something on one host only");
    join(&machines, ALL[2], &digest);
    machines.shell(ALL[1], "sed -i 's/^maxPods: .*/maxPods: 50/' /var/lib/kubelet/config.yaml && systemctl restart kubelet");
    machines.shell(ALL[2], "sed -i 's/cpu: 100m/cpu: 110m/' /etc/kubernetes/manifests/kube-scheduler.yaml");
    eventually("the scheduler asks for more", Duration::from_secs(90), || {
        let pod = format!("{KUBECTL} get pod -n kube-system kube-scheduler-{} -o jsonpath='{{.spec.containers[0].resources.requests.cpu}}'", ALL[2]);
        let seen = machines.shell(ALL[0], &pod);
        if seen == "110m" { Ok(()) } else { Err(seen) }
    });
    all_pods_are_ready(&machines, 17);
    let before = identity(&machines);

    machines.step("adopt writes a plan of all three and changes nothing");
    let adopted = desk.run_for(0, &arguments);
    eprintln!("{}\n{}", adopted.out, adopted.err);
    let text = std::fs::read_to_string(desk.path("adopted.yaml")).expect("the plan was written");
    eprintln!("{text}");
    assert_eq!(identity(&machines), before);
    assert!(!text.contains("# Not in this plan"), "{text}");
    let mut plan: Value = slipway::yaml::read(&text).expect("a plan is YAML");
    let names: Vec<&str> = plan["hosts"].as_array().expect("a list").iter().filter_map(|host| host["name"].as_str()).collect();
    assert_eq!(names, ALL);
    assert_eq!(plan["endpoint"], json!({ "external": { "address": ENDPOINT } }));
    assert_eq!(plan["patches"][0]["hosts"], json!([ALL[2]]), "{text}");
    only_own_is_left(&desk, "adopted.yaml");

    machines.step("apply restarts nothing but the kubelets");
    let applied = desk.run_for(0, &["apply", "adopted.yaml", "--yes"]);
    eprintln!("{}", applied.out);
    assert_eq!(identity(&machines), before);
    nothing_is_left_to_do(&desk, "adopted.yaml", 3);

    machines.step("a flag of the API servers goes over all three while they serve");
    let cluster = Cluster::of(&desk, &machines, "adopted.yaml", ALL[0]);
    let servers = || -> Vec<Cluster> { ALL.map(|name| cluster.at(&machines, name)).into() };
    for name in ALL {
        cluster.wait_for_node(name, "True", Duration::from_secs(60));
    }
    plan["apiServer"]["extraArgs"]["event-ttl"] = json!("3h");
    let changed = write(&desk, "changed", &plan);
    let witness = Witness::start(servers(), "changed");
    let applied = desk.run_for(0, &["apply", &changed, "--yes"]);
    eprintln!("{}", applied.out);
    witness.was_served(&machines, &cluster);
    for name in ALL {
        machines.shell(name, "grep -q -e --event-ttl=3h /etc/kubernetes/manifests/kube-apiserver.yaml");
        assert_eq!(etcd_members(&cluster, name), ALL);
    }
    nothing_is_left_to_do(&desk, &changed, 3);

    machines.step("all certificates are renewed while they serve");
    let old = serials(&machines);
    let witness = Witness::start(servers(), "renewed");
    let renewed = desk.run_for(0, &["certs", "renew", &changed, "--all", "--yes"]);
    eprintln!("{}", renewed.out);
    witness.was_served(&machines, &cluster);
    assert!(old.iter().zip(serials(&machines)).all(|(old, new)| *old != new));
    etcd_is_healthy(&cluster, ALL[2]);
    for name in ALL {
        cluster.wait_for_node(name, "True", Duration::from_secs(60));
    }
    nothing_is_left_to_do(&desk, &changed, 3);

    machines.step("kubeadm still reads it, and prints a command with which a host could join");
    for name in ALL {
        let table = machines.shell(name, "kubeadm certs check-expiration 2>&1");
        assert!(!table.contains("MISSING"), "{table}");
    }
    let stored = machines.shell(ALL[0], &format!("{KUBECTL} get configmap kubeadm-config -n kube-system -o yaml"));
    assert!(stored.contains("event-ttl: 3h") && stored.contains(ENDPOINT), "{stored}");
    assert!(ALL.iter().all(|name| stored.contains(&format!("{name}:"))), "{stored}");
    let printed = machines.shell(ALL[1], "kubeadm token create --print-join-command 2>/dev/null");
    assert!(printed.starts_with(&format!("kubeadm join {ENDPOINT}:6443 ")), "{printed}");
}
