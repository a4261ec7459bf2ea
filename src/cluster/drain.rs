//! Nodes are cordoned, drained and given back: through the Eviction API, so that
//! PodDisruptionBudgets are kept whoever asks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Node, Pod};
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
/// `ended` are containers that cannot run any more: whoever still tells of one tells what was.
///
/// # Errors
/// The API does not answer.
pub async fn unready(client: &kube::Client, node: &HostName, ended: &BTreeSet<String>) -> Result<Vec<String>, ClusterError> {
    Ok(pods(client, node).await?.iter().filter_map(|pod| lack(pod, ended)).collect())
}

/// What is missing until a pod runs as it shall.
fn lack(pod: &Pod, ended: &BTreeSet<String>) -> Option<String> {
    let reason = if is_unready(pod) {
        "is not ready"
    } else if pod.metadata.deletion_timestamp.is_none() && running(pod).any(|container| ended.contains(container)) {
        "has not been started again"
    } else {
        return None;
    };
    Some(format!("pod {} {reason}", name(pod)))
}

/// The ids of the containers that run on a Node, as its kubelet told last.
///
/// # Errors
/// The API does not answer.
pub async fn containers(client: &kube::Client, node: &HostName) -> Result<BTreeSet<String>, ClusterError> {
    Ok(pods(client, node).await?.iter().flat_map(running).map(str::to_owned).collect())
}

fn running(pod: &Pod) -> impl Iterator<Item = &str> {
    let all = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref()).into_iter().flatten();
    let runs = |status: &&ContainerStatus| status.state.as_ref().is_some_and(|state| state.running.is_some());
    all.filter(runs).filter_map(|status| status.container_id.as_deref())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(ready: &str, state: &str, deleted: bool) -> Pod {
        let mut pod = json!({
            "metadata": { "namespace": "a", "name": "b" },
            "status": {
                "phase": "Running",
                "conditions": [{ "type": "Ready", "status": ready }],
                "containerStatuses": [{
                    "name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                    "containerID": "containerd://1", "state": { state: {} },
                }],
            },
        });
        if deleted {
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        if state == "terminated" {
            pod["status"]["containerStatuses"][0]["state"] = json!({ "terminated": { "exitCode": 0 } });
        }
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn a_pod_that_is_told_to_be_ready_with_a_container_of_before_has_not_come_back() {
        let (none, ended) = (BTreeSet::new(), BTreeSet::from(["containerd://1".to_owned()]));
        assert_eq!(lack(&pod("True", "running", false), &none), None);
        assert_eq!(lack(&pod("True", "running", false), &ended).unwrap(), "pod a/b has not been started again");
        assert_eq!(lack(&pod("False", "running", false), &ended).unwrap(), "pod a/b is not ready");
        // Another one runs, or it leaves.
        assert_eq!(lack(&pod("True", "running", false), &BTreeSet::from(["containerd://2".to_owned()])), None);
        assert_eq!(lack(&pod("True", "terminated", false), &ended), None);
        assert_eq!(lack(&pod("False", "running", true), &ended), None);
    }
}
