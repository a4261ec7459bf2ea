//! Three control planes and two workers over the local proxy, each host reached in another way:
//! everything that is promised of such a cluster, on one cluster, in one story.

use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::Cluster;
use super::machines::{Machines, eventually};
use super::plan_file::{plan, with_local_proxy, write};
use super::single_node::nothing_is_left_to_do;
use super::slipway::Desk;

const CONTROL_PLANES: [&str; 3] = ["cp-31", "cp-32", "cp-33"];
const WORKERS: [&str; 2] = ["worker-31", "worker-32"];
const ALL: [&str; 5] = ["cp-31", "cp-32", "cp-33", "worker-31", "worker-32"];
/// A host outside the plan: the jump host, and later the one that joins with kubeadm.
const OUTSIDE: &str = "worker-33";

/// etcdctl within the member of a host, as its administrators call it.
const ETCDCTL: &str = "etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/etc/kubernetes/pki/etcd/ca.crt \
    --cert=/etc/kubernetes/pki/etcd/server.crt --key=/etc/kubernetes/pki/etcd/server.key";

/// What the packages of kubeadm bring besides programs: a unit, and the drop-in with kubeadm's files.
const KUBELET_OF_KUBEADM: &str = "\
mkdir -p /etc/systemd/system/kubelet.service.d
cat > /etc/systemd/system/kubelet.service <<'END'
[Service]
ExecStart=/usr/bin/kubelet
Restart=always
RestartSec=1
[Install]
WantedBy=multi-user.target
END
cat > /etc/systemd/system/kubelet.service.d/10-kubeadm.conf <<'END'
[Service]
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
ExecStart=
ExecStart=/usr/bin/kubelet --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf \
    --kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml $KUBELET_KUBEADM_ARGS
END
systemctl daemon-reload
systemctl -q enable kubelet";

/// Names of the members that have started.
pub fn etcd_members(cluster: &Cluster, host: &str) -> Vec<String> {
    let pod = format!("etcd-{host}");
    let mut arguments = vec!["--namespace", "kube-system", "exec", &pod, "--"];
    arguments.extend(ETCDCTL.split_whitespace());
    arguments.extend(["--write-out", "json", "member", "list"]);
    let list: Value = serde_json::from_str(&cluster.kubectl(&arguments)).expect("etcdctl writes JSON");
    let members = list["members"].as_array().expect("a list has members");
    let mut names: Vec<String> = members.iter().map(|member| member["name"].as_str().unwrap_or("not started").to_owned()).collect();
    names.sort();
    names
}

