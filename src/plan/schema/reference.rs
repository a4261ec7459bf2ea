//! The reference of the plan file for people, made from its schema.

use std::collections::VecDeque;
use std::fmt::Write as _;

use serde_json::Value;

use super::{SCHEMA, resolve};

const OPENING: &str = "\
# The plan file

Every field of a plan file, made from the types that read it (`SLIPWAY_BLESS=1 cargo test --lib
reference` writes this file anew). `slipway schema` prints the same as a JSON Schema, with which
editors check a plan while it is typed. Examples are in [plans/](../plans).

Unknown fields are errors. Relative names of local files count from the directory of the plan
file, `~/` from the user's home. Texts that YAML readers could take for something else (`yes`,
`1.20`) must be in quotes.
";

/// One section: a mapping or a choice, and where it is used.
struct Section<'a> {
    name: &'a str,
    schema: &'a Value,
    paths: Vec<String>,
}

/// The reference as Markdown.
#[must_use]
pub fn reference_markdown() -> String {
    let sections = sections();
    let mut text = OPENING.to_owned();
    for section in &sections {
        if section.paths[0].is_empty() {
            text.push_str("\n## At the top\n\n");
        } else {
            let _ = write!(text, "\n## {}\n\n", heading(section));
        }
        if let Some(description) = section.schema["description"].as_str() {
            let _ = writeln!(text, "{}\n", one_line(description));
        }
        match section.schema["oneOf"].as_array() {
            Some(options) => choice(&mut text, options, &sections),
            None => fields(&mut text, section.schema, &sections),
        }
    }
    text
}

fn heading(section: &Section) -> String {
    section.paths.iter().map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ")
}

/// All mappings and choices that a plan file can hold, from the top down, each once.
fn sections() -> Vec<Section<'static>> {
    let mut sections: Vec<Section> = Vec::new();
    let mut waiting = VecDeque::from([(String::new(), &*SCHEMA)]);
    while let Some((path, schema)) = waiting.pop_front() {
        let (name, schema) = resolve(schema, &SCHEMA);
        let has_section = schema["properties"].is_object() || schema["oneOf"].is_array();
        if has_section && (name.is_some() || path.is_empty()) {
            let name = name.unwrap_or_default();
            if let Some(known) = sections.iter_mut().find(|section| section.name == name) {
                if !known.paths.contains(&path) {
                    known.paths.push(path);
                }
                continue;
            }
            sections.push(Section { name, schema, paths: vec![path.clone()] });
        }
        let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            waiting.push_back((below(key), property));
        }
        for option in ["oneOf", "anyOf"].into_iter().filter_map(|key| schema[key].as_array()).flatten() {
            waiting.push_back((path.clone(), option));
        }
        if schema["items"].is_object() {
            waiting.push_back((format!("{path}[]"), &schema["items"]));
        }
        if schema["propertyNames"].is_object() {
            waiting.push_back((format!("{path} (names)"), &schema["propertyNames"]));
        }
        if schema["additionalProperties"].is_object() {
            waiting.push_back((format!("{path}.*"), &schema["additionalProperties"]));
        }
    }
    sections
}

fn fields(text: &mut String, schema: &Value, sections: &[Section]) {
    let Some(properties) = schema["properties"].as_object().filter(|properties| !properties.is_empty()) else { return };
    text.push_str("| Field | Type | Default | Meaning |\n|---|---|---|---|\n");
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (key, property) in properties {
        let default = if required.contains(&key.as_str()) { "**required**".to_owned() } else { default(property) };
        let meaning = one_line(property["description"].as_str().unwrap_or_default());
        let _ = writeln!(text, "| `{key}` | {} | {default} | {meaning} |", kind(property, sections));
    }
}

fn choice(text: &mut String, options: &[Value], sections: &[Section]) {
    text.push_str("| Choice | Meaning |\n|---|---|\n");
    for option in options {
        let meaning = one_line(option["description"].as_str().unwrap_or_default());
        for word in option["const"].as_str().into_iter().chain(option["enum"].as_array().into_iter().flatten().filter_map(Value::as_str)) {
            let _ = writeln!(text, "| `{word}` | {meaning} |");
        }
        for (key, settings) in option["properties"].as_object().into_iter().flatten() {
            let settings = if settings["properties"].is_object() { "{…}".to_owned() } else { kind(settings, sections) };
            let _ = writeln!(text, "| `{key}:` {settings} | {meaning} |");
        }
    }
    for (key, settings) in options.iter().filter_map(|option| option["properties"].as_object()).flatten() {
        if settings["properties"].as_object().is_some_and(|properties| !properties.is_empty()) {
            let _ = write!(text, "\nBelow `{key}`:\n\n");
            fields(text, settings, sections);
        }
    }
}

