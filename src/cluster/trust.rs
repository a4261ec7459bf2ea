//! What the cluster publishes of its CA, and who still holds a token of an old service-account key.
//! Asked while a CA or that key is replaced (`trust::rotation`): the files on the hosts tell where
//! the walk stands, this tells whether what reads them has followed.
//!
//! Nothing here deletes anything. Tokens in Secrets are replaced by new Secrets beside the old ones,
//! because the API server refuses a token that is no longer the one in its Secret.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::ClusterError;
use super::live::{ask, ask_with};
use super::wire::describe;
use crate::names::Digest;
use crate::trust::inspect::{self, Certificate};

/// The annotation of a pod template that makes its workload roll when what it trusts was replaced.
pub const TRUST_ANNOTATION: &str = "slipway.dev/trusts";
/// How long a kubelet and a client may take to notice a renewed token in a volume: the kubelet looks
/// once in a minute, clients of Kubernetes' own library read the file again after a minute.
const NOTICED: SignedDuration = SignedDuration::from_mins(3);

/// How long a controller manager may take from its start until every namespace has its CA: a lease of
/// another one that is gone runs out after 15 s.
const PUBLISHED: SignedDuration = SignedDuration::from_secs(60);

/// Reads a list from the API.
async fn list(client: &kube::Client, path: &str) -> Result<Vec<Value>, String> {
    let text = ask(client, path).await?;
    let list: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// `namespace/name` of an object.
fn named(object: &Value) -> String {
    format!("{}/{}", text(object, "/metadata/namespace"), text(object, "/metadata/name"))
}

fn holds(pem: &str, wanted: &BTreeSet<Digest>) -> bool {
    let found = inspect::certificates(pem.as_bytes()).unwrap_or_default();
    found.iter().map(Certificate::fingerprint).collect::<BTreeSet<_>>() == *wanted
}

fn secret_text(secret: &Value, key: &str) -> Option<String> {
    let bytes = STANDARD.decode(secret["data"][key].as_str()?).ok()?;
    String::from_utf8(bytes).ok()
}

/// Whether every namespace's `kube-root-ca.crt` and every token Secret holds exactly these CAs.
///
/// # Errors
/// What is not so yet.
pub async fn is_published(client: &kube::Client, wanted: &BTreeSet<Digest>) -> Result<(), String> {
    let namespaces = list(client, "/api/v1/namespaces").await?;
    let maps = list(client, "/api/v1/configmaps?fieldSelector=metadata.name%3Dkube-root-ca.crt").await?;
    let mut behind: Vec<String> = Vec::new();
    for namespace in namespaces.iter().filter(|namespace| text(namespace, "/status/phase") != "Terminating") {
        let name = text(namespace, "/metadata/name");
        let map = maps.iter().find(|map| text(map, "/metadata/namespace") == name);
        if !map.is_some_and(|map| holds(map["data"]["ca.crt"].as_str().unwrap_or_default(), wanted)) {
            behind.push(format!("ConfigMap {name}/kube-root-ca.crt"));
        }
    }
    for secret in token_secrets(client).await? {
        if !secret_text(&secret, "ca.crt").is_some_and(|pem| holds(&pem, wanted)) {
            behind.push(format!("Secret {}", named(&secret)));
        }
    }
    match behind.first() {
        None => Ok(()),
        Some(first) => Err(format!("{} of {} do not hold the CAs yet, such as {first}", behind.len(), namespaces.len())),
    }
}

async fn token_secrets(client: &kube::Client) -> Result<Vec<Value>, String> {
    list(client, "/api/v1/secrets?fieldSelector=type%3Dkubernetes.io%2Fservice-account-token").await
}

/// The key id in the head of a token (`kid`), which is made of the public key that verifies it.
fn key_id_of(token: &str) -> Option<String> {
    let head = URL_SAFE_NO_PAD.decode(token.split('.').next()?).ok()?;
    let head: Value = serde_json::from_slice(&head).ok()?;
    Some(head["kid"].as_str()?.to_owned())
}

/// The key id of tokens that this key verifies: the base64 of SHA-256 over its DER, as Kubernetes
/// makes it.
#[must_use]
pub fn key_id(digest: Digest) -> String {
    let text = digest.to_string();
    let bytes: Vec<u8> =
        (0..text.len() / 2).filter_map(|index| u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()).collect();
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The token Secrets whose token another key signed, by `namespace/name`.
fn stale<'a>(secrets: &'a [Value], key_id: &str) -> BTreeMap<String, &'a Value> {
    let is_stale = |secret: &&Value| secret_text(secret, "token").is_none_or(|token| key_id_of(&token).as_deref() != Some(key_id));
    secrets.iter().filter(is_stale).map(|secret| (named(secret), secret)).collect()
}

