//! Compares a wanted object with the one the API holds. Pure. The API adds defaults and fields of
//! other owners, so the question is whether everything wanted is there, not whether both are equal.

use serde_json::Value;

use crate::kubernetes::CONFIGURATION_HASH_ANNOTATION;
use crate::meaning;

/// The annotation with the digest of what slipway last applied.
pub const APPLIED_ANNOTATION: &str = "slipway.dev/applied";

/// Dotted paths of wanted fields that the found object does not have, or has otherwise.
#[must_use]
pub fn missing_fields(wanted: &Value, found: &Value) -> Vec<String> {
    let mut missing = Vec::new();
    walk("", wanted, Some(found), &mut missing);
    missing
}

/// The same for an object that slipway never applied: texts of a ConfigMap count as there if they say
/// all that is wanted, in whatever form, and with them the hash that kubeadm keeps over its own form.
#[must_use]
pub fn missing_fields_of_others(wanted: &Value, found: &Value) -> Vec<String> {
    let missing = missing_fields(wanted, found);
    if wanted["kind"] != "ConfigMap" || found.pointer("/metadata/annotations").is_some_and(|all| all.get(APPLIED_ANNOTATION).is_some()) {
        return missing;
    }
    let says_the_same = |key: &str| {
        let text = |object: &Value| object["data"].get(key).and_then(Value::as_str).map(str::to_owned);
        matches!((text(wanted), text(found)), (Some(wanted), Some(found)) if meaning::contains(&wanted, &found))
    };
    let is_text = |path: &String| path.strip_prefix("data.").is_some_and(says_the_same);
    let rest: Vec<String> = missing.into_iter().filter(|path| !is_text(path)).collect();
    let hash = format!("metadata.annotations.{CONFIGURATION_HASH_ANNOTATION}");
    if rest == [hash] { Vec::new() } else { rest }
}

fn walk(path: &str, wanted: &Value, found: Option<&Value>, missing: &mut Vec<String>) {
    let found = match found {
        Some(found) => found,
        // The API leaves empty values out.
        None if is_empty(wanted) => return,
        None => {
            missing.push(path.to_owned());
            return;
        }
    };
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => {
            for (key, value) in wanted {
                // Who is bound to a role is a set.
                if let ("subjects", Value::Array(one), Some(Value::Array(other))) = (key.as_str(), value, found.get(key)) {
                    let (one, other) = (sorted(one), sorted(other));
                    walk(&join(path, key), &one, Some(&other), missing);
                    continue;
                }
                walk(&join(path, key), value, found.get(key), missing);
            }
        }
        (Value::Array(wanted), Value::Array(found)) if wanted.len() == found.len() => {
            for (index, value) in wanted.iter().enumerate() {
                walk(&join(path, &index.to_string()), value, found.get(index), missing);
            }
        }
        _ if wanted == found || is_empty(wanted) && is_empty(found) => {}
        _ => missing.push(path.to_owned()),
    }
}

fn sorted(subjects: &[Value]) -> Value {
    let mut subjects = subjects.to_vec();
    subjects.sort_by_key(|subject| ["kind", "namespace", "name"].map(|field| subject[field].as_str().unwrap_or_default().to_owned()));
    Value::Array(subjects)
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.values().all(is_empty),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

/// An object without what changes by itself: for comparing what is with what would be.
#[must_use]
pub fn essence(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for key in ["managedFields", "resourceVersion", "generation", "creationTimestamp", "uid", "selfLink"] {
            metadata.remove(key);
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(APPLIED_ANNOTATION);
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_and_foreign_fields_are_no_difference() {
        let wanted = json!({ "spec": { "ports": [{ "port": 53 }], "selector": {}, "x": null } });
        let found = json!({ "spec": { "ports": [{ "port": 53, "nodePort": 3 }], "clusterIP": "1.2.3.4" } });
        assert!(missing_fields(&wanted, &found).is_empty());
    }

    #[test]
    fn the_order_of_subjects_means_nothing() {
        let object = |names: &[&str]| json!({ "subjects": names.iter().map(|name| json!({ "kind": "Group", "name": name })).collect::<Vec<_>>() });
        assert!(missing_fields(&object(&["a", "b"]), &object(&["b", "a"])).is_empty());
        assert!(!missing_fields(&object(&["a", "b"]), &object(&["b", "c"])).is_empty());
    }

    #[test]
    fn texts_that_somebody_else_wrote_are_compared_by_what_they_say() {
        let object = |text: &str, hash: &str| {
            json!({ "kind": "ConfigMap", "metadata": { "annotations": { CONFIGURATION_HASH_ANNOTATION: hash } }, "data": { "kubelet": text } })
        };
        let (wanted, mut found) = (object("a: 1\n", "x"), object("b: 0s\na: 1\n", "y"));
        assert!(missing_fields_of_others(&wanted, &found).is_empty());
        let other = missing_fields_of_others(&wanted, &object("a: 2\n", "y"));
        assert_eq!(other.len(), 2, "{other:?}");
        found["metadata"]["annotations"][APPLIED_ANNOTATION] = "z".into();
        let own = missing_fields_of_others(&wanted, &found);
        assert!(own.contains(&"data.kubelet".to_owned()), "what slipway applied is compared by its bytes: {own:?}");
    }

    #[test]
    fn differences_are_named_by_path() {
        let wanted = json!({ "data": { "a": "1", "b": "2" }, "list": [1, 2] });
        let found = json!({ "data": { "a": "1", "b": "3" }, "list": [1] });
        assert_eq!(missing_fields(&wanted, &found), ["data.b", "list"]);
    }
}
