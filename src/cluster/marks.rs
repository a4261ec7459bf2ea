//! Labels, taints and annotations of Nodes. A Node's taints are one list that several owners
//! write (Kubernetes itself taints nodes that are not ready), so it is read, changed and written
//! back under the version it was read at.

use k8s_openapi::api::core::v1::{Node, Taint};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::ClusterError;
use super::live::{FIELD_MANAGER, failed};
use crate::artifact::{Artifact, NodeMarks};
use crate::change::{Change, Reason};

/// What is to be done about a Node's marks.
///
/// # Errors
/// The API does not answer.
pub async fn change(client: &kube::Client, wanted: NodeMarks) -> Result<Option<Change>, ClusterError> {
    let api: Api<Node> = Api::all(client.clone());
    let found = api.get_opt(wanted.node.as_str()).await.map_err(|error| failed("read", "the Node", &error))?;
    let reason = match found {
        None => Reason::Missing,
        Some(node) => {
            let changed = differences(&wanted, &node);
            if changed.is_empty() {
                return Ok(None);
            }
            Reason::Fields { changed, drift: false }
        }
    };
    Ok(Some(Change { artifact: Artifact::NodeMarks(wanted), reason, before: None }))
}

/// Sets a Node's marks.
///
/// # Errors
/// The Node is not registered yet, somebody else changed it meanwhile (ask again), or the API refuses.
pub async fn apply(client: &kube::Client, wanted: &NodeMarks) -> Result<(), ClusterError> {
    let api: Api<Node> = Api::all(client.clone());
    let id = format!("Node/{}", wanted.node);
    let node = api.get(wanted.node.as_str()).await.map_err(|error| failed("read", &id, &error))?;
    if differences(wanted, &node).is_empty() {
        return Ok(());
    }
    api.patch(wanted.node.as_str(), &PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() }, &Patch::Merge(patch(wanted, &node)))
        .await
        .map_err(|error| failed("mark", &id, &error))?;
    Ok(())
}

/// What differs, as dotted paths.
fn differences(wanted: &NodeMarks, node: &Node) -> Vec<String> {
    let mut changed = Vec::new();
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let annotations = node.metadata.annotations.clone().unwrap_or_default();
    changed.extend(wanted.labels.iter().filter(|(key, value)| labels.get(*key) != Some(value)).map(|(key, _)| format!("labels.{key}")));
    changed.extend(wanted.absent_labels.iter().filter(|key| labels.contains_key(*key)).map(|key| format!("labels.{key}")));
    changed.extend(
        wanted.annotations.iter().filter(|(key, value)| annotations.get(*key) != Some(value)).map(|(key, _)| format!("annotations.{key}")),
    );
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    if merged_taints(wanted, &taints) != taints {
        changed.push("taints".into());
    }
    if !wanted.pod_cidrs.is_empty() && node.spec.as_ref().and_then(|spec| spec.pod_cidr.as_ref()).is_none() {
        changed.push("podCIDRs".into());
    }
    changed
}

/// The found taints with the wanted ones in or over them.
fn merged_taints(wanted: &NodeMarks, found: &[Taint]) -> Vec<Taint> {
    let mut taints = found.to_vec();
    for want in &wanted.taints {
        let effect = format!("{:?}", want.effect);
        let value = (!want.value.is_empty()).then(|| want.value.clone());
        match taints.iter_mut().find(|taint| taint.key == want.key && taint.effect == effect) {
            Some(taint) => taint.value = value,
            None => taints.push(Taint { key: want.key.clone(), value, effect, time_added: None }),
        }
    }
    taints
}

fn patch(wanted: &NodeMarks, node: &Node) -> Value {
    let mut labels: serde_json::Map<String, Value> =
        wanted.labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    labels.extend(wanted.absent_labels.iter().map(|key| (key.clone(), Value::Null)));
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let mut patch = json!({
        "metadata": {
            "resourceVersion": node.metadata.resource_version,
            "labels": labels,
            "annotations": wanted.annotations,
        },
    });
    let merged = merged_taints(wanted, &taints);
    if merged != taints {
        patch["spec"]["taints"] = json!(merged);
    }
    let unset = node.spec.as_ref().and_then(|spec| spec.pod_cidr.as_ref()).is_none();
    if unset && let Some(first) = wanted.pod_cidrs.first() {
        patch["spec"]["podCIDR"] = json!(first.to_string());
        patch["spec"]["podCIDRs"] = json!(wanted.pod_cidrs.iter().map(ToString::to_string).collect::<Vec<_>>());
    }
    patch
}
