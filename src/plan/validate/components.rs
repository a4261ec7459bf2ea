//! Settings of components: environment, volumes, kubelet and kube-proxy configuration, runtime,
//! CoreDNS, limits.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::field::{FieldPath, field};
use super::super::problem::Problems;
use super::super::{Component, Document, KubeProxyMode, Plan};
use super::super::suggestion::nearest;
use super::syntax::is_image;
use crate::names::{Span, is_dns_label};
use crate::preflight::CHECK_NAMES;
use crate::upgrade;

/// The types of a hostPath volume (Kubernetes API, core/v1).
const HOST_PATH_TYPES: [&str; 7] =
    ["DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"];

pub(super) fn check(plan: &Plan, problems: &mut Problems) {
    for (name, component) in
        [("apiServer", &plan.api_server), ("controllerManager", &plan.controller_manager), ("scheduler", &plan.scheduler)]
    {
        volumes(component, &field(name).key("extraVolumes"), problems);
        environment(&component.extra_env, &field(name).key("extraEnv"), problems);
    }
    environment(&plan.etcd.extra_env, &field("etcd").key("extraEnv"), problems);
    environment(&plan.kubelet.extra_env, &field("kubelet").key("extraEnv"), problems);
    kubelet(plan, &plan.kubelet.configuration, &field("kubelet").key("configuration"), problems);
    for (index, host) in plan.hosts.iter().enumerate() {
        kubelet(plan, &host.kubelet.configuration, &field("hosts").index(index).key("kubelet").key("configuration"), problems);
    }
    kube_proxy(plan, problems);
    core_dns(plan, problems);
    limits(plan, problems);
    if let Some(image) = plan.runtime.pause_image.as_ref().filter(|image| !is_image(image)) {
        problems.error("image-syntax", field("runtime").key("pauseImage"), format!("`{image}` is not an image reference"));
    }
}

/// Environment variables end in pods and in systemd units; the second take fewer names and no
/// line breaks.
fn environment(variables: &BTreeMap<String, String>, path: &FieldPath, problems: &mut Problems) {
    for (name, value) in variables {
        let legal = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !legal {
            problems.error("environment-name", path.key(name), format!("`{name}` is not the name of an environment variable"));
        }
        if value.contains(char::is_control) {
            problems.error("environment-value", path.key(name), "the value holds a line break or another control character");
        }
    }
}

fn volumes(component: &Component, path: &FieldPath, problems: &mut Problems) {
    for (index, volume) in component.extra_volumes.iter().enumerate() {
        let path = path.index(index);
        if !is_dns_label(&volume.name) {
            problems
                .error("volume-name", path.key("name"), format!("`{}` is not the name of a volume", volume.name))
                .hint("1 to 63 lower-case letters, digits and `-`");
        }
        for earlier in &component.extra_volumes[..index] {
            if earlier.name == volume.name {
                problems.error("volume-duplicate", path.key("name"), format!("there is a volume `{}` already", volume.name));
            }
            if earlier.mount_path == volume.mount_path {
                problems.error("volume-duplicate", path.key("mountPath"), format!("`{}` is mounted already", volume.mount_path));
            }
        }
        if let Some(kind) = volume.kind.as_ref().filter(|kind| !HOST_PATH_TYPES.contains(&kind.as_str())) {
            problems
                .error("volume-type", path.key("type"), format!("`{kind}` is not a type of hostPath volume"))
                .hint(format!("one of: {}", HOST_PATH_TYPES.join(", ")));
        }
    }
}

/// Fields of KubeletConfiguration that slipway itself sets, and what to use instead.
const KUBELET_OWNED: [(&str, Option<&str>); 6] = [
    ("staticPodPath", None),
    ("clusterDomain", Some("network.dnsDomain")),
    ("containerRuntimeEndpoint", Some("runtime.socket")),
    ("registerWithTaints", Some("hosts[].taints")),
    ("healthzPort", None),
    ("healthzBindAddress", None),
];

fn kubelet(plan: &Plan, configuration: &Document, path: &FieldPath, problems: &mut Problems) {
    identity(configuration, "kubelet.config.k8s.io/v1beta1", "KubeletConfiguration", path, problems);
    owned(configuration, &KUBELET_OWNED, path, problems);
    if configuration.get("authentication").is_some_and(|value| !value["x509"]["clientCAFile"].is_null()) {
        let path = path.key("authentication").key("x509").key("clientCAFile");
        problems.error("field-owned", path, "slipway itself sets the kubelet's client CA");
    }
    let wanted = plan.runtime.cgroup_driver.to_string();
    if let Some(driver) = configuration.get("cgroupDriver").filter(|driver| **driver != wanted.as_str()) {
        problems
            .error("cgroup-driver", path.key("cgroupDriver"), format!("the kubelet would use {driver}, but the runtime \"{wanted}\""))
            .related(field("runtime").key("cgroupDriver"), "the runtime's driver")
            .hint("set only `runtime.cgroupDriver`; the kubelet follows");
    }
    if configuration.get("rotateCertificates") == Some(&Value::Bool(false)) {
        let message = "without rotation a kubelet's certificate ends after its validity and the node is lost";
        problems.error("field-owned", path.key("rotateCertificates"), message);
    }
    if let Some(addresses) = configuration.get("clusterDNS")
        && plan.core_dns.enabled
        && !plan.network.service_cidrs.is_empty()
    {
        let own = plan.dns_service_address().to_string();
        if !addresses.as_array().is_some_and(|list| list.iter().any(|address| *address == own.as_str())) {
            let message = format!("pods would not ask the cluster's own DNS ({own})");
            problems.warning("cluster-dns", path.key("clusterDNS"), message);
        }
    }
}

