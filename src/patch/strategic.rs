//! Kubernetes' strategic merge: like a merge, but the lists of a pod that have a key are merged
//! element by element. The keys are those the API declares for pods, and so for the templates of
//! Deployments and DaemonSets; all other lists are replaced.

use serde_json::{Map, Value};

/// Lists that are merged, with the fields that tell their elements apart. Ports of a container
/// differ by number and protocol, since port 53 is often there twice.
const MERGE_KEYS: &[(&str, &[&str])] = &[
    ("containers", &["name"]),
    ("initContainers", &["name"]),
    ("ephemeralContainers", &["name"]),
    ("volumes", &["name"]),
    ("volumeMounts", &["mountPath"]),
    ("volumeDevices", &["devicePath"]),
    ("ports", &["containerPort", "protocol"]),
    ("env", &["name"]),
    ("imagePullSecrets", &["name"]),
    ("hostAliases", &["ip"]),
    ("topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"]),
    ("ownerReferences", &["uid"]),
    ("resourceClaims", &["name"]),
];

/// What a key field means where an element leaves it out.
const KEY_DEFAULTS: &[(&str, &str)] = &[("protocol", "TCP")];

const DIRECTIVE: &str = "$patch";
const ORDER_PREFIX: &str = "$setElementOrder/";
const DELETE_PREFIX: &str = "$deleteFromPrimitiveList/";
const RETAIN_KEYS: &str = "$retainKeys";

/// Why a strategic merge is not possible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StrategicError {
    /// An element of a merged list lacks its key.
    #[error("an element of `{path}` has no `{key}`, by which the list is merged")]
    KeyMissing {
        /// The list, as a JSON pointer.
        path: String,
        /// The field.
        key: String,
    },
    /// A directive that does not exist or stands in the wrong place.
    #[error("`{directive}` is not understood at `{path}`")]
    DirectiveUnknown {
        /// The place, as a JSON pointer.
        path: String,
        /// The directive.
        directive: String,
    },
}

/// `document` with `patch` merged over it.
///
/// # Errors
/// The patch has a directive that does not exist, or an element without its key.
pub fn merged(document: Value, patch: &Value) -> Result<Value, StrategicError> {
    merge_value(document, patch, "")
}

fn merge_value(document: Value, patch: &Value, path: &str) -> Result<Value, StrategicError> {
    match patch {
        Value::Object(patch) => {
            let fields = if let Value::Object(fields) = document { fields } else { Map::new() };
            merge_object(fields, patch, path).map(Value::Object)
        }
        _ => Ok(patch.clone()),
    }
}

fn merge_object(
    mut fields: Map<String, Value>,
    patch: &Map<String, Value>,
    path: &str,
) -> Result<Map<String, Value>, StrategicError> {
    match patch.get(DIRECTIVE).map(|directive| directive.as_str().unwrap_or("?")) {
        None | Some("merge") => {}
        Some("replace") => fields.clear(),
        Some("delete") => return Ok(Map::new()),
        Some(other) => return Err(unknown(path, &format!("$patch: {other}"))),
    }
    if let Some(retained) = patch.get(RETAIN_KEYS) {
        let names = retained.as_array().ok_or_else(|| unknown(path, RETAIN_KEYS))?;
        fields.retain(|name, _| names.iter().any(|retained| retained == name));
    }
    for (name, change) in patch {
        let path = format!("{path}/{name}");
        if let Some(list) = name.strip_prefix(DELETE_PREFIX) {
            let gone = change.as_array().ok_or_else(|| unknown(&path, name))?;
            if let Some(Value::Array(elements)) = fields.get_mut(list) {
                elements.retain(|element| !gone.contains(element));
            }
        } else if name == DIRECTIVE || name == RETAIN_KEYS || name.starts_with(ORDER_PREFIX) {
            // The first two are done; the order of elements has no meaning in the lists merged here.
        } else if name.starts_with('$') {
            return Err(unknown(&path, name));
        } else if change.is_null() {
            fields.shift_remove(name);
        } else {
            let old = fields.get_mut(name).map_or(Value::Null, Value::take);
            let new = match (change, merge_keys(name)) {
                (Value::Array(changes), Some(keys)) if changes.iter().all(Value::is_object) => {
                    let elements = if let Value::Array(elements) = old { elements } else { Vec::new() };
                    Value::Array(merge_list(elements, changes, keys, &path)?)
                }
                _ => merge_value(old, change, &path)?,
            };
            fields.insert(name.clone(), new);
        }
    }
    Ok(fields)
}

fn merge_keys(list: &str) -> Option<&'static [&'static str]> {
    MERGE_KEYS.iter().find(|(name, _)| *name == list).map(|(_, keys)| *keys)
}