/// Every member, asked by one of them, is healthy.
pub fn etcd_is_healthy(cluster: &Cluster, host: &str) {
    let pod = format!("etcd-{host}");
    let mut arguments = vec!["--namespace", "kube-system", "exec", &pod, "--"];
    arguments.extend(ETCDCTL.split_whitespace());
    arguments.extend(["endpoint", "health", "--cluster"]);
    let output = cluster.try_kubectl(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "in the lab, with `cargo xtask test`"]
fn three_control_planes_and_two_workers_keep_what_is_promised() {
    let mut machines = Machines::boot(&ALL);
    machines.add(&[OUTSIDE], &["--binaries"]);
    let desk = Desk::new();
    let roles: Vec<(&str, &[&str])> = CONTROL_PLANES
        .iter()
        .map(|name| (*name, ["control-plane"].as_slice()))
        .chain(WORKERS.iter().map(|name| (*name, ["worker"].as_slice())))
        .collect();
    let mut plan = with_local_proxy(plan(&machines, &roles));
    // A user with sudo, a pinned key (and no other known), and a jump host.
    plan["hosts"][1]["ssh"] = json!({ "user": "operator" });
    plan["hosts"][2]["ssh"] = json!({ "hostKey": machines.host_key("cp-33") });
    plan["hosts"][4]["ssh"] = json!({ "user": "operator", "jumpHosts": [format!("root@{}", machines.address(OUTSIDE))] });
    let file = write(&desk, "ha", &plan);

    machines.step("all five at once");
    let applied = desk.run_for(0, &["apply", &file]);
    eprintln!("{}", applied.out);
    let cluster = Cluster::of(&desk, &machines, &file, "cp-31");
    cluster.nodes_are_ready(&ALL);
    nothing_is_left_to_do(&desk, &file, 5);

    machines.step("the API knows the static pods");
    for name in CONTROL_PLANES {
        for component in ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
            cluster.wait_for_pod("kube-system", &format!("{component}-{name}"));
        }
    }
    for name in WORKERS {
        cluster.wait_for_pod("kube-system", &format!("slipway-api-proxy-{name}"));
    }

    machines.step("each API server is ready, each etcd member is healthy");
    for name in CONTROL_PLANES {
        assert_eq!(cluster.at(&machines, name).kubectl(&["get", "--raw", "/readyz"]), "ok");
        assert_eq!(etcd_members(&cluster, name), CONTROL_PLANES);
    }
    etcd_is_healthy(&cluster, "cp-32");

    machines.step("pods on different hosts reach each other, and a Service through kube-proxy");
    pods_reach_each_other(&machines, &desk, &cluster);

    machines.step("kubeadm of the same release reads the cluster");
    kubeadm_reads_it(&machines, &cluster);

    machines.step("a further host joins with kubeadm");
    kubeadm_joins(&machines, &cluster);
    nothing_is_left_to_do(&desk, &file, 5);

    machines.step("a control plane loses its power");
    machines.power_off("cp-31");
    let second = cluster.at(&machines, "cp-32");
    second.wait_for_node("cp-31", "Unknown", Duration::from_secs(120));
    for worker in WORKERS {
        second.wait_for_node(worker, "True", Duration::from_secs(5));
        // The Node's lease is renewed through the worker's own proxy: it must move on.
        let lease = || second.ask(&["--namespace", "kube-node-lease", "get", "lease", worker, "--output", "jsonpath={.spec.renewTime}"]);
        let now = lease().unwrap_or_else(|seen| panic!("{seen}"));
        eventually(&format!("{worker} renews its lease"), Duration::from_secs(60), || {
            lease().and_then(|later| if later == now { Err(format!("still {later}")) } else { Ok(()) })
        });
    }
    second.serve(&desk, "later", "worker-31");
    second.pod_address("later");

    machines.step("a host that is away is said, and others can be worked on");
    desk.run_for(5, &["diff", &file]).says("host cp-31").says("--host");
    desk.run_for(0, &["diff", &file, "--host", "worker-31"]).says("not asked for");

    machines.step("it comes back");
    machines.power_on("cp-31");
    second.wait_for_node("cp-31", "True", Duration::from_secs(120));
    eventually("three members", Duration::from_secs(60), || cluster.ask(&["get", "--raw", "/readyz"]));
    etcd_is_healthy(&cluster, "cp-33");
    nothing_is_left_to_do(&desk, &file, 5);

    machines.step("a worker reboots, keeps its routes, and its pods answer");
    let routes = machines.shell("worker-32", "ip route show | grep 10.244 | sort");
    machines.power_off("worker-32");
    machines.power_on("worker-32");
    eventually("the routes are back", Duration::from_secs(30), || {
        let now = machines.shell("worker-32", "ip route show | grep 10.244 | grep -v linkdown | sort");
        // The bridge of the node's own pods comes with the first of them.
        let kept = routes.lines().filter(|line| line.contains(" via ")).all(|line| now.contains(line));
        if kept { Ok(()) } else { Err(now) }
    });
    second.wait_for_node("worker-32", "True", Duration::from_secs(120));
    let address = eventually("the pod is back", Duration::from_secs(90), || {
        let address = second.pod_address("two");
        second.get_from("one", &format!("{address}:8080")).map(|_| address)
    });
    assert!(!address.is_empty());
    nothing_is_left_to_do(&desk, &file, 5);
}