fn owned(configuration: &Document, table: &[(&str, Option<&str>)], path: &FieldPath, problems: &mut Problems) {
    for (name, instead) in table.iter().filter(|(name, _)| configuration.contains_key(*name)) {
        let problem = problems.error("field-owned", path.key(name), format!("slipway itself sets `{name}`"));
        problem.hint = instead.map(|field| format!("use `{field}` instead"));
    }
}

fn identity(configuration: &Document, version: &str, kind: &str, path: &FieldPath, problems: &mut Problems) {
    for (name, wanted) in [("apiVersion", version), ("kind", kind)] {
        if configuration.get(name).is_some_and(|value| value != wanted) {
            problems.error("configuration-kind", path.key(name), format!("this can only be `{wanted}` and may be left out"));
        }
    }
}

fn kube_proxy(plan: &Plan, problems: &mut Problems) {
    let (path, proxy) = (field("kubeProxy"), &plan.kube_proxy);
    let configuration = path.key("configuration");
    identity(&proxy.configuration, "kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration", &configuration, problems);
    let table = [("mode", Some("kubeProxy.mode")), ("clusterCIDR", Some("network.podCidrs")), ("hostnameOverride", Some("hosts[].name"))];
    owned(&proxy.configuration, &table, &configuration, problems);
    if proxy.configuration.get("clientConnection").is_some_and(|value| !value["kubeconfig"].is_null()) {
        let path = configuration.key("clientConnection").key("kubeconfig");
        problems.error("field-owned", path, "slipway itself sets kube-proxy's kubeconfig");
    }
    match proxy.mode {
        Some(KubeProxyMode::Nftables) if plan.kubernetes.version.minor < 31 => {
            let message = format!("kube-proxy of Kubernetes {} has no nftables mode", plan.kubernetes.version);
            problems.error("proxy-mode", path.key("mode"), message).hint("it needs v1.31 or later; leave `mode` out");
        }
        Some(KubeProxyMode::Ipvs) => {
            problems
                .warning("proxy-mode", path.key("mode"), "ipvs needs its kernel modules on every host")
                .hint("from v1.31 on there is also `nftables`");
        }
        _ => {}
    }
    if !proxy.enabled && (proxy.mode.is_some() || !proxy.configuration.is_empty()) {
        problems.warning("unused", path, "kube-proxy is turned off, so its other settings have no effect");
    }
}

fn core_dns(plan: &Plan, problems: &mut Problems) {
    let (path, dns) = (field("coreDns"), &plan.core_dns);
    if dns.enabled && dns.replicas == 0 {
        problems
            .error("replicas", path.key("replicas"), "without a pod there is no DNS")
            .hint("to go without CoreDNS, set `coreDns.enabled: false`");
    }
    if let Some(image) = dns.image.as_ref().filter(|image| !is_image(image)) {
        problems.error("image-syntax", path.key("image"), format!("`{image}` is not an image reference"));
    }
    if dns.corefile.as_ref().is_some_and(|text| text.trim().is_empty()) {
        problems.error("corefile-empty", path.key("corefile"), "the Corefile is empty");
    }
}

fn limits(plan: &Plan, problems: &mut Problems) {
    let (path, limits) = (field("limits"), &plan.limits);
    for (name, number) in [
        ("parallelHosts", limits.parallel_hosts),
        ("parallelUploads", limits.parallel_uploads),
    ] {
        if number == 0 {
            problems.error("limit-zero", path.key(name), "nothing would ever be done: this must be at least 1");
        }
    }
    if !limits.max_unavailable.is_possible() {
        let problem = problems.error("limit-zero", path.key("maxUnavailable"), "this must be at least 1, or a share from 1% to 100%");
        problem.hint("one host is changed at a time if this is left out");
    }
    for (name, span) in [("stepTimeout", limits.step_timeout), ("gateTimeout", limits.gate_timeout)] {
        if span < Span::seconds(1) {
            problems.error("zero-duration", path.key(name), "this must be at least a second");
        }
    }
    // A set has no order of the file, so the list is what is marked.
    let known: Vec<&str> = CHECK_NAMES.iter().chain(upgrade::findings::CHECK_NAMES).copied().collect();
    for name in plan.preflight.ignore.iter().filter(|name| !known.contains(&name.as_str())) {
        let path = field("preflight").key("ignore");
        let problem = problems.error("check-name", path, format!("there is no check `{name}`"));
        problem.hint(match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("one of: {}", known.join(", ")),
        });
    }
}
