//! How schemas and nodes are put into words, and the small questions about them.

use serde_json::Value;

use super::{Node, NodeKind, resolve};

/// Whether a node has one of the types a schema allows.
pub(super) fn fits(node: &Node, schema: &Value) -> bool {
    if schema["oneOf"].is_array() || schema["enum"].is_array() && schema["type"].is_null() {
        return !matches!(node.kind, NodeKind::Scalar(Value::Null));
    }
    let actual = match &node.kind {
        NodeKind::Scalar(Value::Null) => "null",
        NodeKind::Scalar(Value::Bool(_)) => "boolean",
        NodeKind::Scalar(Value::Number(number)) if number.is_i64() || number.is_u64() => "integer",
        NodeKind::Scalar(Value::Number(_)) => "number",
        NodeKind::Scalar(_) => "string",
        NodeKind::List(_) => "array",
        NodeKind::Mapping(_) => "object",
    };
    let allowed = types(schema);
    allowed.is_empty() || allowed.contains(&actual) || actual == "integer" && allowed.contains(&"number")
}

fn types(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(single) => vec![single],
        Value::Array(several) => names(several),
        _ => Vec::new(),
    }
}

/// What a schema allows, for a message.
pub(super) fn wanted_types(schema: &Value, root: &Value) -> String {
    let options = schema["anyOf"].as_array().map_or(std::slice::from_ref(schema), Vec::as_slice);
    let mut words: Vec<&str> = Vec::new();
    for option in options {
        for name in types(resolve(option, root).1) {
            let word = match name {
                "string" => "a text",
                "integer" => "a whole number",
                "number" => "a number",
                "boolean" => "true or false",
                "array" => "a list",
                "object" => "a mapping",
                _ => continue,
            };
            if !words.contains(&word) {
                words.push(word);
            }
        }
    }
    words.join(" or ")
}

/// What a node is, for a message.
pub(super) fn found(node: &Node) -> String {
    match &node.kind {
        NodeKind::Scalar(Value::Null) => "empty".into(),
        NodeKind::Scalar(Value::Bool(value)) => format!("the boolean {value}"),
        NodeKind::Scalar(Value::Number(value)) => format!("the number {value}"),
        NodeKind::Scalar(_) => "a text".into(),
        NodeKind::List(_) => "a list".into(),
        NodeKind::Mapping(_) => "a mapping".into(),
    }
}

/// The texts of a list.
pub(super) fn names(list: &[Value]) -> Vec<&str> {
    list.iter().filter_map(Value::as_str).collect()
}

/// All words that a schema allows, if it allows only words.
pub(super) fn constants(schema: &Value) -> Vec<&str> {
    match (&schema["const"], schema["enum"].as_array(), schema["oneOf"].as_array()) {
        (Value::String(word), ..) => vec![word],
        (_, Some(words), _) => names(words),
        (_, _, Some(options)) => options.iter().flat_map(constants).collect(),
        _ => Vec::new(),
    }
}

/// A description without its line breaks.
pub(super) fn one_line(description: &str) -> String {
    description.replace('\n', " ")
}

/// Whether YAML 1.1 readers take an unquoted text for a boolean.
pub(super) fn is_loose_boolean(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "yes" | "no" | "on" | "off" | "y" | "n")
}

/// Whether a number is written so that YAML 1.1 readers take it for octal.
pub(super) fn has_leading_zero(written: &str) -> bool {
    let digits = written.trim_start_matches(['-', '+']);
    digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit())
}

/// Where in a plan file there is a field of that name, as `network.podCidrs`.
pub(super) fn elsewhere(name: &str, root: &Value) -> Option<String> {
    search(name, root, root, "", 0)
}

fn search(name: &str, schema: &Value, root: &Value, path: &str, depth: usize) -> Option<String> {
    let (_, schema) = resolve(schema, root);
    if depth > 6 {
        return None;
    }
    let properties: Vec<_> = schema["properties"].as_object().into_iter().flatten().collect();
    let full = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    if let Some((key, _)) = properties.iter().find(|(key, _)| *key == name) {
        return Some(full(key));
    }
    let branches = ["anyOf", "oneOf"].into_iter().filter_map(|key| schema[key].as_array()).flatten();
    properties
        .iter()
        .find_map(|(key, below)| search(name, below, root, &full(key), depth + 1))
        .or_else(|| search(name, schema.get("items")?, root, &format!("{path}[]"), depth + 1))
        .or_else(|| branches.into_iter().find_map(|branch| search(name, branch, root, path, depth + 1)))
}
