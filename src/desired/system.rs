//! Phase `system`: kernel modules, kernel parameters and swap, now and after a reboot.

use crate::artifact::{Artifact, Content};
use crate::names::{Mode, RemotePath};
use crate::plan::{KubeProxyMode, Plan};
use crate::template::{Modules, Pair, Sysctl, Template as _};

/// Where the modules are listed for the next boot.
pub const MODULES_FILE: &str = "/etc/modules-load.d/slipway.conf";
/// Where the parameters are listed for the next boot.
pub const SYSCTL_FILE: &str = "/etc/sysctl.d/90-slipway.conf";

/// Kernel modules a node needs. `overlay` for containerd's snapshots, `br_netfilter` so that
/// bridged packets between pods pass kube-proxy's rules; IPVS needs its own.
#[must_use]
pub fn modules(plan: &Plan) -> Vec<String> {
    let mut modules = vec!["overlay", "br_netfilter"];
    if plan.kube_proxy.enabled && plan.kube_proxy.mode == Some(KubeProxyMode::Ipvs) {
        modules.extend(["ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh", "nf_conntrack"]);
    }
    modules.into_iter().map(str::to_owned).collect()
}

/// Kernel parameters a node needs, as the Kubernetes documentation on container runtimes asks,
/// per address family.
#[must_use]
pub fn parameters(plan: &Plan) -> Vec<Pair> {
    let families = &plan.network.pod_cidrs;
    let mut keys = vec!["net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"];
    if families.iter().any(|network| network.addr().is_ipv4()) {
        keys.push("net.ipv4.ip_forward");
    }
    if families.iter().any(|network| network.addr().is_ipv6()) {
        keys.push("net.ipv6.conf.all.forwarding");
    }
    keys.into_iter().map(|key| Pair { key: key.to_owned(), value: "1".to_owned() }).collect()
}

/// What this phase wants on every host.
#[must_use]
pub fn artifacts(plan: &Plan) -> Vec<Artifact> {
    let modules = modules(plan);
    let parameters = parameters(plan);
    let file = |path, text| Artifact::File {
        path: RemotePath::fixed(path),
        mode: Mode(0o644),
        content: Content::plain(text),
    };
    let mut artifacts = vec![
        file(MODULES_FILE, Modules { modules: modules.clone() }.render()),
        file(SYSCTL_FILE, Sysctl { parameters: parameters.clone() }.render()),
    ];
    artifacts.extend(modules.into_iter().map(|name| Artifact::Module { name }));
    artifacts.extend(parameters.into_iter().map(|Pair { key, value }| Artifact::Sysctl { key, value }));
    // A kubelet that is told to tolerate swap means that the user wants to keep it.
    if plan.kubelet.configuration.get("failSwapOn") != Some(&serde_json::Value::Bool(false)) {
        artifacts.push(Artifact::NoSwap);
    }
    artifacts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(more: &str) -> Plan {
        let text = format!(
            "version: 1\nkubernetes: {{version: v1.34.2}}\n{more}\nhosts: [{{name: a, address: 192.0.2.1, roles: [worker]}}]\n"
        );
        crate::yaml::read(&text).unwrap()
    }

    #[test]
    fn forwarding_follows_the_families_of_the_pod_networks() {
        let keys = |more: &str| parameters(&plan(more)).into_iter().map(|pair| pair.key).collect::<Vec<_>>();
        let bridged = ["net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"];
        assert_eq!(keys("")[2..], ["net.ipv4.ip_forward"]);
        assert_eq!(keys("network: {podCidrs: ['fd00::/48']}")[2..], ["net.ipv6.conf.all.forwarding"]);
        let both = keys("network: {podCidrs: [10.0.0.0/16, 'fd00::/48']}");
        assert_eq!(both[..2], bridged);
        assert_eq!(both[2..], ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"]);
    }

    #[test]
    fn ipvs_needs_its_modules_only_where_kube_proxy_uses_it() {
        assert_eq!(modules(&plan("")), ["overlay", "br_netfilter"]);
        assert!(modules(&plan("kubeProxy: {mode: ipvs}")).contains(&"ip_vs_rr".to_owned()));
        assert_eq!(modules(&plan("kubeProxy: {mode: ipvs, enabled: false}")).len(), 2);
    }

    #[test]
    fn what_holds_now_also_holds_after_a_reboot() {
        let artifacts = artifacts(&plan("kubeProxy: {mode: ipvs}"));
        let file = |wanted: &str| {
            artifacts.iter().find_map(|artifact| match artifact {
                Artifact::File { path, content, .. } if path.as_str() == wanted => Some(content.review()),
                _ => None,
            })
        };
        let (modules, sysctls) = (file(MODULES_FILE).unwrap(), file(SYSCTL_FILE).unwrap());
        for artifact in &artifacts {
            match artifact {
                Artifact::Module { name } => assert!(modules.lines().any(|line| line == name), "{name}"),
                Artifact::Sysctl { key, value } => assert!(sysctls.contains(&format!("{key} = {value}\n")), "{key}"),
                _ => {}
            }
        }
    }

    #[test]
    fn swap_stays_only_if_the_kubelet_is_told_to_bear_it() {
        assert!(artifacts(&plan("")).contains(&Artifact::NoSwap));
        assert!(artifacts(&plan("kubelet: {configuration: {failSwapOn: true}}")).contains(&Artifact::NoSwap));
        assert!(!artifacts(&plan("kubelet: {configuration: {failSwapOn: false}}")).contains(&Artifact::NoSwap));
    }
}
