//! The Kubernetes documents slipway generates: static pods, the kubelet's configuration, the
//! objects in the API. They equal in meaning what kubeadm of the same release makes, so either
//! tool can carry on where the other stopped. Documents are values until the last moment; the
//! plan's patches are the last thing applied to them.

use std::collections::BTreeMap;

use crate::facts::System;
use crate::plan::{Cni, Host, Plan};
use crate::release::Release;
use crate::trust::rotation::SigningFiles;

pub mod cluster_configuration;
pub mod coredns;
pub mod flags;
pub mod flannel;
pub mod kube_proxy;
pub mod kubelet;
pub mod node_marks;
pub mod objects;
pub mod pod;
pub mod rbac;
pub mod static_pods;

/// The annotation of a static pod that holds the digest of the files the pod reads, so that a new
/// certificate makes a new pod.
pub const INPUTS_ANNOTATION: &str = "slipway.dev/inputs";

/// The annotation with which kubeadm recognizes configuration that nobody has edited.
pub const CONFIGURATION_HASH_ANNOTATION: &str = "kubeadm.kubernetes.io/component-config.hash";

/// What a host's static pods are made from.
#[derive(Debug, Clone, Copy)]
pub struct PodInputs<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The host the pod runs on.
    pub host: &'a Host,
    /// What that host is.
    pub system: &'a System,
    /// The plan's Kubernetes release.
    pub release: &'a Release,
    /// The digest of the files the pod reads.
    pub inputs_digest: Option<&'a str>,
    /// Which files the components sign with.
    pub signing: &'a SigningFiles,
}

/// Whether the cluster has addresses of both families.
#[must_use]
pub fn is_dual_stack(plan: &Plan) -> bool {
    plan.network.service_cidrs.len() > 1 || plan.network.pod_cidrs.len() > 1
}

/// Feature gates of all components: the plan's, and those that the release needs for what the
/// plan asks.
#[must_use]
pub fn feature_gates(plan: &Plan, release: &Release) -> BTreeMap<String, bool> {
    let mut gates = plan.kubernetes.feature_gates.clone();
    if let Some(gate) = release.pods.dual_stack_gate.filter(|_| is_dual_stack(plan)) {
        gates.entry(gate.to_owned()).or_insert(true);
    }
    gates
}

/// Whether the controller manager hands out the nodes' pod networks. With the built-in bridge
/// network slipway does, before the first kubelet starts, so that routes exist from the beginning.
#[must_use]
pub fn allocates_node_cidrs(plan: &Plan) -> bool {
    !matches!(plan.network.cni, Cni::Bridge { .. })
}

/// Networks as one flag value.
fn joined(networks: &[ipnet::IpNet]) -> String {
    networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// A ConfigMap's hash as kubeadm computes it: over the values in the order of their keys.
fn configuration_hash(data: &BTreeMap<String, String>) -> String {
    format!("sha256:{}", crate::names::Digest::of(data.values().map(String::as_str).collect::<String>()))
}

/// A plan of one control plane for tests: the cluster of the reference output.
#[cfg(test)]
pub(crate) fn example(version: &str) -> Plan {
    let text = format!(
        "version: 1\nkubernetes: {{version: {version}}}\nendpoint: {{external: {{address: api.example.test}}}}\n\
         network: {{cni: none}}\npki: {{extraSans: [api.example.test, 192.0.2.100]}}\n\
         hosts: [{{name: cp-1, address: 192.0.2.11, roles: [control-plane]}}]\n"
    );
    crate::yaml::read(&text).expect("the plan above is well formed")
}
