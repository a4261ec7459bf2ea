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
use crate::departed::{HOST_ANNOTATION, Nodes, OtherNode};
use crate::eviction::{Consent, Judgement};
use crate::names::{HostName, KubernetesVersion};
use crate::plan::{Host, Plan, Upgrade};
use crate::upgrade::turns::NodeSeen;

/// What an upgrade may evict.
#[must_use]
pub fn consent(upgrade: &Upgrade) -> Consent {
    Consent { local_data: upgrade.delete_empty_dir_data, unmanaged: upgrade.evict_unmanaged }
}

/// What the API says of all Nodes.
///
/// # Errors
/// The API does not answer.
pub async fn look(client: &kube::Client, plan: &Plan) -> Result<Nodes, ClusterError> {
    let api: Api<Node> = Api::all(client.clone());
    let nodes = api.list(&ListParams::default()).await.map_err(|error| failed("list", "Nodes", &error))?;
    let mut all = Nodes::default();
    let hosts: BTreeMap<&str, &Host> = plan.nodes().map(|host| (host.name.as_str(), host)).collect();
    for node in nodes.items {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        match hosts.get(name) {
            Some(host) => _ = all.of_plan.insert(host.name.clone(), seen(&node)),
            None => all.others.push(other(&node, name)),
        }
    }
    all.others.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(all)
}

/// A Node on no host of the plan.
fn other(node: &Node, name: &str) -> OtherNode {
    let mark = node.metadata.annotations.as_ref().and_then(|annotations| annotations.get(HOST_ANNOTATION)).cloned();
    OtherNode { name: name.to_owned(), mark, seen: seen(node) }
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
    let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready" && condition.status == "True");
    let reported = ready.and_then(|ready| Some(ready.last_heartbeat_time.as_ref()?.0.as_second()));
    NodeSeen { version, ready: ready.is_some(), reported, boot: boot_id(node), left_cordoned: mark(node).is_some(), objections: Vec::new() }
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
    consent: Consent,
    name: &HostName,
    version: KubernetesVersion,
    limit: Duration,
) -> Result<(), ClusterError> {
    let Some(node) = read(client, name).await? else { return Ok(()) };
    if !is_cordoned(&node) {
        let marked = json!({ CORDONED_ANNOTATION: version.to_string() });
        write(client, name, &json!({ "metadata": { "annotations": marked }, "spec": { "unschedulable": true } })).await?;
    }
    let judgement = drain::look(client, name, consent).await?;
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

/// What is missing until a Node runs as before a restart, a line each: it, and the pods that are on it.
/// With a boot id that it must not have any more, `ended` are containers that it ran with that one: a
/// kubelet that has just come back has not told of its pods yet, and what the API says of them is old.
///
/// # Errors
/// The API does not answer.
pub async fn back(
    client: &kube::Client,
    name: &HostName,
    boot: Option<&str>,
    ended: &BTreeSet<String>,
) -> Result<Vec<String>, ClusterError> {
    let Some(node) = read(client, name).await? else { return Ok(vec![format!("Node {name} is not registered")]) };
    let mut missing = Vec::new();
    if boot.is_some() && boot_id(&node).as_deref() == boot {
        let what = if seen(&node).ready {
            "still runs as it was started before: its machine has not restarted"
        } else {
            "is not ready and has told no other boot id: its machine has not come back from its restart"
        };
        return Ok(vec![format!("Node {name} {what}")]);
    }
    if !seen(&node).ready {
        missing.push(format!("Node {name} is not ready"));
    }
    missing.extend(drain::unready(client, name, ended).await?);
    Ok(missing)
}

fn boot_id(node: &Node) -> Option<String> {
    Some(node.status.as_ref()?.node_info.as_ref()?.boot_id.clone()).filter(|id| !id.is_empty())
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
                    { "type": "Ready", "status": "True", "lastHeartbeatTime": "1970-01-01T00:01:40Z" },
                ],
                "nodeInfo": {
                    "architecture": "", "bootID": "b", "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "",
                    "kubeletVersion": "v1.33.4", "machineID": "", "operatingSystem": "", "osImage": "", "systemUUID": "",
                },
            },
        }))
        .unwrap();
        let expected =
            NodeSeen { version: Some("v1.33.4".parse().unwrap()), ready: true, reported: Some(100), boot: Some("b".into()), left_cordoned: true, objections: Vec::new() };
        assert_eq!(seen(&node), expected);
        assert!(is_cordoned(&node));
        let bare: Node = serde_json::from_value(json!({ "metadata": { "name": "b" } })).unwrap();
        assert_eq!(seen(&bare), NodeSeen::default());
        assert!(!is_cordoned(&bare));
    }
}
