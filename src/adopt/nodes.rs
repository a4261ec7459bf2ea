//! Nodes as hosts of a plan: address, roles, labels, taints.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::{AdoptError, Draft, Found, components};
use crate::facts::Facts;
use crate::names::{HostName, RemotePath};
use crate::plan::{Effect, Taint};
use crate::release::Release;
use crate::standing::API_SERVER_MANIFEST;

/// Where a Node of the cluster is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The Node's name.
    pub name: HostName,
    /// Its InternalIPs, in the order of the Node.
    pub addresses: Vec<IpAddr>,
    /// Whether it is marked as a control plane.
    pub control_plane: bool,
}

/// Where the Nodes are: whom the shell is to visit.
///
/// # Errors
/// A Node has no address, or a name that a plan cannot have.
pub fn places(nodes: &[Value]) -> Result<Vec<Place>, AdoptError> {
    let mut places: Vec<Place> = nodes.iter().map(place).collect::<Result<_, _>>()?;
    places.sort_by(|one, other| (!one.control_plane, &one.name).cmp(&(!other.control_plane, &other.name)));
    Ok(places)
}

fn place(node: &Value) -> Result<Place, AdoptError> {
    let name = node.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let name: HostName = name.parse().map_err(|error| AdoptError::unreadable(format!("Node/{name}"), error))?;
    let addresses = node.pointer("/status/addresses").and_then(Value::as_array).into_iter().flatten();
    let addresses: Vec<IpAddr> = addresses
        .filter(|address| address["type"] == "InternalIP")
        .filter_map(|address| address["address"].as_str()?.parse().ok())
        .collect();
    if addresses.is_empty() {
        return Err(AdoptError::unreadable(format!("Node/{name}"), "it has no InternalIP"));
    }
    let control_plane = labels(node).any(|(key, _)| {
        matches!(key, "node-role.kubernetes.io/control-plane" | "node-role.kubernetes.io/master")
    });
    Ok(Place { name, addresses, control_plane })
}

fn labels(node: &Value) -> impl Iterator<Item = (&str, &str)> {
    let labels = node.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
    labels.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
}

/// The hosts of the plan, control planes first.
pub(super) fn hosts(found: &Found<'_>) -> Result<Value, AdoptError> {
    let hosts = places(&found.objects.nodes)?.into_iter().map(|place| {
        let facts = found.facts.get(&place.name);
        let advertised = facts.and_then(advertised_address);
        let address = advertised.unwrap_or(place.addresses[0]);
        let second = place.addresses.iter().find(|other| other.is_ipv4() != address.is_ipv4());
        let control_plane = facts.map_or(place.control_plane, is_control_plane);
        let mut host = json!({ "name": place.name, "address": address, "roles": [if control_plane { "control-plane" } else { "worker" }] });
        if let Some(second) = second.filter(|_| is_dual(found)) {
            host["secondAddress"] = json!(second);
        }
        if let Some(ssh) = found.host_ssh.get(&place.name).filter(|ssh| ssh.as_object().is_some_and(|ssh| !ssh.is_empty())) {
            host["ssh"] = ssh.clone();
        }
        host
    });
    Ok(Value::Array(hosts.collect()))
}

fn is_dual(found: &Found<'_>) -> bool {
    let networks = found.objects.cluster_configuration.pointer("/networking/podSubnet").and_then(Value::as_str);
    networks.is_some_and(|networks| networks.contains(','))
}

fn is_control_plane(facts: &Facts) -> bool {
    facts.state.files.contains_key(&RemotePath::fixed(API_SERVER_MANIFEST))
}

/// The address that a host's API server tells: etcd's URLs and certificates are for it.
fn advertised_address(facts: &Facts) -> Option<IpAddr> {
    components::flag(facts.state.text(&RemotePath::fixed(API_SERVER_MANIFEST))?, "advertise-address")?.parse().ok()
}

/// Labels, taints, and whether a control plane also runs ordinary pods.
pub(super) fn fill(draft: &mut Draft, found: &Found<'_>, release: &Release) -> Result<(), AdoptError> {
    for node in &found.objects.nodes {
        let Place { name, .. } = place(node)?;
        if !found.facts.contains_key(&name) {
            draft.leave(format!("host {name}"), "it was not reached, so nothing that is only on it was read");
        }
        let own: BTreeMap<&str, &str> = labels(node).filter(|(key, _)| is_users(key)).collect();
        let taints = taints(node);
        let usual: Vec<Taint> = release.objects.control_plane_taints.iter().map(|key| no_schedule(key)).collect();
        if node.pointer("/spec/unschedulable") == Some(&Value::Bool(true)) {
            draft.leave(format!("Node/{name}"), "it is cordoned; slipway leaves it so");
        }
        let Some(host) = draft.host(&name) else { continue };
        if !own.is_empty() {
            host["labels"] = json!(own);
        }
        let control_plane = host["roles"][0] == "control-plane";
        match (control_plane, taints.is_empty()) {
            (true, true) => host["roles"] = json!(["control-plane", "worker"]),
            (true, false) if taints.len() == usual.len() && taints.iter().all(|taint| usual.contains(taint)) => {}
            (false, true) => {}
            _ => host["taints"] = json!(taints),
        }
    }
    Ok(())
}

fn no_schedule(key: &str) -> Taint {
    Taint { key: key.to_owned(), value: String::new(), effect: Effect::NoSchedule }
}

/// Whether a label is a person's: not one that Kubernetes, its kubelets and kubeadm set by themselves.
fn is_users(key: &str) -> bool {
    let Some((domain, name)) = key.split_once('/') else { return true };
    let of_kubernetes = |suffix: &str| domain == suffix || domain.ends_with(&format!(".{suffix}"));
    match domain {
        "node-role.kubernetes.io" => !matches!(name, "control-plane" | "master"),
        _ => !of_kubernetes("kubernetes.io") && !of_kubernetes("k8s.io"),
    }
}

/// A Node's taints without those that come and go with its condition.
fn taints(node: &Value) -> Vec<Taint> {
    let taints = node.pointer("/spec/taints").and_then(Value::as_array).into_iter().flatten();
    let lasting = |taint: &&Value| {
        let key = taint["key"].as_str().unwrap_or_default();
        !key.starts_with("node.kubernetes.io/") && !key.starts_with("node.cloudprovider.kubernetes.io/")
    };
    let plain = |taint: &Value| {
        serde_json::from_value(json!({ "key": taint["key"], "value": taint["value"].as_str().unwrap_or_default(), "effect": taint["effect"] })).ok()
    };
    taints.filter(lasting).filter_map(plain).collect()
}
