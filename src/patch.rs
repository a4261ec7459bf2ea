//! Changes to generated documents: the plan's patches in the three notations Kubernetes knows.
//! They are the last thing done to a document, so they can change anything in it.

use serde_json::Value;

use crate::names::HostName;
use crate::plan::{Patch, PatchKind, PatchTarget};

pub mod json;
pub mod merge;
pub mod strategic;

pub use json::OperationError;
pub use strategic::StrategicError;

/// Why a patch of the plan does not fit its document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("patches[{index}] does not fit {}: {problem}", name_of(*target))]
pub struct PatchError {
    /// Which entry of the plan's `patches`, counted from 0.
    pub index: usize,
    /// The document.
    pub target: PatchTarget,
    /// What is wrong.
    #[source]
    pub problem: PatchProblem,
}

/// What is wrong with a patch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchProblem {
    /// A strategic or merge patch is not an object.
    #[error("it must be an object of fields")]
    NotAnObject,
    /// A strategic merge failed.
    #[error(transparent)]
    Strategic(#[from] StrategicError),
    /// A JSON patch failed.
    #[error(transparent)]
    Json(#[from] OperationError),
}

/// The document with all patches for it applied in order. `host` is the host the document is for;
/// a document of the whole cluster has none and takes only patches that are not limited to hosts.
///
/// # Errors
/// A patch does not fit the document.
pub fn apply(
    document: Value,
    patches: &[Patch],
    target: PatchTarget,
    host: Option<&HostName>,
) -> Result<Value, PatchError> {
    let mut document = document;
    for (index, patch) in patches.iter().enumerate() {
        let meant = patch.hosts.is_empty() || host.is_some_and(|host| patch.hosts.contains(host));
        if patch.target == target && meant {
            document = apply_one(document, patch).map_err(|problem| PatchError { index, target, problem })?;
        }
    }
    Ok(document)
}

fn apply_one(document: Value, patch: &Patch) -> Result<Value, PatchProblem> {
    match patch.kind {
        PatchKind::Json => Ok(json::apply(document, &patch.patch)?),
        _ if !patch.patch.is_object() => Err(PatchProblem::NotAnObject),
        PatchKind::Merge => Ok(merge::merged(document, &patch.patch)),
        PatchKind::Strategic => Ok(strategic::merged(document, &patch.patch)?),
    }
}

/// The target as the plan file spells it.
fn name_of(target: PatchTarget) -> String {
    serde_json::to_value(target).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patch(value: Value) -> Patch {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn patches_apply_in_order_to_their_target_and_hosts() {
        let patches = [
            patch(json!({"target": "etcd", "patch": {"a": 1}})),
            patch(json!({"target": "kube-scheduler", "patch": {"a": 2}})),
            patch(json!({"target": "etcd", "hosts": ["cp-2"], "patch": {"a": 3}})),
            patch(json!({"target": "etcd", "type": "json", "patch": [{"op": "add", "path": "/b", "value": 4}]})),
            patch(json!({"target": "etcd", "type": "merge", "patch": {"c": null}})),
        ];
        let document = json!({"a": 0, "c": 0});
        let host = "cp-1".parse().unwrap();
        let patched = apply(document.clone(), &patches, PatchTarget::Etcd, Some(&host)).unwrap();
        assert_eq!(patched, json!({"a": 1, "b": 4}));
        let other = "cp-2".parse().unwrap();
        assert_eq!(apply(document.clone(), &patches, PatchTarget::Etcd, Some(&other)).unwrap()["a"], 3);
        assert_eq!(apply(document, &patches, PatchTarget::Etcd, None).unwrap()["a"], 1);
    }

    #[test]
    fn an_error_names_the_patch_and_the_place() {
        let patches = [
            patch(json!({"target": "kube-apiserver", "patch": {}})),
            patch(json!({"target": "kube-apiserver", "type": "json", "patch": [{"op": "remove", "path": "/x/y"}]})),
        ];
        let error = apply(json!({}), &patches, PatchTarget::KubeApiserver, None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "patches[1] does not fit kube-apiserver: operation 0 (remove `/x/y`): there is nothing at `/x`"
        );
        let patches = [patch(json!({"target": "etcd", "patch": [1]}))];
        let error = apply(json!({}), &patches, PatchTarget::Etcd, None).unwrap_err();
        assert_eq!(error.to_string(), "patches[0] does not fit etcd: it must be an object of fields");
    }
}
