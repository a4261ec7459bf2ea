//! Fields whose schema is a choice: a word (`none`), or a mapping whose single key says which
//! kind it is (`flannel: {…}`).

use serde_json::Value;

use super::words::{self, found};
use super::{FieldPath, Node, NodeKind, Walk};

impl<'a> Walk<'a> {
    pub(super) fn choice(&mut self, node: &Node, options: &'a [Value], path: &FieldPath) {
        let words: Vec<&str> = options.iter().flat_map(words::constants).collect();
        let kinds: Vec<(&str, &'a Value)> =
            options.iter().filter_map(|option| option["properties"].as_object()).flatten().map(|(key, value)| (key.as_str(), value)).collect();
        match &node.kind {
            NodeKind::Scalar(Value::String(text)) if words.contains(&text.as_str()) => {}
            NodeKind::Scalar(Value::String(text)) => {
                if kinds.iter().any(|(kind, _)| kind == text) {
                    let hint = Some(format!("write `{text}: {{}}`, or its settings below `{text}:`"));
                    let message = format!("`{text}` is a mapping here, not a word");
                    self.problem("wrong-type", path, node.place, message, hint);
                } else {
                    let known: Vec<&str> = words.into_iter().chain(kinds.iter().map(|(kind, _)| *kind)).collect();
                    self.unknown_word(text, &known, node.place, path);
                }
            }
            NodeKind::Mapping(entries) if !kinds.is_empty() => {
                if entries.len() != 1 {
                    let names: Vec<&str> = kinds.iter().map(|(kind, _)| *kind).collect();
                    let message = format!("exactly one of these is wanted here: {}", names.join(", "));
                    let place = entries.get(1).map_or(node.place, |(_, place, _)| *place);
                    return self.problem("choose-one", path, place, message, None);
                }
                let (key, place, value) = &entries[0];
                if let Some((_, schema)) = kinds.iter().find(|(kind, _)| kind == key) {
                    self.node(value, schema, &path.key(key));
                } else if words.contains(&key.as_str()) {
                    let message = format!("`{key}` takes no settings");
                    self.problem("wrong-type", path, *place, message, Some(format!("write just `{key}`")));
                } else {
                    let known: Vec<&str> = kinds.iter().map(|(kind, _)| *kind).chain(words).collect();
                    self.unknown_word(key, &known, *place, &path.key(key));
                }
            }
            _ => {
                let known: Vec<&str> = words.into_iter().chain(kinds.iter().map(|(kind, _)| *kind)).collect();
                let message = format!("one of {} is wanted here, but this is {}", known.join(", "), found(node));
                self.problem("wrong-type", path, node.place, message, None);
            }
        }
    }
}
