//! The API server's static pod. With etcd members on the control planes each API server talks to
//! its own member only, so that a host fails as a whole.

use serde_json::Value;

use crate::kubernetes::flags::{Flags, override_of};
use crate::kubernetes::pod::{HostVolume, ProbeTarget, StaticPod, pki_volumes, probe_address};
use crate::kubernetes::{PodInputs, feature_gates, joined};
use crate::patch::{self, PatchError};
use crate::paths;
use crate::plan::{Endpoint, Host, PatchTarget, Plan, url};
use crate::release::ProbePaths;

/// kubeadm finds the API servers' addresses through this annotation.
const ENDPOINT_ANNOTATION: &str = "kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint";

const PROBES: ProbePaths = ProbePaths { liveness: "/livez", readiness: Some("/readyz"), startup: "/livez" };

/// How long an API server behind slipway's own proxies goes on serving when it was told to stop,
/// while `/readyz` already says no: longer than they take to notice (they ask every 2 s), so that
/// nobody is sent to a closed port. The kubelet waits 30 s before it kills.
const SHUTDOWN_DELAY: &str = "5s";

/// The static pod of the host's API server.
///
/// # Errors
/// A patch of the plan does not fit the pod.
pub fn api_server(inputs: &PodInputs<'_>) -> Result<Value, PatchError> {
    let PodInputs { plan, host, release, .. } = *inputs;
    let component = &plan.api_server;
    let mut volumes = pki_volumes(inputs);
    volumes.extend(component.extra_volumes.iter().map(HostVolume::from));
    let endpoint = url(&host.address.to_string(), plan.api_port()).replace("https://", "");
    let pod = StaticPod {
        name: "kube-apiserver",
        image: release.images(plan).api_server,
        flags: flags(inputs).merged(&component.extra_args, release.pods.flag_order),
        environment: &component.extra_env,
        annotations: [(ENDPOINT_ANNOTATION.to_owned(), endpoint)].into(),
        requests: &[("cpu", "250m")],
        probe: ProbeTarget {
            address: probe_address(&host.address.to_string()),
            port: plan.api_port(),
            scheme: "HTTPS",
            paths: PROBES,
        },
        volumes,
    };
    patch::apply(pod.into_value(inputs), &plan.patches, PatchTarget::KubeApiserver, Some(&host.name))
}

fn flags(inputs: &PodInputs<'_>) -> Flags {
    let PodInputs { plan, host, release, signing, .. } = *inputs;
    let mut flags = Flags::default();
    flags.set_all([
        ("advertise-address", host.address.to_string()),
        ("secure-port", plan.api_port().to_string()),
        ("service-cluster-ip-range", joined(&plan.network.service_cidrs)),
        ("service-account-issuer", format!("https://kubernetes.default.svc.{}", plan.network.dns_domain)),
        ("etcd-servers", etcd_servers(plan, host)),
    ]);
    flags.set_all([
        ("allow-privileged", "true"),
        ("authorization-mode", "Node,RBAC"),
        ("enable-admission-plugins", "NodeRestriction"),
        ("enable-bootstrap-token-auth", "true"),
        ("kubelet-preferred-address-types", "InternalIP,ExternalIP,Hostname"),
        ("requestheader-allowed-names", "front-proxy-client"),
        ("requestheader-extra-headers-prefix", "X-Remote-Extra-"),
        ("requestheader-group-headers", "X-Remote-Group"),
        ("requestheader-username-headers", "X-Remote-User"),
    ]);
    flags.set_all([
        ("client-ca-file", paths::ca_certificate()),
        ("kubelet-client-certificate", paths::kubelet_client_certificate()),
        ("kubelet-client-key", paths::kubelet_client_key()),
        ("proxy-client-cert-file", paths::front_proxy_client_certificate()),
        ("proxy-client-key-file", paths::front_proxy_client_key()),
        ("requestheader-client-ca-file", paths::front_proxy_ca_certificate()),
        ("service-account-key-file", paths::service_account_public_key()),
        ("service-account-signing-key-file", signing.service_account_key.clone()),
        ("tls-cert-file", paths::api_server_certificate()),
        ("tls-private-key-file", paths::api_server_key()),
    ]);
    let [ca, certificate, key] = if plan.etcd.external.is_some() {
        [
            paths::external_etcd_ca_certificate(),
            paths::external_etcd_client_certificate(),
            paths::external_etcd_client_key(),
        ]
    } else {
        [paths::etcd_ca_certificate(), paths::etcd_client_certificate(), paths::etcd_client_key()]
    };
    flags.set_all([("etcd-cafile", ca), ("etcd-certfile", certificate), ("etcd-keyfile", key)]);
    flags.set_all(release.pods.api_server_flags.iter().copied());
    if matches!(plan.endpoint, Some(Endpoint::LocalProxy { .. } | Endpoint::Vip(_))) {
        flags.set_all([("shutdown-delay-duration", SHUTDOWN_DELAY)]);
    }
    flags.set_feature_gates(&feature_gates(plan, release));
    if release.pods.authorization_config && plan.api_server.extra_args.contains_key("authorization-config") {
        // The two exclude each other.
        flags.remove("authorization-mode");
    }
    flags
}

/// Where this API server finds etcd.
fn etcd_servers(plan: &Plan, host: &Host) -> String {
    if let Some(external) = &plan.etcd.external {
        return external.endpoints.join(",");
    }
    if !plan.has_etcd(host) {
        let members: Vec<_> = plan.etcd_hosts().map(|member| url(&member.address.to_string(), 2379)).collect();
        return members.join(",");
    }
    let loopback = if host.address.is_ipv6() { "::1" } else { "127.0.0.1" };
    override_of(&plan.etcd.extra_args, "advertise-client-urls").map_or_else(|| url(loopback, 2379), str::to_owned)
}
