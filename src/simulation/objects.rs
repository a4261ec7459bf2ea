//! Objects in the simulated API: compared and applied as the real one's are.

use serde_json::{Value, json};

use super::etcd::EtcdCluster;
use crate::artifact::{Artifact, Object, ObjectPolicy};
use crate::change::{Change, Reason};
use crate::cluster::compare::{APPLIED_ANNOTATION, essence, missing_fields_of_others};
use crate::names::Digest;
use crate::patch::merge::merged;

/// What is to be done about an object.
pub(super) fn change(store: &EtcdCluster, object: Object) -> Option<Change> {
    let is_absent = object.policy == ObjectPolicy::Absent;
    let Some(found) = store.objects.get(&object.id()) else {
        return (!is_absent).then(|| Change { artifact: Artifact::Object(object), reason: Reason::Missing, before: None });
    };
    if is_absent {
        return is_applied(found).then(|| Change { artifact: Artifact::Object(object), reason: Reason::Unwanted, before: None });
    }
    let changed = missing_fields_of_others(&object.value, found);
    if changed.is_empty() {
        return None;
    }
    let applied = found.pointer("/metadata/annotations").and_then(|annotations| annotations.get(APPLIED_ANNOTATION));
    let drift = applied.and_then(Value::as_str) == Some(&Digest::of(object.value.to_string()).to_string());
    let before = (!object.secret).then(|| crate::yaml::write(&essence(found)));
    Some(Change { artifact: Artifact::Object(object), reason: Reason::Fields { changed, drift }, before })
}

/// Makes, changes or deletes an object.
pub(super) fn make(store: &mut EtcdCluster, object: &Object) {
    let id = object.id();
    if object.policy == ObjectPolicy::Absent {
        if store.objects.get(&id).is_some_and(is_applied) {
            store.objects.remove(&id);
        }
        return;
    }
    let mut value = object.value.clone();
    if !value["metadata"]["annotations"].is_object() {
        value["metadata"]["annotations"] = json!({});
    }
    value["metadata"]["annotations"][APPLIED_ANNOTATION] = Digest::of(object.value.to_string()).to_string().into();
    let found = store.objects.remove(&id).unwrap_or_else(|| json!({}));
    store.objects.insert(id, merged(found, &value));
}

/// Whether slipway applied that object.
fn is_applied(object: &Value) -> bool {
    object.pointer("/metadata/annotations").is_some_and(|annotations| annotations.get(APPLIED_ANNOTATION).is_some())
}
