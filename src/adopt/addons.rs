//! kube-proxy and CoreDNS as they are in the API.

use serde_json::{Value, json};

use super::kubelets::difference;
use super::{AdoptError, Draft, Found};
use crate::kubernetes::{coredns, kube_proxy};
use crate::meaning;
use crate::release::Release;
use crate::yaml;

/// Zeros of kube-proxy's configuration that are values: its Go type tells them from "left out".
const MEANINGFUL_ZEROS: &[&str] = &["maxPerCore", "min", "masqueradeBit", "localhostNodePorts", "oomScoreAdj"];

/// kube-proxy's and CoreDNS' fields.
pub(super) fn fill(draft: &mut Draft, found: &Found<'_>, release: &Release) -> Result<(), AdoptError> {
    match &found.objects.kube_proxy {
        Some(object) => proxy(draft, object, release)?,
        None => draft.document["kubeProxy"] = json!({ "enabled": false }),
    }
    match &found.objects.core_dns_deployment {
        Some(deployment) => core_dns(draft, found.objects.core_dns.as_ref(), deployment, release)?,
        None => draft.document["coreDns"] = json!({ "enabled": false }),
    }
    Ok(())
}

fn proxy(draft: &mut Draft, object: &Value, release: &Release) -> Result<(), AdoptError> {
    let place = "ConfigMap kube-system/kube-proxy";
    let text = object["data"]["config.conf"].as_str().unwrap_or_default();
    let theirs: Value = yaml::read(text).map_err(|error| AdoptError::unreadable(place, error))?;
    let mode = theirs["mode"].as_str().filter(|mode| !mode.is_empty());
    if let Some(mode) = mode {
        draft.object(&["kubeProxy"]).insert("mode".to_owned(), json!(mode));
    }
    let ours = kube_proxy::configuration(&draft.plan()?, release);
    let configuration = difference(&without_defaults("", ours), &without_defaults("", theirs));
    if !configuration.is_empty() {
        draft.object(&["kubeProxy"]).insert("configuration".to_owned(), json!(configuration));
    }
    Ok(())
}

fn without_defaults(name: &str, value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| {
                let value = without_defaults(&name, value);
                (name, value)
            });
            Value::Object(fields.filter(|(name, value)| !is_default(name, value)).collect())
        }
        other if is_default(name, &other) => Value::Null,
        other => other,
    }
}

fn is_default(name: &str, value: &Value) -> bool {
    let zero = value.as_bool() == Some(false) || value.as_f64() == Some(0.0) || value.as_str() == Some("0");
    meaning::is_empty(value) || zero && !MEANINGFUL_ZEROS.contains(&name)
}

fn core_dns(draft: &mut Draft, map: Option<&Value>, deployment: &Value, release: &Release) -> Result<(), AdoptError> {
    let plan = draft.plan()?;
    let mut fields = json!({});
    if let Some(replicas) = deployment.pointer("/spec/replicas").filter(|replicas| **replicas != json!(plan.core_dns.replicas)) {
        fields["replicas"] = replicas.clone();
    }
    let image = deployment.pointer("/spec/template/spec/containers/0/image").and_then(Value::as_str);
    if let Some(image) = image.filter(|image| *image != release.images(&plan).coredns) {
        fields["image"] = json!(image);
    }
    let corefile = map.and_then(|map| map["data"]["Corefile"].as_str());
    if let Some(corefile) = corefile.filter(|corefile| !meaning::contains(&coredns::corefile(&plan, release), corefile)) {
        fields["corefile"] = json!(corefile);
    }
    if fields.as_object().is_some_and(|fields| !fields.is_empty()) {
        draft.document["coreDns"] = fields;
    }
    Ok(())
}
