//! Checks the shape of a plan file against its schema and collects everything that is wrong with
//! it: unknown and missing fields, wrong types, unknown words, malformed names. A file without a
//! problem here is one that the typed reader accepts.

use std::collections::BTreeSet;
use std::str::FromStr;

use serde_json::Value;

use super::field::FieldPath;
use super::problem::Problems;
use super::schema::{SCHEMA, resolve};
use super::suggestion::nearest;
use crate::names::{ClusterName, Digest, HostName, KubernetesVersion, RemotePath, Span};
use crate::yaml::{Node, NodeKind, Place};

mod choice;
mod words;

use words::{found, names, wanted_types};

/// What is wrong with the shape of a file.
pub(super) struct Findings {
    /// What is wrong.
    pub problems: Problems,
    /// Fields that could not be used.
    pub unusable: Vec<FieldPath>,
    /// Known fields that an unknown one was probably meant to be.
    pub probably_meant: Vec<FieldPath>,
}

/// Checks a whole file.
pub(super) fn check(root: &Node, text: &str) -> Findings {
    let findings = Findings { problems: Problems::default(), unusable: Vec::new(), probably_meant: Vec::new() };
    let mut walk = Walk { text, schema: &SCHEMA, findings };
    walk.node(root, &SCHEMA, &FieldPath::default());
    walk.findings
}

struct Walk<'a> {
    text: &'a str,
    schema: &'a Value,
    findings: Findings,
}

impl<'a> Walk<'a> {
    fn problem(&mut self, code: &'static str, path: &FieldPath, place: Place, message: String, hint: Option<String>) {
        self.findings.unusable.push(path.clone());
        let problem = self.findings.problems.error(code, path.clone(), message);
        problem.hint = hint;
        // Mappings and lists have no extent: their place is that of their key, found later.
        if place.end > place.start {
            problem.at(place);
        }
    }

    fn node(&mut self, node: &Node, schema: &'a Value, path: &FieldPath) {
        let (name, schema) = resolve(schema, self.schema);
        if let Some(options) = schema["anyOf"].as_array() {
            let fitting = options.iter().find(|option| words::fits(node, resolve(option, self.schema).1));
            return match fitting.or_else(|| options.iter().find(|option| option["type"] != "null")) {
                Some(option) if fitting.is_some() || resolve(option, self.schema).0.is_some() => self.node(node, option, path),
                _ => self.wrong_type(node, schema, path),
            };
        }
        if let Some(options) = schema["oneOf"].as_array() {
            return self.choice(node, options, path);
        }
        if let Some((message, hint)) = self.ambiguity(node) {
            return self.problem("ambiguous-scalar", path, node.place, message, Some(hint));
        }
        if !words::fits(node, schema) {
            return self.wrong_type(node, schema, path);
        }
        match &node.kind {
            NodeKind::Scalar(value) => self.scalar(value, node.place, schema, name, path),
            NodeKind::List(items) => self.list(node, items, schema, path),
            NodeKind::Mapping(entries) => self.mapping(node, entries, schema, path),
        }
    }

    fn wrong_type(&mut self, node: &Node, schema: &Value, path: &FieldPath) {
        let mut hint = None;
        let wanted = wanted_types(schema, self.schema);
        if let NodeKind::Scalar(value) = &node.kind {
            if wanted.contains("text") && (value.is_number() || value.is_boolean()) {
                hint = Some(format!("put it in quotes: \"{}\"", self.source(node.place)));
            } else if wanted.contains("true or false") && value.is_string() {
                hint = Some("write `true` or `false`, without quotes".into());
            } else if wanted.contains("list") && !value.is_null() {
                hint = Some(format!("a list of one: [{}]", self.source(node.place)));
            }
        }
        self.problem("wrong-type", path, node.place, format!("{wanted} is wanted here, but this is {}", found(node)), hint);
    }