/// The token Secrets whose token another key signed.
///
/// # Errors
/// No API server answers.
pub async fn stale_secrets(client: &kube::Client, key_id: &str) -> Result<Vec<String>, String> {
    let secrets = token_secrets(client).await?;
    Ok(stale(&secrets, key_id).into_keys().collect())
}

/// Makes a Secret with a token of the new key for every service account that has one of an old key,
/// and lets new pods use it. Safe to repeat.
///
/// # Errors
/// What is not so yet.
pub async fn renew_token_secrets(client: &kube::Client, key_id: &str) -> Result<(), String> {
    let secrets = token_secrets(client).await?;
    let stale = stale(&secrets, key_id);
    let suffix: String = Digest::of(key_id).to_string().chars().take(5).collect();
    let mut waiting = 0_usize;
    for account in list(client, "/api/v1/serviceaccounts").await? {
        let (namespace, name) = (text(&account, "/metadata/namespace"), text(&account, "/metadata/name"));
        let references = account["secrets"].as_array().cloned().unwrap_or_default();
        let Some(first) = references.iter().map(|reference| text(reference, "/name")).find(|secret| {
            secrets.iter().any(|found| text(found, "/metadata/namespace") == namespace && text(found, "/metadata/name") == *secret)
        }) else {
            continue;
        };
        if !stale.contains_key(&format!("{namespace}/{first}")) {
            continue;
        }
        let renewed = format!("{name}-token-{suffix}");
        let full = format!("{namespace}/{renewed}");
        match secrets.iter().find(|secret| named(secret) == full) {
            None => {
                let secret = json!({
                    "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
                    "metadata": { "name": renewed, "annotations": { "kubernetes.io/service-account.name": name } },
                });
                send(client, "POST", &format!("/api/v1/namespaces/{namespace}/secrets"), "application/json", &secret).await?;
                waiting += 1;
            }
            // The controller manager has not filled it yet.
            Some(secret) if secret_text(secret, "token").is_none() => waiting += 1,
            Some(_) if stale.contains_key(&full) => return Err(format!("Secret {full} has a token of another key")),
            Some(_) => {
                // Admission takes the first token Secret that the account refers to.
                let others = references.into_iter().filter(|reference| text(reference, "/name") != renewed);
                let secrets: Vec<Value> = std::iter::once(json!({ "name": renewed })).chain(others).collect();
                let patch = json!({ "secrets": secrets, "metadata": { "resourceVersion": account["metadata"]["resourceVersion"] } });
                let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}");
                send(client, "PATCH", &path, "application/merge-patch+json", &patch).await?;
            }
        }
    }
    if waiting == 0 { Ok(()) } else { Err(format!("{waiting} service accounts wait for a Secret with a token of the new key")) }
}

async fn send(client: &kube::Client, method: &str, path: &str, media: &str, body: &Value) -> Result<(), String> {
    let request = http::Request::builder().method(method).uri(path).header("content-type", media);
    let request = request.body(body.to_string().into_bytes()).map_err(|error| error.to_string())?;
    match ask_with(client, request).await {
        // Another run made it.
        Err(kube::Error::Api(status)) if status.code == 409 && method == "POST" => Ok(()),
        answer => answer.map(drop).map_err(|error| format!("{method} {path}: {}", describe(&error))),
    }
}

/// Rolls a workload, unless it was rolled for that reason before.
///
/// # Errors
/// The API refuses or does not answer.
pub async fn roll(client: &kube::Client, kind: &str, namespace: &str, name: &str, reason: &str) -> Result<(), ClusterError> {
    let path = format!("/apis/apps/v1/namespaces/{namespace}/{}s/{name}", kind.to_lowercase());
    let found = ask(client, &path).await.map_err(ClusterError::plain)?;
    let found: Value = serde_json::from_str(&found).map_err(|error| ClusterError::plain(error.to_string()))?;
    if found["spec"]["template"]["metadata"]["annotations"][TRUST_ANNOTATION] == reason {
        return Ok(());
    }
    let patch = json!({ "spec": { "template": { "metadata": { "annotations": { TRUST_ANNOTATION: reason } } } } });
    send(client, "PATCH", &path, "application/merge-patch+json", &patch).await.map_err(ClusterError::plain)
}

/// Who must be restarted by people, and how long to wait for what renews itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holders {
    /// Workloads whose pods keep what is old until they are restarted.
    pub restart: BTreeSet<String>,
    /// How many pods are about to end, or slipway has rolled them: they need only a moment.
    pub leaving: usize,
    /// Until when pods may hold tokens that kubelets renew by themselves.
    pub until: Option<Timestamp>,
}

