//! The plan in kubeadm's words: the `ClusterConfiguration` stored in the ConfigMap
//! `kubeadm-config`, which a kubeadm of the same release reads back. What kubeadm would not
//! derive by itself (feature gates, who hands out pod networks) stands in the components'
//! `extraArgs`, so that an upgrade by kubeadm keeps it. A removed flag cannot be said there.

use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use super::flags::Flags;
use super::static_pods::controller_manager::{node_network_flags, signing_flags};
use super::{feature_gates, joined};
use crate::paths;
use crate::plan::{ArgumentValues, Component, Endpoint, KeyAlgorithm, Plan, url};
use crate::release::{ConfigurationApi, Release};

/// The `ClusterConfiguration` of the plan.
#[must_use]
pub fn cluster_configuration(plan: &Plan, release: &Release) -> Value {
    let api = release.objects.configuration_api;
    let mut configuration = json!({
        "apiVersion": api_version(api),
        "kind": "ClusterConfiguration",
        "kubernetesVersion": plan.kubernetes.version,
        "clusterName": plan.name,
        "certificatesDir": paths::pki_directory(),
        "imageRepository": release.repository(plan),
        "networking": {
            "dnsDomain": plan.network.dns_domain,
            "podSubnet": joined(&plan.network.pod_cidrs),
            "serviceSubnet": joined(&plan.network.service_cidrs),
        },
        "apiServer": api_server(plan, release),
        "controllerManager": controller_manager(plan, release),
        "scheduler": component(&plan.scheduler, &generated_flags(plan, release), api),
        "etcd": etcd(plan, api),
        "dns": dns(plan, api),
    });
    if let Some(endpoint) = control_plane_endpoint(plan) {
        configuration["controlPlaneEndpoint"] = json!(endpoint);
    }
    match api {
        ConfigurationApi::V1Beta2 => {
            if let Some(gate) = release.pods.dual_stack_gate.filter(|_| super::is_dual_stack(plan)) {
                configuration["featureGates"] = json!({ gate: true });
            }
        }
        ConfigurationApi::V1Beta4 { p384 } => {
            configuration["certificateValidityPeriod"] = json!(plan.pki.validity);
            configuration["caCertificateValidityPeriod"] = json!(plan.pki.ca_validity);
            configuration["proxy"] = if plan.kube_proxy.enabled { json!({}) } else { json!({ "disabled": true }) };
            // An algorithm this kubeadm does not know is left out rather than making the whole
            // document unreadable.
            if p384 || plan.pki.algorithm != KeyAlgorithm::EcdsaP384 {
                configuration["encryptionAlgorithm"] = json!(plan.pki.algorithm);
            }
        }
    }
    configuration
}

/// The `ClusterStatus` that kubeadm kept beside the configuration in older releases.
#[must_use]
pub fn cluster_status(plan: &Plan, release: &Release) -> Option<Value> {
    if release.objects.configuration_api != ConfigurationApi::V1Beta2 {
        return None;
    }
    let endpoints: Map<String, Value> = plan
        .control_planes()
        .map(|host| (host.name.to_string(), json!({ "advertiseAddress": host.address, "bindPort": plan.api_port() })))
        .collect();
    Some(json!({
        "apiVersion": api_version(release.objects.configuration_api),
        "kind": "ClusterStatus",
        "apiEndpoints": endpoints,
    }))
}

fn api_version(api: ConfigurationApi) -> &'static str {
    match api {
        ConfigurationApi::V1Beta2 => "kubeadm.k8s.io/v1beta2",
        ConfigurationApi::V1Beta4 { .. } => "kubeadm.k8s.io/v1beta4",
    }
}

/// Where a further host joins. The hosts' own proxies are nothing kubeadm knows, so with them it
/// is told the first control plane.
fn control_plane_endpoint(plan: &Plan) -> Option<String> {
    let endpoint: &Endpoint = plan.endpoint.as_ref()?;
    let address = match endpoint {
        Endpoint::External { address, port } => url(address, *port),
        Endpoint::LocalProxy { .. } | Endpoint::Vip(_) => plan.public_url(),
    };
    Some(address.replace("https://", ""))
}

fn generated_flags(plan: &Plan, release: &Release) -> Flags {
    let mut flags = Flags::default();
    flags.set_feature_gates(&feature_gates(plan, release));
    flags
}

fn api_server(plan: &Plan, release: &Release) -> Value {
    let api = release.objects.configuration_api;
    let mut flags = generated_flags(plan, release);
    if api == ConfigurationApi::V1Beta2 {
        flags.set("authorization-mode", "Node,RBAC");
    }
    let mut document = component(&plan.api_server, &flags, api);
    if api == ConfigurationApi::V1Beta2 {
        document["timeoutForControlPlane"] = json!("4m0s");
    }
    if !plan.pki.extra_sans.is_empty() {
        document["certSANs"] = json!(plan.pki.extra_sans);
    }
    document
}