/// The type of a field in words.
fn kind(schema: &Value, sections: &[Section]) -> String {
    let (name, target) = resolve(schema, &SCHEMA);
    if let Some(section) = name.and_then(|name| sections.iter().find(|section| section.name == name)) {
        let word = if target["oneOf"].is_array() { "choice" } else { "mapping" };
        return format!("[{word}](#{})", anchor(&heading(section)));
    }
    if let Some(words) = name.and_then(known_text) {
        return words.into();
    }
    if let Some(options) = target["anyOf"].as_array() {
        let kinds: Vec<String> = options.iter().filter(|option| option["type"] != "null").map(|option| kind(option, sections)).collect();
        return kinds.join(" or ");
    }
    let types = match &target["type"] {
        Value::String(single) => vec![single.as_str()],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => return "anything".into(),
    };
    let words: Vec<String> = types
        .into_iter()
        .filter_map(|name| match name {
            "string" => Some("text".into()),
            "integer" => Some("whole number".into()),
            "boolean" => Some("`true` or `false`".into()),
            "array" => Some(format!("list of {}", kind(&target["items"], sections))),
            "object" if target["additionalProperties"].is_object() => Some(format!(
                "mapping of {} to {}",
                if target["propertyNames"].is_object() { kind(&target["propertyNames"], sections) } else { "text".into() },
                kind(&target["additionalProperties"], sections)
            )),
            "object" => Some("any mapping".into()),
            _ => None,
        })
        .collect();
    words.join(", ")
}

/// Texts of a certain form, by the name of their schema.
fn known_text(name: &str) -> Option<&'static str> {
    Some(match name {
        "ClusterName" => "text (DNS label)",
        "HostName" => "text (DNS name)",
        "KubernetesVersion" => "text (`v1.34.2`)",
        "RemotePath" => "text (absolute path on a host)",
        "Digest" => "text (SHA-256, 64 hexadecimal digits)",
        "Span" => "text (`90s`, `10m`, `8760h`)",
        "Address" => "text (IP address)",
        "ArgumentValues" => "text, whole number, `true` or `false`, or a list of those",
        "Cidr" => "text (`10.244.0.0/16`)",
        _ => return None,
    })
}

/// The default in words; that of a mapping stands with its own fields.
fn default(property: &Value) -> String {
    match &property["default"] {
        Value::Object(_) if resolve(property, &SCHEMA).1["oneOf"].is_null() => String::new(),
        Value::Null => String::new(),
        Value::Array(items) if items.is_empty() => "`[]`".into(),
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}

fn one_line(description: &str) -> String {
    description.replace('\n', " ").replace('|', "\\|")
}

/// The anchor GitHub gives a heading.
fn anchor(heading: &str) -> String {
    heading.to_lowercase().chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ')).collect::<String>().replace(' ', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_reference_is_the_generated_one() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/plan-file.md");
        let wanted = reference_markdown();
        if std::env::var_os("SLIPWAY_BLESS").is_some() {
            std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/docs")).unwrap();
            std::fs::write(file, &wanted).unwrap();
        }
        let found = std::fs::read_to_string(file).unwrap_or_default();
        assert!(found == wanted, "docs/plan-file.md is old: SLIPWAY_BLESS=1 cargo test --lib reference writes it anew");
    }

    #[test]
    fn every_link_of_the_reference_has_its_heading() {
        let text = reference_markdown();
        let anchors: Vec<String> = text.lines().filter_map(|line| line.strip_prefix("## ")).map(anchor).collect();
        let links: Vec<&str> = text.split("](#").skip(1).filter_map(|rest| rest.split(')').next()).collect();
        assert!(links.len() > 20);
        for link in links {
            assert!(anchors.iter().any(|anchor| anchor == link), "{link}");
        }
    }

    #[test]
    fn every_field_is_described() {
        fn undescribed(schema: &Value, path: &str, found: &mut Vec<String>) {
            for (key, value) in schema["properties"].as_object().into_iter().flatten() {
                if !value["description"].is_string() {
                    found.push(format!("{path}.{key}"));
                }
            }
        }
        let mut found = Vec::new();
        undescribed(&SCHEMA, "", &mut found);
        for (name, schema) in SCHEMA["$defs"].as_object().unwrap() {
            undescribed(schema, name, &mut found);
        }
        assert_eq!(found, Vec::<String>::new());
    }
}