fn merge_list(
    mut elements: Vec<Value>,
    changes: &[Value],
    keys: &[&str],
    path: &str,
) -> Result<Vec<Value>, StrategicError> {
    let only_directive = |change: &Value| change.as_object().is_some_and(|fields| fields.len() == 1);
    if changes.iter().any(|change| change[DIRECTIVE] == "replace" && only_directive(change)) {
        return Ok(changes.iter().filter(|change| change.get(DIRECTIVE).is_none()).cloned().collect());
    }
    for change in changes {
        let key = keys[0];
        if change.get(key).is_none() {
            return Err(StrategicError::KeyMissing { path: path.to_owned(), key: key.to_owned() });
        }
        let position = elements.iter().position(|element| same_element(element, change, keys));
        if change[DIRECTIVE] == "delete" {
            // A deletion may name fewer keys than a merge: it takes every element that fits.
            elements.retain(|element| !fits_deletion(element, change, keys));
            continue;
        }
        let old = position.map_or(Value::Null, |position| elements[position].take());
        let new = merge_value(old, change, &format!("{path}/{}", key_text(&change[key])))?;
        match position {
            Some(position) => elements[position] = new,
            None => elements.push(new),
        }
    }
    Ok(elements)
}

fn same_element(element: &Value, change: &Value, keys: &[&str]) -> bool {
    keys.iter().all(|key| key_of(element, key) == key_of(change, key))
}

fn fits_deletion(element: &Value, change: &Value, keys: &[&str]) -> bool {
    keys.iter().all(|key| change.get(key).is_none() || key_of(element, key) == key_of(change, key))
}

fn key_of(element: &Value, key: &str) -> Option<String> {
    let default = KEY_DEFAULTS.iter().find(|(name, _)| *name == key).map(|(_, value)| (*value).to_owned());
    element.get(key).map(key_text).or(default)
}

fn key_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn unknown(path: &str, directive: &str) -> StrategicError {
    StrategicError::DirectiveUnknown { path: path.to_owned(), directive: directive.to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(document: Value, patch: Value, expected: Value) {
        assert_eq!(merged(document, &patch).unwrap(), expected, "{patch}");
    }

    #[test]
    fn lists_with_a_key_are_merged_by_it() {
        check(
            json!({"spec": {"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}]}}),
            json!({"spec": {"containers": [
                {"name": "a", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "3"}]},
                {"name": "b"},
            ]}}),
            json!({"spec": {"containers": [
                {"name": "a", "image": "1", "env": [{"name": "X", "value": "3"}, {"name": "Y", "value": "2"}]},
                {"name": "b"},
            ]}}),
        );
        check(
            json!({"volumeMounts": [{"mountPath": "/a", "name": "x"}]}),
            json!({"volumeMounts": [{"mountPath": "/a", "readOnly": true}]}),
            json!({"volumeMounts": [{"mountPath": "/a", "name": "x", "readOnly": true}]}),
        );
    }

    #[test]
    fn ports_differ_by_number_and_protocol() {
        check(
            json!({"ports": [{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53, "protocol": "TCP"}]}),
            json!({"ports": [{"containerPort": 53, "hostPort": 53}]}),
            json!({"ports": [
                {"containerPort": 53, "protocol": "UDP"},
                {"containerPort": 53, "protocol": "TCP", "hostPort": 53},
            ]}),
        );
    }

    #[test]
    fn other_lists_are_replaced_and_null_removes() {
        check(
            json!({"tolerations": [{"key": "a"}], "command": ["a", "b"], "x": 1}),
            json!({"tolerations": [{"key": "b"}], "command": ["c"], "x": null}),
            json!({"tolerations": [{"key": "b"}], "command": ["c"]}),
        );
    }

    #[test]
    fn directives_delete_and_replace() {
        check(
            json!({"env": [{"name": "A"}, {"name": "B"}]}),
            json!({"env": [{"name": "A", "$patch": "delete"}]}),
            json!({"env": [{"name": "B"}]}),
        );
        check(
            json!({"env": [{"name": "A"}]}),
            json!({"env": [{"$patch": "replace"}, {"name": "C"}]}),
            json!({"env": [{"name": "C"}]}),
        );
        check(
            json!({"resources": {"requests": {"cpu": "1"}, "limits": {}}}),
            json!({"resources": {"$patch": "replace", "requests": {"memory": "1"}}}),
            json!({"resources": {"requests": {"memory": "1"}}}),
        );
        check(
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/a"}}]}),
            json!({"volumes": [{"name": "v", "$retainKeys": ["name", "emptyDir"], "emptyDir": {}}]}),
            json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
        );
        check(
            json!({"finalizers": ["a", "b"]}),
            json!({"$deleteFromPrimitiveList/finalizers": ["a"], "$setElementOrder/env": [{"name": "A"}]}),
            json!({"finalizers": ["b"]}),
        );
    }

    #[test]
    fn a_wrong_patch_is_refused_with_its_place() {
        let error = merged(json!({}), &json!({"spec": {"containers": [{"image": "x"}]}})).unwrap_err();
        assert_eq!(error.to_string(), "an element of `/spec/containers` has no `name`, by which the list is merged");
        let error = merged(json!({}), &json!({"spec": {"$patch": "remove"}})).unwrap_err();
        assert_eq!(error.to_string(), "`$patch: remove` is not understood at `/spec`");
    }
}