fn controller_manager(plan: &Plan, release: &Release) -> Value {
    let mut flags = generated_flags(plan, release);
    flags.set_all(node_network_flags(plan));
    flags.set_all(signing_flags(plan));
    component(&plan.controller_manager, &flags, release.objects.configuration_api)
}

fn component(component: &Component, flags: &Flags, api: ConfigurationApi) -> Value {
    let mut document = json!({});
    set_extra_args(&mut document, flags, &component.extra_args, api);
    if !component.extra_volumes.is_empty() {
        let volumes = component.extra_volumes.iter().map(|volume| {
            let mut document = json!({
                "name": volume.name,
                "hostPath": volume.host_path,
                "mountPath": volume.mount_path,
                "readOnly": volume.read_only,
            });
            if let Some(kind) = &volume.kind {
                document["pathType"] = json!(kind);
            }
            document
        });
        document["extraVolumes"] = volumes.collect();
    }
    set_extra_env(&mut document, &component.extra_env, api);
    document
}

fn set_extra_args(
    document: &mut Value,
    flags: &Flags,
    overrides: &IndexMap<String, ArgumentValues>,
    api: ConfigurationApi,
) {
    let generated = flags.iter().filter(|(name, _)| !overrides.contains_key(*name));
    let given =
        overrides.iter().flat_map(|(name, values)| values.0.iter().map(|value| (name.as_str(), value.as_str())));
    let arguments: Vec<(&str, &str)> = generated.chain(given).collect();
    if arguments.is_empty() {
        return;
    }
    document["extraArgs"] = match api {
        // A map: of a repeated flag the last value stays.
        ConfigurationApi::V1Beta2 => arguments.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect(),
        ConfigurationApi::V1Beta4 { .. } => {
            arguments.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect()
        }
    };
}

fn set_extra_env(
    document: &mut Value,
    environment: &std::collections::BTreeMap<String, String>,
    api: ConfigurationApi,
) {
    // v1beta2 has no such field.
    if !environment.is_empty() && api != ConfigurationApi::V1Beta2 {
        document["extraEnvs"] =
            environment.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    }
}

/// Members on the control planes are `local`; an etcd of its own hosts is external to kubeadm.
fn etcd(plan: &Plan, api: ConfigurationApi) -> Value {
    if let Some(external) = &plan.etcd.external {
        return json!({ "external": {
            "endpoints": external.endpoints,
            "caFile": paths::external_etcd_ca_certificate(),
            "certFile": paths::external_etcd_client_certificate(),
            "keyFile": paths::external_etcd_client_key(),
        }});
    }
    if !plan.control_planes().all(|host| plan.has_etcd(host)) {
        let endpoints = plan.etcd_hosts().map(|host| url(&host.address.to_string(), 2379));
        return json!({ "external": {
            "endpoints": endpoints.collect::<Vec<_>>(),
            "caFile": paths::etcd_ca_certificate(),
            "certFile": paths::etcd_client_certificate(),
            "keyFile": paths::etcd_client_key(),
        }});
    }
    let mut local = json!({ "dataDir": plan.etcd.data_directory });
    set_extra_args(&mut local, &Flags::default(), &plan.etcd.extra_args, api);
    set_extra_env(&mut local, &plan.etcd.extra_env, api);
    if !plan.etcd.extra_sans.is_empty() {
        local["serverCertSANs"] = json!(plan.etcd.extra_sans);
        local["peerCertSANs"] = json!(plan.etcd.extra_sans);
    }
    set_image(&mut local, plan.etcd.image.as_deref(), "etcd");
    json!({ "local": local })
}

fn dns(plan: &Plan, api: ConfigurationApi) -> Value {
    let mut document = match api {
        ConfigurationApi::V1Beta2 => json!({ "type": "CoreDNS" }),
        ConfigurationApi::V1Beta4 { .. } if !plan.core_dns.enabled => json!({ "disabled": true }),
        ConfigurationApi::V1Beta4 { .. } => json!({}),
    };
    set_image(&mut document, plan.core_dns.image.as_deref(), "coredns");
    document
}

/// kubeadm knows a repository and a tag, and adds the image's name itself; an image of another
/// name cannot be said.
fn set_image(document: &mut Value, image: Option<&str>, name: &str) {
    let parts = image.and_then(|image| image.rsplit_once(':')).and_then(|(path, tag)| {
        let (repository, last) = path.rsplit_once('/')?;
        (last == name).then_some((repository, tag))
    });
    if let Some((repository, tag)) = parts {
        document["imageRepository"] = json!(repository);
        document["imageTag"] = json!(tag);
    }
}
