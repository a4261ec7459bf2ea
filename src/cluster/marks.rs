//! Labels, taints and annotations of Nodes. A Node's taints are one list that several owners
//! write (Kubernetes itself taints nodes that are not ready), so it is read, changed and written
//! back under the version it was read at.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::api::storage::v1::CSINode;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::ClusterError;
use super::live::{FIELD_MANAGER, failed};
use crate::artifact::{Artifact, NodeMarks};
use crate::change::{Change, Reason};
use crate::meaning::socket;

/// How long a kubelet that has registered its Node may take to make its CSINode before the pod
/// networks are set all the same.
const PREPARED: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(100);

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
    let patch = patch(wanted, &node);
    if patch.pointer("/spec/podCIDR").is_some() {
        prepared(client, wanted.node.as_str()).await;
    }
    api.patch(wanted.node.as_str(), &PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() }, &Patch::Merge(patch))
        .await
        .map_err(|error| failed("mark", &id, &error))?;
    Ok(())
}

/// Waits until the kubelet has made its CSINode, its last preparation before the Node can be ready.
///
/// Kubelets of older releases (v1.20 does) report ready out of turn only once, when the pod
/// network appears; if something is missing then, the next report is 10 s later
/// (`nodeStatusUpdateFrequency`).
async fn prepared(client: &kube::Client, node: &str) {
    let api: Api<CSINode> = Api::all(client.clone());
    let deadline = Instant::now() + PREPARED;
    while !matches!(api.get_opt(node).await, Ok(Some(_))) && Instant::now() < deadline {
        sleep(POLL).await;
    }
}

/// What differs, as dotted paths.
pub(crate) fn differences(wanted: &NodeMarks, node: &Node) -> Vec<String> {
    let mut changed = Vec::new();
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let annotations = node.metadata.annotations.clone().unwrap_or_default();
    changed.extend(wanted.labels.iter().filter(|(key, value)| labels.get(*key) != Some(value)).map(|(key, _)| format!("labels.{key}")));
    changed.extend(wanted.absent_labels.iter().filter(|key| labels.contains_key(*key)).map(|key| format!("labels.{key}")));
    changed.extend(
        // A socket's path and its address are one socket (kubeadm's annotation has either).
        wanted.annotations.iter().filter(|(key, value)| annotations.get(*key).map(|found| socket(found)) != Some(socket(value)))
            .map(|(key, _)| format!("annotations.{key}")),
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

/// The found taints without those that shall go, and with the wanted ones in or over them.
fn merged_taints(wanted: &NodeMarks, found: &[Taint]) -> Vec<Taint> {
    let is_absent = |taint: &Taint| wanted.absent_taints.iter().any(|(key, effect)| taint.key == *key && taint.effect == format!("{effect:?}"));
    let mut taints: Vec<Taint> = found.iter().filter(|taint| !is_absent(taint)).cloned().collect();
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

/// The merge patch that sets them.
pub(crate) fn patch(wanted: &NodeMarks, node: &Node) -> Value {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{self, Effect};

    fn node(value: Value) -> Node {
        serde_json::from_value(value).unwrap()
    }

    fn wanted() -> NodeMarks {
        let taint = |key: &str, value: &str, effect| plan::Taint { key: key.into(), value: value.into(), effect };
        NodeMarks {
            node: "a".parse().unwrap(),
            labels: [("zone".to_owned(), "x".to_owned())].into(),
            absent_labels: vec!["old".into()],
            annotations: [("note".to_owned(), "1".to_owned())].into(),
            taints: vec![taint("dedicated", "db", Effect::NoSchedule)],
            absent_taints: vec![("former".into(), Effect::NoExecute)],
            pod_cidrs: vec!["10.244.0.0/24".parse().unwrap()],
        }
    }

    fn settled() -> Node {
        node(json!({
            "metadata": { "labels": { "zone": "x", "other": "y" }, "annotations": { "note": "1" }, "resourceVersion": "7" },
            "spec": { "podCIDR": "10.244.0.0/24", "taints": [
                { "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule", "timeAdded": "2026-01-01T00:00:00Z" },
                { "key": "dedicated", "value": "db", "effect": "NoSchedule" },
            ] },
        }))
    }

    #[test]
    fn a_node_as_wanted_has_no_differences_whatever_others_added() {
        assert_eq!(differences(&wanted(), &settled()), Vec::<String>::new());
        let bare = node(json!({ "metadata": {} }));
        assert_eq!(differences(&wanted(), &bare), ["labels.zone", "annotations.note", "taints", "podCIDRs"]);
    }

    #[test]
    fn each_difference_is_named() {
        let change = |pointer: &str, value: Value| {
            let mut found = serde_json::to_value(settled()).unwrap();
            *found.pointer_mut(pointer).unwrap() = value;
            differences(&wanted(), &node(found))
        };
        assert_eq!(change("/metadata/labels/zone", json!("y")), ["labels.zone"]);
        assert_eq!(change("/metadata/labels", json!({ "zone": "x", "old": "" })), ["labels.old"]);
        assert_eq!(change("/metadata/annotations/note", json!("2")), ["annotations.note"]);
        assert_eq!(change("/spec/taints/1/value", json!("cache")), ["taints"]);
        assert_eq!(change("/spec/taints/0", json!({ "key": "former", "effect": "NoExecute" })), ["taints"]);
        assert_eq!(change("/spec/taints/0", json!({ "key": "former", "effect": "NoSchedule" })), Vec::<String>::new());
        // Another effect is another taint.
        assert_eq!(change("/spec/taints/1/effect", json!("NoExecute")), ["taints"]);
        // A pod network can be set once only: another one is not a difference that can be mended.
        assert_eq!(change("/spec/podCIDR", json!("10.244.9.0/24")), Vec::<String>::new());
    }

    #[test]
    fn the_taints_of_others_are_written_back_as_they_were() {
        let mut found = serde_json::to_value(settled()).unwrap();
        *found.pointer_mut("/spec/taints/1/value").unwrap() = json!("cache");
        let patch = patch(&wanted(), &node(found));
        assert_eq!(
            patch["spec"]["taints"],
            json!([
                { "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule", "timeAdded": "2026-01-01T00:00:00Z" },
                { "key": "dedicated", "value": "db", "effect": "NoSchedule" },
            ])
        );
        // The write is refused if somebody else wrote meanwhile.
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(patch["metadata"]["labels"], json!({ "zone": "x", "old": null }));
    }

    #[test]
    fn what_is_as_wanted_is_left_out_of_the_patch() {
        assert_eq!(patch(&wanted(), &settled()).get("spec"), None);
        let new = patch(&wanted(), &node(json!({ "metadata": {} })));
        assert_eq!(new["spec"]["podCIDRs"], json!(["10.244.0.0/24"]));
        assert_eq!(new["spec"]["taints"], json!([{ "key": "dedicated", "value": "db", "effect": "NoSchedule" }]));
    }

    #[test]
    fn a_taint_without_value_has_none() {
        let mut wanted = wanted();
        wanted.taints[0].value.clear();
        assert_eq!(merged_taints(&wanted, &[])[0].value, None);
    }
}