fn pods_reach_each_other(machines: &Machines, desk: &Desk, cluster: &Cluster) {
    for (pod, node) in [("one", "worker-31"), ("two", "worker-32"), ("three", "cp-33")] {
        cluster.serve(desk, pod, node);
    }
    let addresses = ["one", "two", "three"].map(|pod| cluster.pod_address(pod));
    for from in ["one", "two", "three"] {
        for (to, address) in ["one", "two", "three"].iter().zip(&addresses) {
            let answer = cluster.get_from(from, &format!("{address}:8080")).unwrap_or_else(|seen| panic!("{from} to {to}: {seen}"));
            assert!(answer.contains(to), "{answer}");
        }
    }
    // A pod sees the address of another pod, not of its host: nothing is masqueraded between them.
    let answer = cluster.get_from("one", &format!("{}:8080", addresses[1])).expect("it answered before");
    assert!(answer.contains(&addresses[0]), "{answer} does not name {}", addresses[0]);

    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "serve" },
        "spec": { "selector": { "app": "serve" }, "ports": [{ "port": 80, "targetPort": 8080 }] },
    });
    let file = desk.path("service.json");
    std::fs::write(&file, service.to_string()).expect("an object can be written");
    cluster.kubectl(&["apply", "--filename", &file.display().to_string()]);
    let address = cluster.kubectl(&["get", "service", "serve", "--output", "jsonpath={.spec.clusterIP}"]);
    for from in ["one", "two", "three"] {
        eventually("the Service answers", Duration::from_secs(60), || cluster.get_from(from, &format!("{address}:80")));
    }
    eventually("names are resolved", Duration::from_secs(60), || {
        cluster.ask(&["exec", "one", "--", "/usr/local/bin/lab-tool", "resolve", "kubernetes.default.svc.cluster.local"])
    });
    // From a host, too.
    machines.shell("worker-31", &format!("timeout 5 bash -c 'exec 3<>/dev/tcp/{}/8080'", addresses[1]));
}

fn kubeadm_reads_it(machines: &Machines, cluster: &Cluster) {
    for name in CONTROL_PLANES {
        machines.put(name, &machines.program("kubeadm"), "/usr/bin/kubeadm");
        let table = machines.shell(name, "kubeadm certs check-expiration");
        for certificate in ["admin.conf", "apiserver-etcd-client", "etcd-healthcheck-client", "front-proxy-ca", "etcd-ca"] {
            assert!(table.contains(certificate), "{table}");
        }
        assert!(!table.contains("MISSING"), "{table}");
    }
    let plan = machines.shell("cp-31", "kubeadm upgrade plan v1.20.2 --allow-experimental-upgrades 2>&1");
    eprintln!("{plan}");
    assert!(plan.contains("v1.20.2"), "{plan}");
    // It read the ClusterConfiguration and the KubeletConfiguration that are in the cluster.
    assert!(!plan.contains("FATAL"), "{plan}");
    let pods = cluster.kubectl(&["--namespace", "kube-system", "get", "pods"]);
    assert!(pods.contains("kube-apiserver-cp-31"), "{pods}");
}

fn kubeadm_joins(machines: &Machines, cluster: &Cluster) {
    let printed = machines.shell("cp-31", "kubeadm token create --print-join-command 2>/dev/null");
    let join = printed.trim();
    assert!(join.starts_with("kubeadm join "), "{printed}");
    // What the user prepares on any host before kubeadm: a runtime with the lab's settings, and
    // this node's part of the pod network.
    let runtime = machines.shell("worker-31", "cat /etc/containerd/config.toml");
    machines.shell(OUTSIDE, &format!("cat > /etc/containerd/config.toml <<'EOF'\n{runtime}\nEOF\nsystemctl restart containerd"));
    machines.shell(OUTSIDE, KUBELET_OF_KUBEADM);
    let network = json!({
        "cniVersion": "0.3.1", "name": "lab", "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
        "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.244.200.0/24" }]], "routes": [{ "dst": "0.0.0.0/0" }] },
    });
    machines.shell(OUTSIDE, &format!("mkdir -p /etc/cni/net.d && cat > /etc/cni/net.d/10-lab.conf <<'EOF'\n{network}\nEOF"));
    let output = machines.shell(OUTSIDE, &format!("sysctl -q net.ipv4.ip_forward=1; {join} 2>&1"));
    assert!(output.contains("This node has joined the cluster"), "{output}");
    cluster.wait_for_node(OUTSIDE, "True", Duration::from_secs(120));
    machines.shell(OUTSIDE, "systemctl stop kubelet");
    cluster.kubectl(&["delete", "node", OUTSIDE]);
}
