//! The fields of a plan that have a name: version, networks, endpoint, etcd, keys, runtime.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{AdoptError, Draft, Found, kubelets, nodes};
use crate::facts::State;
use crate::names::{KubernetesVersion, Span};
use crate::paths;
use crate::plan::{KeyAlgorithm, Pki};
use crate::release::Release;
use crate::trust::inspect;
use crate::trust::specification::{Leaf, Storage, table};

/// Where kubeadm keeps what it was told.
const CONFIGURATION: &str = "ConfigMap kube-system/kubeadm-config";

/// The plan without anything that needs a look at what slipway would make of it.
pub(super) fn document(found: &Found<'_>) -> Result<Value, AdoptError> {
    let configuration = &found.objects.cluster_configuration;
    let text = |pointer: &str| configuration.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    let place = CONFIGURATION;
    if configuration.pointer("/etcd/external").is_some() {
        return Err(AdoptError::unreadable(place, "etcd is external to the cluster, and such a cluster cannot be adopted yet"));
    }
    let version = text("/kubernetesVersion").ok_or_else(|| AdoptError::unreadable(place, "it has no kubernetesVersion"))?;
    let version: KubernetesVersion = version.parse().map_err(|error| AdoptError::unreadable(place, error))?;
    let release = Release::of(version)?;
    let mut document = json!({ "version": 1, "kubernetes": { "version": version } });
    if let Some(name) = text("/clusterName").filter(|name| *name != "kubernetes") {
        document["name"] = json!(name);
    }
    if let Some(repository) = text("/imageRepository").filter(|repository| *repository != release.image_repository) {
        document["kubernetes"]["imageRepository"] = json!(repository);
    }
    if let Some(endpoint) = text("/controlPlaneEndpoint") {
        document["endpoint"] = json!({ "external": external(endpoint) });
    }
    document["network"] = network(configuration);
    document["etcd"] = etcd(configuration);
    document["pki"] = pki(found, configuration)?;
    document["runtime"] = runtime(found, place)?;
    document["ssh"] = found.ssh.clone();
    for section in ["etcd", "ssh"] {
        if document[section].as_object().is_none_or(serde_json::Map::is_empty) {
            document.as_object_mut().expect("it was made above").remove(section);
        }
    }
    document["hosts"] = nodes::hosts(found)?;
    Ok(document)
}

/// `address:port` as an external endpoint.
fn external(endpoint: &str) -> Value {
    let (address, port) = match endpoint.rsplit_once(':') {
        Some((address, port)) if !address.contains(':') || address.ends_with(']') => (address, port.parse().ok()),
        _ => (endpoint, None),
    };
    let mut external = json!({ "address": address.trim_matches(['[', ']']) });
    if let Some(port) = port.filter(|port: &u16| *port != 6443) {
        external["port"] = json!(port);
    }
    external
}

fn list(value: &Value) -> Option<Vec<&str>> {
    value.as_str().filter(|text| !text.is_empty()).map(|text| text.split(',').map(str::trim).collect())
}

fn network(configuration: &Value) -> Value {
    let networking = &configuration["networking"];
    // Whatever connects the pods came from somebody else and stays theirs.
    let mut network = json!({ "cni": "none" });
    for (field, key) in [("podCidrs", "podSubnet"), ("serviceCidrs", "serviceSubnet")] {
        if let Some(networks) = list(&networking[key]) {
            network[field] = json!(networks);
        }
    }
    if let Some(domain) = networking["dnsDomain"].as_str().filter(|domain| !matches!(*domain, "" | "cluster.local")) {
        network["dnsDomain"] = json!(domain);
    }
    network
}

fn etcd(configuration: &Value) -> Value {
    let mut etcd = json!({});
    if let Some(directory) = configuration.pointer("/etcd/local/dataDir").and_then(Value::as_str).filter(|path| *path != "/var/lib/etcd") {
        etcd["dataDirectory"] = json!(directory);
    }
    etcd
}

