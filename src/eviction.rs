//! Which pods leave a Node that is drained, which stay, and which keep it from being drained. Pure:
//! a function of the pods on the Node and of what the operator consented to.
//!
//! The rules are those of `kubectl drain`: static pods and pods of DaemonSets stay, because they
//! would come back at once; a pod that nobody would start again, and one whose local data would be
//! lost, leave only with consent; a pod that has ended leaves in any case.

use std::fmt;

use k8s_openapi::api::core::v1::Pod;

/// What the operator consented to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Consent {
    /// Data in emptyDir volumes is lost.
    pub local_data: bool,
    /// Pods without a controller are gone for good.
    pub unmanaged: bool,
}

/// A pod by name; `uid` tells it from a later one of the same name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The API's id of this very pod.
    pub uid: String,
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Why a pod keeps a Node from being drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objection {
    /// It has emptyDir volumes.
    LocalData,
    /// Nothing would start it again.
    Unmanaged,
}

impl Objection {
    /// The reason alone, without the option of `node drain` that consents.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::LocalData => "has data in emptyDir volumes, which would be lost",
            Self::Unmanaged => "has no controller, so nothing would start it again",
        }
    }
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let option = match self {
            Self::LocalData => "--delete-emptydir-data",
            Self::Unmanaged => "--force",
        };
        write!(f, "{} ({option})", self.reason())
    }
}

/// What becomes of the pods of a Node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Pods to be evicted, sorted.
    pub leaving: Vec<PodName>,
    /// Pods that stay, sorted.
    pub staying: Vec<PodName>,
    /// Pods that may not be evicted without consent. If there is one, nothing is to be done.
    pub objections: Vec<(PodName, Objection)>,
}

/// Judges the pods of a Node.
#[must_use]
pub fn judge(pods: &[Pod], consent: Consent) -> Judgement {
    let mut judgement = Judgement::default();
    for pod in pods {
        let metadata = &pod.metadata;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let name = PodName { namespace: text(&metadata.namespace), name: text(&metadata.name), uid: text(&metadata.uid) };
        // The kubelet marks what it shows of its static pods (kubernetes.io/config.mirror).
        let mirrored = metadata.annotations.as_ref().is_some_and(|all| all.contains_key("kubernetes.io/config.mirror"));
        let controller = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        if mirrored || controller.is_some_and(|owner| owner.kind == "DaemonSet") {
            judgement.staying.push(name);
            continue;
        }
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let ended = matches!(phase, Some("Succeeded" | "Failed"));
        let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let local_data = volumes.into_iter().any(|volume| volume.empty_dir.is_some());
        if !ended && controller.is_none() && !consent.unmanaged {
            judgement.objections.push((name, Objection::Unmanaged));
        } else if !ended && local_data && !consent.local_data {
            judgement.objections.push((name, Objection::LocalData));
        } else {
            judgement.leaving.push(name);
        }
    }
    judgement.leaving.sort();
    judgement.staying.sort();
    judgement.objections.sort_by(|a, b| a.0.cmp(&b.0));
    judgement
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(name: &str, more: &Value) -> Pod {
        let mut value = json!({ "metadata": { "namespace": "n", "name": name, "uid": "1" }, "spec": { "containers": [] } });
        for (pointer, key) in [("/metadata", "metadata"), ("/spec", "spec")] {
            for (field, content) in more[key].as_object().into_iter().flatten() {
                value.pointer_mut(pointer).unwrap()[field] = content.clone();
            }
        }
        value["status"] = more["status"].clone();
        serde_json::from_value(value).unwrap()
    }

    fn owned(kind: &str) -> Value {
        json!([{ "apiVersion": "apps/v1", "kind": kind, "name": "o", "uid": "2", "controller": true }])
    }

    fn said(more: &Value, consent: Consent) -> String {
        let judgement = judge(&[pod("p", more)], consent);
        match (&judgement.leaving[..], &judgement.staying[..], &judgement.objections[..]) {
            ([_], [], []) => "leaves".into(),
            ([], [_], []) => "stays".into(),
            ([], [], [(_, objection)]) => format!("{objection:?}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_kind_of_pod_is_judged() {
        let nothing = Consent::default();
        let data = Consent { local_data: true, ..nothing };
        let force = Consent { unmanaged: true, ..nothing };
        let both = Consent { local_data: true, unmanaged: true };
        let managed = json!({ "metadata": { "ownerReferences": owned("ReplicaSet") } });
        let with_data = json!({ "metadata": { "ownerReferences": owned("StatefulSet") }, "spec": { "volumes": [{ "name": "v", "emptyDir": {} }] } });
        let alone = json!({});
        let alone_with_data = json!({ "spec": { "volumes": [{ "name": "v", "emptyDir": {} }] } });
        let mirror = json!({ "metadata": { "annotations": { "kubernetes.io/config.mirror": "x" } } });
        let daemon = json!({ "metadata": { "ownerReferences": owned("DaemonSet") }, "spec": { "volumes": [{ "name": "v", "emptyDir": {} }] } });
        let ended = json!({ "spec": { "volumes": [{ "name": "v", "emptyDir": {} }] }, "status": { "phase": "Succeeded" } });
        let owner_only = json!({ "metadata": { "ownerReferences": [{ "apiVersion": "v1", "kind": "X", "name": "o", "uid": "2" }] } });
        for (more, consent, expected) in [
            (&managed, nothing, "leaves"),
            (&with_data, nothing, "LocalData"),
            (&with_data, data, "leaves"),
            (&with_data, force, "LocalData"),
            (&alone, nothing, "Unmanaged"),
            (&alone, data, "Unmanaged"),
            (&alone, force, "leaves"),
            (&alone_with_data, force, "LocalData"),
            (&alone_with_data, both, "leaves"),
            (&owner_only, nothing, "Unmanaged"),
            (&mirror, both, "stays"),
            (&daemon, nothing, "stays"),
            (&ended, nothing, "leaves"),
        ] {
            assert_eq!(said(more, consent), expected, "{more} with {consent:?}");
        }
    }

    #[test]
    fn pods_are_told_in_one_order() {
        let managed = json!({ "metadata": { "ownerReferences": owned("ReplicaSet") } });
        let judgement = judge(&[pod("b", &managed), pod("a", &managed)], Consent::default());
        let names: Vec<String> = judgement.leaving.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["n/a", "n/b"]);
    }
}
