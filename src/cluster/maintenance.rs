//! A Node around an upgrade of its kubelet, or another change that it cannot take with its pods: what is seen of it before, and how it is emptied and
//! given back. The mark that slipway cordoned it is written and taken away in one request with the
//! cordon itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::live::{FIELD_MANAGER, failed};
use super::{ClusterError, drain};
use crate::artifact::maintenance::CORDONED_ANNOTATION;
use crate::eviction::{Consent, Judgement};
use crate::names::{HostName, KubernetesVersion};
use crate::plan::{Plan, Upgrade};
use crate::upgrade::turns::NodeSeen;

/// What an upgrade may evict.
#[must_use]
pub fn consent(upgrade: &Upgrade) -> Consent {
    Consent { local_data: upgrade.delete_empty_dir_data, unmanaged: upgrade.evict_unmanaged }
}

/// What the API says of the plan's Nodes.
///
/// # Errors
/// The API does not answer.
pub async fn look(client: &kube::Client, plan: &Plan) -> Result<BTreeMap<HostName, NodeSeen>, ClusterError> {
    let api: Api<Node> = Api::all(client.clone());
    let nodes = api.list(&ListParams::default()).await.map_err(|error| failed("list", "Nodes", &error))?;
    let mut all = BTreeMap::new();
    for node in nodes.items {
        let Some(host) = plan.nodes().find(|host| Some(host.name.as_str()) == node.metadata.name.as_deref()) else { continue };
        all.insert(host.name.clone(), seen(&node));
    }
    Ok(all)
}

/// Which pods of these Nodes may not be evicted, each with the reason.
///
/// # Errors
/// The API does not answer.
pub async fn look_at_pods(client: &kube::Client, upgrade: &Upgrade, nodes: &BTreeSet<HostName>) -> Result<BTreeMap<HostName, Vec<String>>, ClusterError> {
    let mut all = BTreeMap::new();
    for node in nodes {
        all.insert(node.clone(), objections(&drain::look(client, node, consent(upgrade)).await?));
    }
    Ok(all)
}

/// Which pods keep a Node from being emptied, each with the reason.
#[must_use]
pub fn objections(judgement: &Judgement) -> Vec<String> {
    judgement.objections.iter().map(|(pod, objection)| format!("pod {pod} {}", objection.reason())).collect()
}

/// What a Node says of itself.
#[must_use]
pub fn seen(node: &Node) -> NodeSeen {
    let status = node.status.as_ref();
    let version = status.and_then(|status| status.node_info.as_ref()).and_then(|node| node.kubelet_version.parse().ok());
    let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let ready = conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    NodeSeen { version, ready, left_cordoned: mark(node).is_some(), objections: Vec::new() }
}

fn mark(node: &Node) -> Option<&String> {
    node.metadata.annotations.as_ref()?.get(CORDONED_ANNOTATION)
}

fn is_cordoned(node: &Node) -> bool {
    node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or_default()
}

/// Cordons a Node and moves its pods away. One that is gone is as good as empty.
///
/// # Errors
/// The API refuses, or pods are still there after `limit`; the error names them.
pub async fn empty(
    client: &kube::Client,
    upgrade: &Upgrade,
    name: &HostName,
    version: KubernetesVersion,
    limit: Duration,
) -> Result<(), ClusterError> {
    let Some(node) = read(client, name).await? else { return Ok(()) };
    if !is_cordoned(&node) {
        let marked = json!({ CORDONED_ANNOTATION: version.to_string() });
        write(client, name, &json!({ "metadata": { "annotations": marked }, "spec": { "unschedulable": true } })).await?;
    }
    let judgement = drain::look(client, name, consent(upgrade)).await?;
    let objections = objections(&judgement);
    if !objections.is_empty() {
        return Err(ClusterError {
            detail: Some(objections.join("\n")),
            hint: Some(REMEDY.to_owned()),
            permanent: true,
            ..ClusterError::plain(format!("pods on Node {name} may not be evicted"))
        });
    }
    let evicted = drain::evict(client, version, name, &judgement.leaving, limit, |_| {}).await;
    evicted.map_err(|error| ClusterError {
        hint: Some("the Node stays cordoned; run the same command again when the cause is mended, and it goes on here".into()),
        ..error
    })
}

/// What to do about pods that may not be evicted.
pub const REMEDY: &str = "move these pods away, or consent with `upgrade.deleteEmptyDirData` and `upgrade.evictUnmanaged`, or turn \
     draining off with `upgrade.drain: never`";

/// A Node takes pods again if slipway cordoned it. One that its operator cordoned stays as it is.
///
/// # Errors
/// The API does not answer or refuses.
pub async fn give_back(client: &kube::Client, name: &HostName) -> Result<(), ClusterError> {
    let Some(node) = read(client, name).await? else { return Ok(()) };
    if mark(&node).is_none() {
        return Ok(());
    }
    write(client, name, &json!({ "metadata": { "annotations": { CORDONED_ANNOTATION: null } }, "spec": { "unschedulable": null } })).await
}

async fn read(client: &kube::Client, name: &HostName) -> Result<Option<Node>, ClusterError> {
    let api: Api<Node> = Api::all(client.clone());
    api.get_opt(name.as_str()).await.map_err(|error| failed("read", &format!("Node/{name}"), &error))
}

async fn write(client: &kube::Client, name: &HostName, patch: &Value) -> Result<(), ClusterError> {
    let api: Api<Node> = Api::all(client.clone());
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    api.patch(name.as_str(), &parameters, &Patch::Merge(patch)).await.map_err(|error| failed("mark", &format!("Node/{name}"), &error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_read_whole_or_in_parts() {
        let node: Node = serde_json::from_value(json!({
            "metadata": { "name": "a", "annotations": { CORDONED_ANNOTATION: "v1.34.2" } },
            "spec": { "unschedulable": true },
            "status": {
                "conditions": [
                    { "type": "MemoryPressure", "status": "False" },
                    { "type": "Ready", "status": "True" },
                ],
                "nodeInfo": {
                    "architecture": "", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "",
                    "kubeletVersion": "v1.33.4", "machineID": "", "operatingSystem": "", "osImage": "", "systemUUID": "",
                },
            },
        }))
        .unwrap();
        let expected =
            NodeSeen { version: Some("v1.33.4".parse().unwrap()), ready: true, left_cordoned: true, objections: Vec::new() };
        assert_eq!(seen(&node), expected);
        assert!(is_cordoned(&node));
        let bare: Node = serde_json::from_value(json!({ "metadata": { "name": "b" } })).unwrap();
        assert_eq!(seen(&bare), NodeSeen::default());
        assert!(!is_cordoned(&bare));
    }
}
