//! The kubelet's configuration: what all kubelets share (stored in the API), what one host gets,
//! and the flags that its release still wants on the command line.
//!
//! A host with only the role `etcd` has a standalone kubelet: no API server, so nothing that
//! would ask one.

use indexmap::IndexMap;
use serde_json::{Value, json};

use super::flags::Flags;
use super::{feature_gates, is_dual_stack};
use crate::facts::System;
use crate::patch::{self, PatchError, merge};
use crate::paths;
use crate::plan::{ArgumentValues, Effect, Host, PatchTarget, Plan, Taint};
use crate::release::{FlagOrder, Release};

/// The configuration all kubelets share, as kubeadm stores it: the plan's over the generated one.
#[must_use]
pub fn cluster_configuration(plan: &Plan, release: &Release) -> Value {
    merge::merged(generated(plan, release), &Value::Object(plan.kubelet.configuration.clone()))
}

/// Whether the shared configuration is what kubeadm itself would generate, so that kubeadm may
/// regenerate it on an upgrade.
#[must_use]
pub(super) fn is_as_generated_by_kubeadm(plan: &Plan, release: &Release) -> bool {
    plan.kubelet.configuration.is_empty()
        && feature_gates(plan, release).is_empty()
        && plan.runtime.cgroup_driver == release.kubelet.default_cgroup_driver
}

fn generated(plan: &Plan, release: &Release) -> Value {
    let mut configuration = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": paths::ca_certificate() },
        },
        "authorization": { "mode": "Webhook" },
        // Always written: the kubelet and the runtime must agree, and their defaults differ.
        "cgroupDriver": plan.runtime.cgroup_driver,
        "clusterDNS": [plan.dns_service_address()],
        "clusterDomain": plan.network.dns_domain,
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": 10248,
        "rotateCertificates": true,
        "staticPodPath": paths::manifests_directory(),
    });
    let gates = feature_gates(plan, release);
    if !gates.is_empty() {
        configuration["featureGates"] = json!(gates);
    }
    configuration
}

/// The configuration of one host's kubelet.
///
/// # Errors
/// A patch of the plan does not fit it.
pub fn configuration(plan: &Plan, host: &Host, system: &System, release: &Release) -> Result<Value, PatchError> {
    let mut generated = generated(plan, release);
    if system.systemd_resolved {
        // The resolver of /etc/resolv.conf is then the host's loopback, which pods cannot reach.
        generated["resolvConf"] = json!(paths::resolved_configuration());
    }
    if release.kubelet.refuses_cgroup_v1 && system.cgroup_version == 1 {
        generated["failCgroupV1"] = json!(false);
    }
    let mut configuration = merge::merged(generated, &Value::Object(plan.kubelet.configuration.clone()));
    if !host.is_node() {
        configuration = merge::merged(configuration, &standalone());
    }
    configuration = merge::merged(configuration, &Value::Object(host.kubelet.configuration.clone()));
    configuration = patch::apply(configuration, &plan.patches, PatchTarget::KubeletConfiguration, Some(&host.name))?;
    if let Some(instance) = instance_configuration(plan, release) {
        // Last, as kubeadm does it: the socket is a matter of the host, not of taste.
        configuration = merge::merged(configuration, &instance);
    }
    Ok(configuration)
}

/// What a kubelet without an API server must not have, as an RFC 7386 merge.
fn standalone() -> Value {
    json!({
        "address": "127.0.0.1",
        "authentication": { "anonymous": { "enabled": false }, "webhook": { "enabled": false }, "x509": null },
        "authorization": { "mode": "AlwaysAllow" },
        "clusterDNS": null,
        "clusterDomain": null,
        "registerWithTaints": null,
        "rotateCertificates": null,
        "serverTLSBootstrap": null,
    })
}

/// What of the configuration belongs to one host alone, for `instance-config.yaml`, from the
/// release on that keeps the CRI socket there.
#[must_use]
pub fn instance_configuration(plan: &Plan, release: &Release) -> Option<Value> {
    (!release.kubelet.endpoint_flag).then(|| json!({ "containerRuntimeEndpoint": runtime_endpoint(plan) }))
}

/// The CRI socket as an address.
#[must_use]
pub fn runtime_endpoint(plan: &Plan) -> String {
    format!("unix://{}", plan.runtime.socket)
}

/// The text of `kubeadm-flags.env`: the flags this release wants, and the plan's.
#[must_use]
pub fn flags_environment(plan: &Plan, host: &Host, system: &System, release: &Release) -> String {
    let mut flags = Flags::default();
    let facts = &release.kubelet;
    if facts.container_runtime_flag {
        flags.set("container-runtime", "remote");
    }
    if facts.endpoint_flag {
        flags.set("container-runtime-endpoint", runtime_endpoint(plan));
    }
    if facts.pause_flag {
        flags.set("pod-infra-container-image", release.images(plan).pause);
    }
    if host.is_node() {
        set_node_flags(&mut flags, plan, host, system);
    }
    // kubeadm sorts these flags in every release.
    let flags = flags.merged(&extra_args(plan, host), FlagOrder::Sorted).join(" ");
    let quoted = flags.replace('\\', "\\\\").replace('"', "\\\"");
    format!("KUBELET_KUBEADM_ARGS=\"{quoted}\"\n")
}

fn set_node_flags(flags: &mut Flags, plan: &Plan, host: &Host, system: &System) {
    let name = host.name.as_str();
    if !system.hostname.is_empty() && system.hostname.to_lowercase() != name {
        flags.set("hostname-override", name);
    }
    // Left alone, the kubelet takes one address and prefers IPv4.
    if is_dual_stack(plan) || host.address.is_ipv6() {
        let addresses: Vec<_> = host.addresses().map(|address| address.to_string()).collect();
        flags.set("node-ip", addresses.join(","));
    }
    // Control planes are marked after they have registered, as kubeadm does it.
    if let Some(taints) = host.taints.as_deref().filter(|taints| !taints.is_empty() && !host.is_control_plane()) {
        flags.set("register-with-taints", taints.iter().map(taint_text).collect::<Vec<_>>().join(","));
    }
}

/// `key=value:effect`, as flags spell a taint.
fn taint_text(taint: &Taint) -> String {
    let effect = match taint.effect {
        Effect::NoSchedule => "NoSchedule",
        Effect::PreferNoSchedule => "PreferNoSchedule",
        Effect::NoExecute => "NoExecute",
    };
    format!("{}={}:{effect}", taint.key, taint.value)
}

/// The plan's flags for all kubelets under those for this host.
fn extra_args(plan: &Plan, host: &Host) -> IndexMap<String, ArgumentValues> {
    let mut arguments = plan.kubelet.extra_args.clone();
    arguments.extend(host.kubelet.extra_args.clone());
    arguments
}

#[cfg(test)]
mod tests;
