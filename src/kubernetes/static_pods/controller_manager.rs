//! The controller manager's static pod.
//!
//! One deliberate deviation from kubeadm: with the built-in bridge network
//! `--allocate-node-cidrs` is false, because slipway itself gives each Node its pod network.

use serde_json::Value;

use crate::kubernetes::flags::{Flags, override_of};
use crate::kubernetes::pod::{HostVolume, ProbeTarget, StaticPod, pki_volumes, probe_address};
use crate::kubernetes::{PodInputs, allocates_node_cidrs, feature_gates, joined};
use crate::patch::{self, PatchError};
use crate::paths;
use crate::plan::{PatchTarget, Pki, Plan};
use crate::release::ProbePaths;

const PROBES: ProbePaths = ProbePaths { liveness: "/healthz", readiness: None, startup: "/healthz" };

/// The node masks Kubernetes takes if no flag says otherwise.
const DEFAULT_NODE_MASKS: (u8, u8) = (24, 64);

/// The static pod of the host's controller manager.
///
/// # Errors
/// A patch of the plan does not fit the pod.
pub fn controller_manager(inputs: &PodInputs<'_>) -> Result<Value, PatchError> {
    let PodInputs { plan, host, release, .. } = *inputs;
    let component = &plan.controller_manager;
    let mut volumes = pki_volumes(inputs);
    volumes.push(HostVolume::file("kubeconfig", &paths::controller_manager_kubeconfig()));
    if release.pods.flex_volume {
        volumes.push(HostVolume::directory("flexvolume-dir", &paths::flex_volume_directory(), false));
    }
    volumes.extend(component.extra_volumes.iter().map(HostVolume::from));
    let bind_address = override_of(&component.extra_args, "bind-address").unwrap_or("127.0.0.1");
    let pod = StaticPod {
        name: "kube-controller-manager",
        image: release.images(plan).controller_manager,
        flags: flags(inputs).merged(&component.extra_args, release.pods.flag_order),
        environment: &component.extra_env,
        annotations: [].into(),
        requests: &[("cpu", "200m")],
        probe: ProbeTarget { address: probe_address(bind_address), port: 10257, scheme: "HTTPS", paths: PROBES },
        volumes,
    };
    patch::apply(pod.into_value(inputs), &plan.patches, PatchTarget::KubeControllerManager, Some(&host.name))
}

fn flags(inputs: &PodInputs<'_>) -> Flags {
    let PodInputs { plan, release, signing, .. } = *inputs;
    let mut flags = Flags::default();
    flags.set_all([
        ("bind-address", "127.0.0.1"),
        ("cluster-name", plan.name.as_str()),
        ("controllers", "*,bootstrapsigner,tokencleaner"),
        ("leader-elect", "true"),
        ("use-service-account-credentials", "true"),
        ("allocate-node-cidrs", "true"),
    ]);
    flags.set_all([
        ("authentication-kubeconfig", paths::controller_manager_kubeconfig()),
        ("authorization-kubeconfig", paths::controller_manager_kubeconfig()),
        ("kubeconfig", paths::controller_manager_kubeconfig()),
        ("client-ca-file", paths::ca_certificate()),
        ("root-ca-file", paths::ca_certificate()),
        ("requestheader-client-ca-file", paths::front_proxy_ca_certificate()),
        ("service-account-private-key-file", signing.service_account_key.clone()),
    ]);
    // Without them the signing controllers do not start.
    if plan.pki.authority.are_on_hosts() {
        flags.set_all([
            ("cluster-signing-cert-file", signing.certificate.clone()),
            ("cluster-signing-key-file", signing.key.clone()),
        ]);
    }
    flags.set_all([
        ("cluster-cidr", joined(&plan.network.pod_cidrs)),
        ("service-cluster-ip-range", joined(&plan.network.service_cidrs)),
    ]);
    flags.set_all(node_network_flags(plan));
    flags.set_all(signing_flags(plan));
    flags.set_all(release.pods.controller_flags.iter().copied());
    flags.set_feature_gates(&feature_gates(plan, release));
    flags
}

/// The flags about certificates that the cluster signs, those of kubelets, that kubeadm would not make by
/// itself: they live as long as all others of the plan. Kubernetes' own duration is a year.
#[must_use]
pub fn signing_flags(plan: &Plan) -> Vec<(&'static str, String)> {
    let validity = plan.pki.validity;
    if validity == Pki::default().validity || !plan.pki.authority.are_on_hosts() {
        return Vec::new();
    }
    vec![("cluster-signing-duration", format!("{}s", validity.0.as_secs()))]
}

/// The flags about the nodes' pod networks that kubeadm would not make by itself. They are also
/// written into the stored ClusterConfiguration, so that kubeadm keeps them.
#[must_use]
pub fn node_network_flags(plan: &Plan) -> Vec<(&'static str, String)> {
    if !allocates_node_cidrs(plan) {
        return vec![("allocate-node-cidrs", "false".into())];
    }
    let network = &plan.network;
    if (network.node_mask_v4, network.node_mask_v6) == DEFAULT_NODE_MASKS {
        return Vec::new();
    }
    let mut masks = Vec::new();
    let dual_stack = network.pod_cidrs.len() > 1;
    for cidr in &network.pod_cidrs {
        let (name, mask, default) = match cidr {
            ipnet::IpNet::V4(_) => ("node-cidr-mask-size-ipv4", network.node_mask_v4, DEFAULT_NODE_MASKS.0),
            ipnet::IpNet::V6(_) => ("node-cidr-mask-size-ipv6", network.node_mask_v6, DEFAULT_NODE_MASKS.1),
        };
        if mask != default {
            masks.push((if dual_stack { name } else { "node-cidr-mask-size" }, mask.to_string()));
        }
    }
    masks
}
