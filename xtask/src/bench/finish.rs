//! The finish line, the same for every contestant: all Nodes are Ready, kube-proxy
//! and CoreDNS are rolled out. Asked with kubectl on the first control plane.

use super::hosts::{CONTROL_PLANES, Hosts, names};
use crate::error::Result;

/// Waits for the finish line; part of every contestant's time.
pub fn wait(hosts: &Hosts) -> Result<()> {
    let nodes: Vec<String> = names().iter().map(|name| format!("node/{name}")).collect();
    let script = format!(
        "export KUBECONFIG=/etc/kubernetes/admin.conf
        timeout 300 sh -c 'until kubectl wait --for=condition=Ready --timeout=300s {} >/dev/null 2>&1
            do sleep 0.2; done' &&
        kubectl -n kube-system rollout status --timeout=300s daemonset/kube-proxy &&
        kubectl -n kube-system rollout status --timeout=300s deployment/coredns",
        nodes.join(" ")
    );
    hosts.run(CONTROL_PLANES[0], &script).map(drop)
}

/// Checks, outside of the time, that the cluster is the one that was asked for: three members
/// of etcd, three API servers, a kube-proxy on every node, two CoreDNS.
pub fn check(hosts: &Hosts) -> Result<()> {
    let script = "export KUBECONFIG=/etc/kubernetes/admin.conf
        count() { kubectl -n kube-system get pods -l \"$1\" --no-headers | grep -c ' 1/1 .*Running'; }
        seen() { echo \"$(count component=etcd) $(count component=kube-apiserver) \\
            $(count component=kube-controller-manager) $(count k8s-app=kube-proxy) $(count k8s-app=kube-dns)\" | tr -s ' '; }
        for attempt in $(seq 240); do
            [ \"$(seen)\" = '3 3 3 5 2' ] && exit 0
            sleep 1
        done
        seen; exit 1";
    hosts.run(CONTROL_PLANES[0], script).map(drop)
}
