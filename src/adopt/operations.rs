//! The operations (RFC 6902) that make one document mean what another says. Lists whose elements have
//! a name are changed element by element, so that a patch does not freeze what it does not mean.

use serde_json::{Value, json};

use crate::meaning;

/// Places that a patch never touches: an image frozen in a patch would not follow an upgrade, and flags
/// have fields of their own.
const UNTOUCHED: &[&str] = &["image", "command", "creationTimestamp", "status"];

/// The operations from one document to the other, in an order in which they can be carried out.
#[must_use]
pub fn between(from: &Value, to: &Value) -> Vec<Value> {
    let mut operations = Vec::new();
    walk("", "", from, to, &mut operations);
    operations
}

fn walk(path: &str, name: &str, from: &Value, to: &Value, operations: &mut Vec<Value>) {
    if UNTOUCHED.contains(&name) || meaning::pod(json!({ name: from })) == meaning::pod(json!({ name: to })) {
        return;
    }
    match (from, to) {
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in before {
                let place = format!("{path}/{}", escaped(key));
                match after.get(key) {
                    Some(other) => walk(&place, key, value, other, operations),
                    None if UNTOUCHED.contains(&key.as_str()) || meaning::is_empty(value) => {}
                    None => operations.push(json!({ "op": "remove", "path": place })),
                }
            }
            for (key, value) in after.iter().filter(|(key, value)| !before.contains_key(*key) && !meaning::is_empty(value)) {
                if !UNTOUCHED.contains(&key.as_str()) {
                    operations.push(json!({ "op": "add", "path": format!("{path}/{}", escaped(key)), "value": value }));
                }
            }
        }
        (Value::Array(before), Value::Array(after)) if let Some(key) = key_of(name) => {
            named(path, key, before, after, operations);
        }
        _ => operations.push(json!({ "op": "replace", "path": path, "value": to })),
    }
}

fn key_of(name: &str) -> Option<&'static str> {
    match name {
        "containers" | "initContainers" | "volumes" | "env" | "ports" => Some("name"),
        "volumeMounts" => Some("mountPath"),
        _ => None,
    }
}

fn named(path: &str, key: &str, before: &[Value], after: &[Value], operations: &mut Vec<Value>) {
    let mut removed = Vec::new();
    for (index, element) in before.iter().enumerate() {
        match after.iter().find(|other| other[key] == element[key]) {
            Some(other) => walk(&format!("{path}/{index}"), "", element, other, operations),
            None => removed.push(index),
        }
    }
    // From the end, so that the places of the others stay.
    operations.extend(removed.into_iter().rev().map(|index| json!({ "op": "remove", "path": format!("{path}/{index}") })));
    let new = after.iter().filter(|element| !before.iter().any(|other| other[key] == element[key]));
    operations.extend(new.map(|element| json!({ "op": "add", "path": format!("{path}/-"), "value": element })));
}

/// A name as a part of a JSON pointer (RFC 6901).
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patch::json::apply;

    fn pod(container: Value, volumes: Value) -> Value {
        json!({ "metadata": { "annotations": { "a/b": "1" } }, "spec": { "containers": [container], "volumes": volumes } })
    }

    #[test]
    fn the_operations_make_one_document_the_other() {
        let from = pod(
            json!({ "name": "c", "image": "i:1", "command": ["c"], "resources": { "requests": { "cpu": "1" } }, "volumeMounts": [{ "name": "x", "mountPath": "/x" }, { "name": "y", "mountPath": "/y" }] }),
            json!([{ "name": "x" }, { "name": "y" }, { "name": "z" }]),
        );
        let to = pod(
            json!({ "name": "c", "image": "i:1", "command": ["c"], "resources": { "requests": { "cpu": "2" }, "limits": { "cpu": "3" } }, "volumeMounts": [{ "name": "w", "mountPath": "/w" }, { "name": "y", "mountPath": "/y", "readOnly": true }] }),
            json!([{ "name": "z" }, { "name": "w", "hostPath": { "path": "/w" } }]),
        );
        let operations = between(&from, &to);
        let patched = apply(from.clone(), &Value::Array(operations.clone())).unwrap();
        assert_eq!(meaning::pod(patched), meaning::pod(to));
        assert!(operations.iter().all(|operation| !operation.to_string().contains("i:1")), "{operations:?}");
        assert!(between(&from, &from).is_empty());
    }

    #[test]
    fn images_flags_and_what_says_nothing_are_left_alone() {
        let from = pod(json!({ "name": "c", "image": "i:1", "command": ["c"] }), json!([]));
        let to = pod(json!({ "name": "c", "image": "i:2", "command": ["d"], "resources": {} }), Value::Null);
        assert_eq!(between(&from, &to), Vec::<Value>::new());
    }

    #[test]
    fn names_with_slashes_are_escaped() {
        let mut to = pod(json!({ "name": "c" }), json!([]));
        to["metadata"]["annotations"]["a/b"] = json!("2");
        let operations = between(&pod(json!({ "name": "c" }), json!([])), &to);
        assert_eq!(operations, [json!({ "op": "replace", "path": "/metadata/annotations/a~1b", "value": "2" })]);
    }
}