/// Workloads of users with pods that read the cluster's CA when they started, and began before their
/// namespace's copy of it was what it is now: a program that reads the file once trusts what was in
/// it then.
///
/// A controller manager reads the file it publishes when it starts, so a copy is no younger than the
/// last start of one and the time it takes to lead and to publish. The object itself does not tell:
/// API servers before v1.22 leave the time of a managed field alone when only its value changes.
///
/// # Errors
/// No API server answers.
pub async fn readers_of_old(client: &kube::Client) -> Result<BTreeSet<String>, String> {
    Ok(readers(&list(client, "/api/v1/pods").await?))
}

fn readers(pods: &[Value]) -> BTreeSet<String> {
    let published = last_start(pods, "kube-controller-manager").map(|start| start + PUBLISHED);
    let is_old = |pod: &&Value| match (started(pod), published) {
        (Some(started), Some(published)) => started <= published,
        // Who cannot be judged is named.
        _ => true,
    };
    pods.iter().filter(|pod| mounts_account(pod) && !is_own(pod)).filter(is_old).map(owner).collect()
}

/// When a container of that component of the control plane was started last.
fn last_start(pods: &[Value], component: &str) -> Option<Timestamp> {
    let of_component = pods.iter().filter(|pod| text(pod, "/metadata/labels/component") == component);
    of_component
        .flat_map(|pod| pod.pointer("/status/containerStatuses").and_then(Value::as_array).into_iter().flatten())
        .filter_map(|status| text(status, "/state/running/startedAt").parse::<Timestamp>().ok())
        .max()
}

/// Who still holds tokens of another key.
///
/// # Errors
/// No API server answers.
pub async fn token_holders(client: &kube::Client, key_id: &str, now: Timestamp) -> Result<Holders, String> {
    let secrets = token_secrets(client).await?;
    let pods = list(client, "/api/v1/pods").await?;
    Ok(holders(&pods, &stale(&secrets, key_id).into_keys().collect(), now))
}

fn holders(pods: &[Value], stale: &BTreeSet<String>, now: Timestamp) -> Holders {
    // An API server signs with the new key since it started; one that restarted later only makes us wait longer.
    let signing_since = last_start(pods, "kube-apiserver").unwrap_or(now);
    let mut found = Holders::default();
    for pod in pods.iter().filter(|pod| !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")) {
        for volume in pod.pointer("/spec/volumes").and_then(Value::as_array).into_iter().flatten() {
            let secret = text(volume, "/secret/secretName");
            if stale.contains(&format!("{}/{secret}", text(pod, "/metadata/namespace"))) {
                if is_own(pod) || !text(pod, "/metadata/deletionTimestamp").is_empty() {
                    found.leaving += 1;
                } else {
                    found.restart.insert(owner(pod));
                }
            }
            for source in volume.pointer("/projected/sources").and_then(Value::as_array).into_iter().flatten() {
                let Some(token) = source.get("serviceAccountToken") else { continue };
                if started(pod).is_some_and(|started| started > signing_since) {
                    continue;
                }
                // The kubelet asks for a new one after 80 % of its life, or after a day.
                let life = token["expirationSeconds"].as_i64().unwrap_or(3600).clamp(600, 108_000);
                let until = signing_since + SignedDuration::from_secs(life * 8 / 10) + NOTICED;
                if until > now {
                    found.until = found.until.max(Some(until));
                }
            }
        }
    }
    found
}

fn started(pod: &Value) -> Option<Timestamp> {
    text(pod, "/status/startTime").parse().ok()
}

/// Whether a pod has the cluster's CA in a volume, as every pod with a service account's token does.
fn mounts_account(pod: &Value) -> bool {
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array).into_iter().flatten();
    let mut mounts = containers.flat_map(|container| container["volumeMounts"].as_array().into_iter().flatten());
    mounts.any(|mount| text(mount, "/mountPath") == "/var/run/secrets/kubernetes.io/serviceaccount")
        && !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
}

/// Whether slipway made the pod's workload, and rolls it by itself.
fn is_own(pod: &Value) -> bool {
    let own = ["kube-proxy", "coredns", "kube-flannel-ds"];
    matches!(text(pod, "/metadata/namespace"), "kube-system" | "kube-flannel") && own.iter().any(|name| owner(pod).ends_with(&format!("/{name}")))
}

