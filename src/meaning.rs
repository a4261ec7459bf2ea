//! Whether two texts of one file mean the same to whoever reads it: for files that slipway did not
//! write. kubeadm's manifests and configurations say the same as slipway's in another order and with
//! empty values written out; rewriting them would restart components for nothing. Pure.
//!
//! Only files that are compared here may be called equal; of any other, the bytes decide.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::kubernetes::INPUTS_ANNOTATION;
use crate::names::RemotePath;
use crate::paths;
use crate::plan::url;
use crate::yaml;

/// How two texts compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// They say something else.
    Other,
    /// They say the same.
    Same,
    /// They say the same, but the found pod does not say which credentials it was started with.
    Unstamped,
}

/// Compares the wanted text of a file with the found one.
#[must_use]
pub fn of_file(path: &RemotePath, wanted: &str, found: &str) -> Meaning {
    let same = |equal| if equal { Meaning::Same } else { Meaning::Other };
    if path.is_within(&paths::manifests_directory()) {
        return pods(wanted, found);
    }
    if *path == paths::kubelet_configuration() || *path == paths::kubelet_instance_configuration() {
        return same(both(wanted, found).is_some_and(|(wanted, found)| kubelet(wanted) == kubelet(found)));
    }
    if *path == paths::kubelet_flags() {
        return same(matches!((lasting_flags(wanted), lasting_flags(found)), (Some(wanted), Some(found)) if wanted == found));
    }
    Meaning::Other
}

fn both(wanted: &str, found: &str) -> Option<(Value, Value)> {
    Some((yaml::read(wanted).ok()?, yaml::read(found).ok()?))
}

fn pods(wanted: &str, found: &str) -> Meaning {
    let Some((mut wanted, found)) = both(wanted, found) else { return Meaning::Other };
    let stamped = found.pointer("/metadata/annotations").is_some_and(|annotations| annotations.get(INPUTS_ANNOTATION).is_some());
    if !stamped && let Some(annotations) = wanted.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(INPUTS_ANNOTATION);
    }
    match pod(wanted) == pod(found) {
        true if stamped => Meaning::Same,
        true => Meaning::Unstamped,
        false => Meaning::Other,
    }
}

/// A pod without what has no meaning: the order of sets and of flags, values that are empty.
#[must_use]
pub fn pod(value: Value) -> Value {
    let mut value = value;
    if let Some(fields) = value.as_object_mut() {
        fields.remove("status");
    }
    normal("", value)
}

/// A `KubeletConfiguration` without values that say nothing, and without the kubelet's own default
/// of the cgroup driver, which older releases of kubeadm leave out.
#[must_use]
pub fn kubelet(value: Value) -> Value {
    let mut value = normal("", value);
    if let Some(fields) = value.as_object_mut() {
        if fields.get("cgroupDriver").and_then(Value::as_str) == Some("cgroupfs") {
            fields.remove("cgroupDriver");
        }
        if let Some(logging) = fields.remove("logging").map(without_zeros).filter(|logging| !is_empty(logging)) {
            fields.insert("logging".to_owned(), logging);
        }
    }
    value
}

/// Whether everything that a text wants is in the found one: for documents in objects of the API,
/// where whoever wrote the found one wrote out the defaults.
#[must_use]
pub fn contains(wanted: &str, found: &str) -> bool {
    let lines = |text: &str| text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect::<Vec<_>>();
    match both(wanted, found) {
        Some((wanted @ Value::Object(_), found @ Value::Object(_))) => {
            crate::cluster::compare::missing_fields(&stored(wanted), &stored(found)).is_empty()
        }
        _ => lines(wanted) == lines(found),
    }
}

/// A document of an object: kubeadm takes an endpoint without a port for one with the API servers' own.
fn stored(value: Value) -> Value {
    let mut value = kubelet(value);
    if let Some(Value::String(endpoint)) = value.get_mut("controlPlaneEndpoint") {
        let has_port = endpoint.rsplit_once(':').is_some_and(|(host, port)| port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']')));
        if !has_port {
            *endpoint = url(endpoint.trim_matches(['[', ']']), 6443).replace("https://", "");
        }
    }
    value
}

/// The flags of a `kubeadm-flags.env`, by name; a repeated flag keeps the order of its values. `None`
/// if the file sets anything else, or in a way that only a shell could read.
#[must_use]
pub fn flags(text: &str) -> Option<BTreeMap<String, Vec<String>>> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let value = lines.next()?.strip_prefix("KUBELET_KUBEADM_ARGS=")?;
    if lines.next().is_some() {
        return None;
    }
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    if value.contains(['\\', '"', '\'', '$']) {
        return None;
    }
    let mut flags: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for word in value.split_whitespace() {
        let (name, value) = word.strip_prefix("--")?.split_once('=')?;
        // The kubelet takes a path for an address of the same socket.
        let value = if name == "container-runtime-endpoint" { socket(value) } else { value.to_owned() };
        flags.entry(name.to_owned()).or_default().push(value);
    }
    Some(flags)
}

/// The same without what a kubelet only reads when it registers its Node for the first time.
#[must_use]
pub fn lasting_flags(text: &str) -> Option<BTreeMap<String, Vec<String>>> {
    let mut flags = flags(text)?;
    flags.remove("register-with-taints");
    Some(flags)
}

/// A CRI socket as an address, however it was written.
#[must_use]
pub fn socket(text: &str) -> String {
    if text.starts_with('/') { format!("unix://{text}") } else { text.to_owned() }
}

fn normal(name: &str, value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let normal_fields = fields.into_iter().map(|(name, value)| {
                let value = normal(&name, value);
                (name, value)
            });
            let says = |name: &str, value: &Value| name != "creationTimestamp" && !is_empty(value) && (name != "readOnly" || *value != false);
            let kept = normal_fields.filter(|(name, value)| says(name, value));
            let sorted: BTreeMap<String, Value> = kept.collect();
            Value::Object(sorted.into_iter().collect())
        }
        Value::Array(elements) => {
            let mut elements: Vec<Value> = elements.into_iter().map(|element| normal("", element)).collect();
            match name {
                "volumes" | "env" | "extraVolumes" | "extraEnvs" => elements.sort_by_key(|element| element["name"].to_string()),
                "volumeMounts" => elements.sort_by_key(|element| element["mountPath"].to_string()),
                "extraArgs" => elements.sort_by_key(|element| element["name"].to_string()),
                "certSANs" | "serverCertSANs" | "peerCertSANs" => elements.sort_by_key(Value::to_string),
                "command" if elements.len() > 1 => elements[1..].sort_by_key(flag_name),
                _ => {}
            }
            Value::Array(elements)
        }
        other => other,
    }
}

/// A stable sort by this keeps the order of one flag's values.
fn flag_name(argument: &Value) -> String {
    let text = argument.as_str().unwrap_or_default();
    text.split_once('=').map_or(text, |(name, _)| name).to_owned()
}

/// Whether a value says nothing: what Go writes for a field that was left out.
#[must_use]
pub fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => matches!(text.as_str(), "" | "0s"),
        Value::Array(elements) => elements.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// For parts of which every zero is a default.
fn without_zeros(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (name, without_zeros(value)));
            Value::Object(fields.filter(|(_, value)| !is_zero(value)).collect::<Map<_, _>>())
        }
        other => other,
    }
}

fn is_zero(value: &Value) -> bool {
    is_empty(value) || value.as_f64() == Some(0.0) || value.as_str() == Some("0") || value.as_bool() == Some(false)
}

#[cfg(test)]
mod tests;