    fn source(&self, place: Place) -> &'a str {
        self.text.get(place.start..place.end).unwrap_or_default()
    }

    /// Scalars that other YAML readers, Kubernetes' among them, take for something else; with a hint.
    fn ambiguity(&self, node: &Node) -> Option<(String, String)> {
        let NodeKind::Scalar(value) = &node.kind else { return None };
        let written = self.source(node.place);
        let (message, hint) = match value {
            Value::String(text) if text == written && words::is_loose_boolean(text) => (
                format!("`{text}` is true or false to some YAML readers and a text to others"),
                format!("write `true` or `false`, or \"{text}\" in quotes for a text"),
            ),
            Value::Number(_) if words::has_leading_zero(written) => (
                format!("`{written}` is octal to some YAML readers and decimal to others"),
                format!("leave out the zeros in front, or write \"{written}\" in quotes for a text"),
            ),
            _ => return None,
        };
        Some((message, hint))
    }

    fn scalar(&mut self, value: &Value, place: Place, schema: &Value, name: Option<&str>, path: &FieldPath) {
        let wrong = if let Some(text) = value.as_str() {
            let free = schema["type"].is_null() || path.to_string().ends_with("corefile");
            if let Some(character) = text.chars().find(|c| c.is_control() && !(free && matches!(c, '\n' | '\t'))) {
                let message = format!("the text holds the control character {character:?}");
                return self.problem("control-character", path, place, message, None);
            }
            if let Some(words) = schema["enum"].as_array() {
                let known = names(words);
                if !known.contains(&text) {
                    return self.unknown_word(text, &known, place, path);
                }
            }
            malformed(name, text)
        } else {
            out_of_range(value, schema)
        };
        if let Some((code, message)) = wrong {
            self.problem(code, path, place, message, None);
        }
    }

    fn unknown_word(&mut self, word: &str, known: &[&str], place: Place, path: &FieldPath) {
        let hint = match nearest(word, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("one of: {}", known.join(", ")),
        };
        self.problem("unknown-value", path, place, format!("`{}` is not known here", word.escape_debug()), Some(hint));
    }

    fn list(&mut self, node: &Node, items: &[Node], schema: &'a Value, path: &FieldPath) {
        if schema["minItems"].as_u64().is_some_and(|least| (items.len() as u64) < least) {
            self.problem("empty-list", path, node.place, "the list is empty, but needs at least one item".into(), None);
        }
        let mut seen = BTreeSet::new();
        for (index, item) in items.iter().enumerate() {
            let path = path.index(index);
            self.node(item, &schema["items"], &path);
            if schema["uniqueItems"] == true && !seen.insert(item.to_value().to_string()) {
                self.problem("duplicate-item", &path, item.place, "this is in the list already".into(), None);
            }
        }
    }

    fn mapping(&mut self, node: &Node, entries: &[(String, Place, Node)], schema: &'a Value, path: &FieldPath) {
        let properties = schema["properties"].as_object();
        for (key, place, value) in entries {
            let below = path.key(key);
            if key.chars().any(char::is_control) {
                self.problem("control-character", &below, *place, "the name holds a control character".into(), None);
            } else if let Some(property) = properties.and_then(|properties| properties.get(key)) {
                self.node(value, property, &below);
            } else if schema["additionalProperties"] == false {
                self.unknown_field(key, *place, schema, path);
            } else {
                let (_, key_schema) = resolve(&schema["propertyNames"], self.schema);
                let known = words::constants(key_schema);
                if !known.is_empty() && !known.contains(&key.as_str()) {
                    self.unknown_word(key, &known, *place, &below);
                } else {
                    self.node(value, &schema["additionalProperties"], &below);
                }
            }
        }
        for required in schema["required"].as_array().map(|list| names(list)).unwrap_or_default() {
            if !entries.iter().any(|(key, ..)| key == required) {
                let message = match path.to_string().as_str() {
                    "" => format!("the field `{required}` is missing"),
                    path => format!("`{path}` needs the field `{required}`"),
                };
                let first = entries.first().map_or(node.place, |(_, place, _)| *place);
                let hint = properties.and_then(|p| p[required]["description"].as_str()).map(words::one_line);
                self.problem("missing-field", &path.key(required), first, message, hint);
            }
        }
    }

    fn unknown_field(&mut self, key: &str, place: Place, schema: &Value, path: &FieldPath) {
        let known: Vec<&str> = schema["properties"].as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
        let hint = if let Some(near) = nearest(key, known.iter().copied()) {
            self.findings.probably_meant.push(path.key(near));
            format!("did you mean `{near}`?")
        } else if let Some(elsewhere) = words::elsewhere(key, self.schema) {
            format!("there is a field `{elsewhere}`")
        } else {
            format!("the fields here: {}", known.join(", "))
        };
        let place_name = match path.to_string().as_str() {
            "" => "a plan file".to_owned(),
            path => format!("`{path}`"),
        };
        let message = format!("{place_name} has no field `{}`", key.escape_debug());
        self.problem("unknown-field", &path.key(key), place, message, Some(hint));
    }
}

/// Names are checked by the very functions that read them; the schema's patterns are for editors.
fn malformed(name: Option<&str>, text: &str) -> Option<(&'static str, String)> {
    fn check<T: FromStr<Err: ToString>>(text: &str) -> Option<String> {
        text.parse::<T>().err().map(|error| error.to_string())
    }
    let message = match name? {
        "HostName" => check::<HostName>(text),
        "ClusterName" => check::<ClusterName>(text),
        "RemotePath" => check::<RemotePath>(text),
        "KubernetesVersion" => check::<KubernetesVersion>(text),
        "Digest" => check::<Digest>(text),
        "Span" => check::<Span>(text),
        "Address" => check::<std::net::IpAddr>(text).map(|_| format!("`{text}` is not an IP address")),
        "Cidr" => check::<ipnet::IpNet>(text).map(|_| format!("`{text}` is not a network like 10.244.0.0/16")),
        _ => None,
    };
    message.map(|message| ("malformed", message))
}

fn out_of_range(value: &Value, schema: &Value) -> Option<(&'static str, String)> {
    let number = value.as_number()?.as_i128()?;
    let limit = |name: &str| schema[name].as_i64().map(i128::from);
    let most = limit("maximum").or(match schema["format"].as_str() {
        Some("uint32") => Some(u32::MAX.into()),
        _ => None,
    });
    let message = match (limit("minimum"), most) {
        (Some(least), Some(most)) if least == most && number != least => format!("this must be {least}"),
        (Some(least), Some(most)) if number < least || number > most => format!("{number} is not between {least} and {most}"),
        (Some(least), None) if number < least => format!("{number} is less than {least}"),
        _ => return None,
    };
    Some(("out-of-range", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_of_the_schema_has_its_check() {
        for (name, schema) in SCHEMA["$defs"].as_object().unwrap() {
            if schema["pattern"].is_string() {
                assert!(malformed(Some(name), "\u{1}").is_some(), "{name} has a pattern but no check");
            }
        }
    }
}