/// Who owns a pod, as people name it: `Deployment namespace/name`.
fn owner(pod: &Value) -> String {
    let namespace = text(pod, "/metadata/namespace");
    let reference = &pod["metadata"]["ownerReferences"][0];
    let (kind, name) = (text(reference, "/kind"), text(reference, "/name"));
    match kind {
        "" => format!("Pod {}", named(pod)),
        // The owner of a ReplicaSet is nearly always a Deployment, which adds its hash to the name.
        "ReplicaSet" => match name.rsplit_once('-') {
            Some((deployment, hash)) if pod["metadata"]["labels"]["pod-template-hash"] == hash => {
                format!("Deployment {namespace}/{deployment}")
            }
            _ => format!("ReplicaSet {namespace}/{name}"),
        },
        kind => format!("{kind} {namespace}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn token(kid: &str) -> String {
        STANDARD.encode(format!("{}.e30.x", URL_SAFE_NO_PAD.encode(json!({ "alg": "RS256", "kid": kid }).to_string())))
    }

    fn pod(name: &str, started: &str, volume: &Value) -> Value {
        json!({
            "metadata": { "namespace": "shop", "name": name, "labels": { "pod-template-hash": "abc" },
                "ownerReferences": [{ "kind": "ReplicaSet", "name": "web-abc" }] },
            "spec": { "volumes": [volume], "containers": [{ "volumeMounts": [
                { "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount" }] }] },
            "status": { "phase": "Running", "startTime": started },
        })
    }

    fn api_server(started: &str) -> Value {
        component("kube-apiserver", started)
    }

    fn component(name: &str, started: &str) -> Value {
        json!({ "metadata": { "namespace": "kube-system", "name": "a", "labels": { "component": name } },
            "status": { "containerStatuses": [{ "state": { "running": { "startedAt": started } } }] } })
    }

    #[test]
    fn tokens_are_told_apart_by_the_key_that_signed_them() {
        let secret = |name: &str, token: String| json!({ "metadata": { "namespace": "n", "name": name }, "data": { "token": token } });
        let secrets = [secret("old", token("one")), secret("new", token("two")), json!({ "metadata": { "namespace": "n", "name": "empty" } })];
        assert_eq!(stale(&secrets, "two").into_keys().collect::<Vec<_>>(), ["n/empty", "n/old"]);
    }

    /// Checked against `openssl dgst -sha256 -binary | basenc --base64url` over no bytes.
    #[test]
    fn a_key_id_is_kubernetes_own() {
        assert_eq!(key_id(Digest::of("")), "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU");
    }

    #[test]
    fn pods_with_secrets_are_restarted_and_projected_tokens_are_waited_for() {
        let projected = json!({ "projected": { "sources": [{ "serviceAccountToken": { "expirationSeconds": 3607 } }] } });
        let secret = json!({ "secret": { "secretName": "old" } });
        let signing = "2026-01-01T12:00:00Z";
        let found = |pods: &[Value], now: &str| holders(pods, &["shop/old".to_owned()].into(), at(now));
        let pods = [api_server(signing), pod("a", "2026-01-01T11:00:00Z", &projected)];
        // 80 % of 3607 s and three minutes after the last API server began to sign with the new key.
        assert_eq!(found(&pods, "2026-01-01T12:10:00Z").until, Some(at("2026-01-01T12:51:05Z")));
        assert_eq!(found(&pods, "2026-01-01T12:52:00Z"), Holders::default());
        let pods = [api_server(signing), pod("a", "2026-01-01T12:01:00Z", &projected)];
        assert_eq!(found(&pods, "2026-01-01T12:10:00Z"), Holders::default(), "it started with a token of the new key");
        let pods = [api_server(signing), pod("a", "2026-01-01T12:01:00Z", &secret)];
        assert_eq!(found(&pods, "2026-01-01T12:10:00Z").restart, ["Deployment shop/web".to_owned()].into());
        let mut ending = pods;
        ending[1]["metadata"]["deletionTimestamp"] = json!("2026-01-01T12:09:59Z");
        assert_eq!(found(&ending, "2026-01-01T12:10:00Z"), Holders { leaving: 1, ..Holders::default() });
    }

    #[test]
    fn readers_are_those_that_started_before_their_copy_changed() {
        let manager = component("kube-controller-manager", "2026-01-01T12:00:00Z");
        let old = pod("a", "2026-01-01T12:00:30Z", &json!({}));
        let new = pod("b", "2026-01-01T12:01:05Z", &json!({}));
        assert_eq!(readers(&[old.clone(), manager.clone()]), ["Deployment shop/web".to_owned()].into());
        assert!(readers(&[new.clone(), manager.clone()]).is_empty());
        assert_eq!(readers(&[new]).len(), 1, "who cannot be judged is named");
        let mut without = old;
        without["spec"]["containers"] = json!([{ "volumeMounts": [] }]);
        assert!(readers(&[without, manager]).is_empty());
    }

    #[test]
    fn owners_are_named_as_people_do() {
        let mut lonely = pod("solo", "2026-01-01T11:00:00Z", &json!({}));
        lonely["metadata"]["ownerReferences"] = json!(null);
        assert_eq!(owner(&lonely), "Pod shop/solo");
        let mut set = pod("x", "2026-01-01T11:00:00Z", &json!({}));
        set["metadata"]["ownerReferences"][0] = json!({ "kind": "StatefulSet", "name": "db" });
        assert_eq!(owner(&set), "StatefulSet shop/db");
    }
}
