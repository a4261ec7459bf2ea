//! Nodes are cordoned, drained and given back: through the Eviction API, so that
//! PodDisruptionBudgets are kept whoever asks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::ClusterError;
use super::live::{FIELD_MANAGER, ask_with, failed};
use crate::artifact::maintenance::CORDONED_ANNOTATION;
use crate::eviction::{Consent, Judgement, PodName, judge};
use crate::names::{HostName, KubernetesVersion};

/// How often pods that are leaving are looked at, and evictions that a budget refused tried again.
const POLL: Duration = Duration::from_secs(1);

/// Marks a Node as not to be given new pods, or takes that mark away. Safe to repeat.
///
/// # Errors
/// There is no such Node, or the API does not answer.
pub async fn cordon(client: &kube::Client, node: &HostName, cordoned: bool) -> Result<(), ClusterError> {
    let api: Api<Node> = Api::all(client.clone());
    let id = format!("Node/{node}");
    let value = if cordoned { json!(true) } else { json!(null) };
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    // Whoever asks for this decides: what an upgrade did before is forgotten with its mark.
    let unmarked = json!({ CORDONED_ANNOTATION: null });
    let patch = Patch::Merge(json!({ "metadata": { "annotations": unmarked }, "spec": { "unschedulable": value } }));
    api.patch(node.as_str(), &parameters, &patch).await.map_err(|error| failed("mark", &id, &error))?;
    Ok(())
}

/// What would become of the pods of a Node. Writes nothing.
///
/// # Errors
/// The API does not answer.
pub async fn look(client: &kube::Client, node: &HostName, consent: Consent) -> Result<Judgement, ClusterError> {
    Ok(judge(&pods(client, node).await?, consent))
}

/// Pods on a Node that shall run and are not ready, a line each. A pod that is leaving is not waited for.
///
/// # Errors
/// The API does not answer.
pub async fn unready(client: &kube::Client, node: &HostName) -> Result<Vec<String>, ClusterError> {
    let pods = pods(client, node).await?;
    Ok(pods.iter().filter(|pod| is_unready(pod)).map(|pod| format!("pod {} is not ready", name(pod))).collect())
}

fn name(pod: &Pod) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    format!("{}/{}", text(&pod.metadata.namespace), text(&pod.metadata.name))
}

fn is_unready(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let ready = conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed")) && !ready
}

async fn pods(client: &kube::Client, node: &HostName) -> Result<Vec<Pod>, ClusterError> {
    let api: Api<Pod> = Api::all(client.clone());
    let parameters = ListParams::default().fields(&format!("spec.nodeName={node}"));
    Ok(api.list(&parameters).await.map_err(|error| failed("list", &format!("the pods of Node/{node}"), &error))?.items)
}

/// Evicts these pods and waits until they are gone. `told` hears what is going on, a line at a time,
/// and nothing twice in a row.
///
/// # Errors
/// The API refuses, or pods are still there after `limit`; the error names them with what kept them.
pub async fn evict(
    client: &kube::Client,
    version: KubernetesVersion,
    node: &HostName,
    pods: &[PodName],
    limit: Duration,
    mut told: impl FnMut(&str),
) -> Result<(), ClusterError> {
    let deadline = Instant::now() + limit;
    let mut remaining: BTreeSet<PodName> = pods.iter().cloned().collect();
    let mut asked: BTreeSet<PodName> = BTreeSet::new();
    let mut kept: BTreeMap<PodName, String> = BTreeMap::new();
    loop {
        for pod in &remaining {
            if asked.contains(pod) {
                continue;
            }
            match ask_to_leave(client, version, pod).await? {
                None => {
                    kept.remove(pod);
                    asked.insert(pod.clone());
                }
                Some(reason) => {
                    if kept.insert(pod.clone(), reason.clone()).as_ref() != Some(&reason) {
                        told(&format!("{node}: {pod} stays for now: {reason}"));
                    }
                }
            }
        }
        let there: BTreeSet<String> = self::pods(client, node).await?.into_iter().filter_map(|pod| pod.metadata.uid).collect();
        let gone: Vec<PodName> = remaining.iter().filter(|pod| !there.contains(&pod.uid)).cloned().collect();
        for pod in gone {
            told(&format!("{node}: {pod} is gone"));
            kept.remove(&pod);
            remaining.remove(&pod);
        }
        if remaining.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(still_there(node, &remaining, &kept, limit));
        }
        sleep(POLL).await;
    }
}

fn still_there(node: &HostName, remaining: &BTreeSet<PodName>, kept: &BTreeMap<PodName, String>, limit: Duration) -> ClusterError {
    let lines: Vec<String> = remaining
        .iter()
        .map(|pod| format!("{pod}: {}", kept.get(pod).map_or("was asked to leave and has not ended", String::as_str)))
        .collect();
    ClusterError {
        detail: Some(lines.join("\n")),
        hint: Some(format!("the Node stays cordoned; drain it again when the cause is mended, or `slipway node uncordon PLAN {node}`")),
        ..ClusterError::plain(format!("{} pods are still on Node {node} after {} s", remaining.len(), limit.as_secs()))
    }
}

/// Asks a pod to leave. The text says why it may not now.
async fn ask_to_leave(client: &kube::Client, version: KubernetesVersion, pod: &PodName) -> Result<Option<String>, ClusterError> {
    // policy/v1 has the kind since v1.22 (Kubernetes' deprecation guide, "Eviction"); v1beta1 before.
    let group = if (version.major, version.minor) >= (1, 22) { "policy/v1" } else { "policy/v1beta1" };
    let body = json!({
        "apiVersion": group,
        "kind": "Eviction",
        "metadata": { "namespace": pod.namespace, "name": pod.name },
        // Not a later pod of the same name.
        "deleteOptions": { "preconditions": { "uid": pod.uid } },
    });
    let path = format!("/api/v1/namespaces/{}/pods/{}/eviction", pod.namespace, pod.name);
    let request = http::Request::post(path)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body.to_string().into_bytes())
        .map_err(|error| ClusterError::plain(format!("cannot evict {pod}: {error}")))?;
    match ask_with(client, request).await {
        Ok(_) => Ok(None),
        // Gone already, or another pod of that name by now.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
        // A budget is exhausted (429), or two budgets cover the pod (500); both may pass.
        Err(kube::Error::Api(status)) if matches!(status.code, 429 | 500) => Ok(Some(status.message.clone())),
        Err(error) => Err(failed("evict", &pod.to_string(), &error)),
    }
}
