//! The digest of a change set. It is made of what a reviewer is shown, so two runs over the same
//! plan and hosts agree although each draws its own keys; it holds no byte of a secret.

use serde_json::Value;

use crate::artifact::{Artifact, Object, ObjectPolicy};
use crate::graph::StepGraph;
use crate::names::Digest;

/// The digest over the selected steps in order, their artifacts, reasons and reviews.
#[must_use]
pub fn digest(graph: &StepGraph) -> Digest {
    let steps = graph.steps().filter(|step| graph.is_selected(&step.id));
    // Line by line: the text of ten thousand hosts is as large as everything else that is known of them.
    Digest::of_all(steps.flat_map(|step| {
        let id = step.id.to_string();
        step.changes.iter().map(move |change| {
            // Each line is one JSON array, so no text can pass for another one.
            let line = serde_json::to_string(&(&id, review(&change.artifact), &change.reason));
            line.expect("reviews and reasons are plain data") + "\n"
        })
    }))
}

/// Everything of an artifact that does not depend on what was drawn in this run. The stamp of a
/// unit does (it covers new certificates), so only the names of its inputs count.
fn review(artifact: &Artifact) -> Value {
    let id = artifact.id();
    let parts: Vec<String> = match artifact {
        Artifact::Directory { mode, .. } => vec!["directory".into(), mode.to_string()],
        Artifact::File { mode, content, .. } => {
            let kind = if content.is_secret() { "secret" } else { "file" };
            vec![kind.into(), mode.to_string(), content.review().to_owned()]
        }
        Artifact::Link { target, .. } => vec!["link".into(), target.clone()],
        Artifact::Absent { .. } => vec!["absent".into()],
        Artifact::Program { source, digest, unpack, .. } => {
            let unpack = unpack.as_ref().map_or_else(String::new, ToString::to_string);
            vec![format!("{source:?}"), digest.to_string(), unpack]
        }
        Artifact::Package { version, held, .. } => vec![version.clone().unwrap_or_default(), held.to_string()],
        Artifact::Module { .. } | Artifact::NoSwap | Artifact::Pulled { .. } => Vec::new(),
        Artifact::Sysctl { value, .. } => vec![value.clone()],
        Artifact::Unit { inputs, check, .. } => {
            inputs.iter().map(ToString::to_string).chain([format!("{check:?}")]).collect()
        }
        Artifact::Halted { files, pods, .. } => files.iter().map(ToString::to_string).chain([format!("pods {pods}")]).collect(),
        Artifact::Restarted { units, machine } => units.iter().cloned().chain([format!("machine {machine}")]).collect(),
        Artifact::Image { names, digest, .. } => names.iter().cloned().chain([digest.to_string()]).collect(),
        Artifact::Object(object) => return object_review(object),
        Artifact::NodeMarks(marks) => vec![format!("{marks:?}")],
        Artifact::Snapshot(snapshot) => vec![format!("{snapshot:?}")],
        Artifact::Undone(undone) => vec![format!("{undone:?}")],
        Artifact::Membership(membership) => vec![format!("{membership:?}")],
        Artifact::Maintenance(maintenance) => vec![format!("{maintenance:?}")],
        Artifact::Departed(departure) => vec![format!("{departure:?}")],
    };
    Value::from(vec![Value::from(id), Value::from(parts)])
}

/// An object made once with the cluster may have a drawn name (a bootstrap token), so it counts
/// by its kind. A secret one counts without its data.
fn object_review(object: &Object) -> Value {
    if object.policy == ObjectPolicy::WithCluster && object.secret {
        return Value::from(vec![Value::from("secret with the cluster"), object.value["kind"].clone()]);
    }
    let mut value = object.value.clone();
    if object.secret {
        for key in ["data", "stringData"] {
            if let Some(data) = value.get_mut(key).and_then(Value::as_object_mut) {
                data.values_mut().for_each(|value| *value = Value::from("<secret>"));
            }
        }
    }
    hide_certificates(&mut value);
    Value::from(vec![Value::from(object.id()), value])
}

/// A certificate in an object (`cluster-info` holds the CA) is new whenever the CA is.
fn hide_certificates(value: &mut Value) {
    match value {
        Value::String(text) => *text = without_certificates(text),
        Value::Array(items) => items.iter_mut().for_each(hide_certificates),
        Value::Object(fields) => fields.values_mut().for_each(hide_certificates),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// PEM certificates, plain or as one run of base64, replaced by a word.
fn without_certificates(text: &str) -> String {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    /// `-----BEGIN CERTIFICATE` in base64.
    const ENCODED: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t";
    let (mut rest, mut kept) = (text, String::new());
    loop {
        let plain = rest.find(BEGIN).map(|start| (start, rest[start..].find(END).map(|end| start + end + END.len())));
        let encoded = rest.find(ENCODED).map(|start| {
            let end = rest[start..].find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=')));
            (start, end.map(|end| start + end))
        });
        let Some((start, end)) = plain.into_iter().chain(encoded).min() else { break };
        kept.push_str(&rest[..start]);
        kept.push_str("<certificate>");
        rest = end.map_or("", |end| &rest[end..]);
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_do_not_count() {
        let pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        assert_eq!(without_certificates(&format!("a\n{pem}b")), "a\n<certificate>\nb");
        let encoded = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUI=";
        assert_eq!(without_certificates(&format!("ca: {encoded}\nserver: x")), "ca: <certificate>\nserver: x");
        assert_eq!(without_certificates("no certificate"), "no certificate");
    }
}