fn pki(found: &Found<'_>, configuration: &Value) -> Result<Value, AdoptError> {
    let fingerprints: BTreeSet<_> = found.facts.values().filter_map(super::fingerprint).collect();
    let mut fingerprints = fingerprints.into_iter();
    let (Some(fingerprint), None) = (fingerprints.next(), fingerprints.next()) else {
        return Err(AdoptError::unreadable("/etc/kubernetes/pki/ca.crt", "the hosts have none, or not all the same"));
    };
    let mut pki = json!({ "adopted": fingerprint });
    let usual = Pki::default();
    for (field, key, usual) in
        [("validity", "certificateValidityPeriod", usual.validity), ("caValidity", "caCertificateValidityPeriod", usual.ca_validity)]
    {
        let period = configuration[key].as_str().and_then(|text| text.parse::<Span>().ok());
        if let Some(period) = period.filter(|period| *period != usual) {
            pki[field] = json!(period);
        }
    }
    // The kind of the CA's key is no sign of that of new keys; the one leaf every host makes is.
    let algorithms = found.facts.values().filter_map(|facts| algorithm(&facts.state));
    if let Some(algorithm) = algorithms.into_iter().find(|algorithm| *algorithm != KeyAlgorithm::default()) {
        pki["algorithm"] = json!(algorithm);
    }
    Ok(pki)
}

/// The kind of the API server's key, if a plan knows it.
fn algorithm(state: &State) -> Option<KeyAlgorithm> {
    let certificate = inspect::certificate(state.content(&paths::api_server_certificate())?).ok()?;
    serde_json::from_value(json!(certificate.algorithm)).ok()
}

fn runtime(found: &Found<'_>, place: &str) -> Result<Value, AdoptError> {
    // containerd is configured already, by whoever installed it.
    let mut runtime = json!({ "managed": false });
    let sockets: BTreeSet<String> = found.facts.values().filter_map(|facts| kubelets::socket(&facts.state)).collect();
    let mut sockets = sockets.into_iter();
    match (sockets.next(), sockets.next()) {
        (Some(socket), None) if socket != "/run/containerd/containerd.sock" => runtime["socket"] = json!(socket),
        (Some(one), Some(other)) => {
            return Err(AdoptError::unreadable(place, format!("hosts have different CRI sockets: {one}, {other}; a plan has one")));
        }
        _ => {}
    }
    let drivers: BTreeSet<&str> = found.facts.values().filter_map(|facts| kubelets::cgroup_driver(&facts.state)).collect();
    match drivers.into_iter().collect::<Vec<_>>().as_slice() {
        ["cgroupfs"] => runtime["cgroupDriver"] = json!("cgroupfs"),
        [] | ["systemd"] => {}
        several => {
            let reason = format!("hosts have different cgroup drivers: {}; a plan has one", several.join(", "));
            return Err(AdoptError::unreadable("/var/lib/kubelet/config.yaml", reason));
        }
    }
    Ok(runtime)
}

/// Names and addresses that certificates have besides those slipway would give them: certificates are
/// kept as they are, but a renewed one must not know fewer.
pub(super) fn names(draft: &mut Draft, found: &Found<'_>) -> Result<(), AdoptError> {
    let plan = draft.plan()?;
    let configuration = &found.objects.cluster_configuration;
    // What kubeadm was told stands in its ConfigMap, even where the endpoint's name is meant.
    let told = |pointers: &[&str]| -> BTreeSet<String> {
        let lists = pointers.iter().filter_map(|pointer| configuration.pointer(pointer)?.as_array());
        lists.flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut api_server = told(&["/apiServer/certSANs"]);
    let mut etcd = told(&["/etcd/local/serverCertSANs", "/etcd/local/peerCertSANs"]);
    for leaf in table::leaves(&plan, plan.kubernetes.version) {
        let more = match leaf.name {
            "apiserver" => &mut api_server,
            "etcd/server" | "etcd/peer" => &mut etcd,
            _ => continue,
        };
        let Some(facts) = found.facts.get(&leaf.host) else { continue };
        more.extend(unwanted_names(&leaf, &facts.state));
    }
    for (section, names) in [("pki", api_server), ("etcd", etcd)] {
        if !names.is_empty() {
            draft.object(&[section]).insert("extraSans".to_owned(), json!(names));
        }
    }
    Ok(())
}

fn unwanted_names(leaf: &Leaf, state: &State) -> Vec<String> {
    let Storage::FilePair { certificate, .. } = &leaf.storage else { return Vec::new() };
    let found = state.content(certificate).and_then(|bytes| inspect::certificate(bytes).ok());
    let names = found.into_iter().flat_map(|found| found.names);
    names.filter(|name| !leaf.names.contains(name)).map(|name| name.to_string()).collect()
}
