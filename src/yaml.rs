//! All YAML goes through here, so that the library behind it is one file's business.
//!
//! Reading comes in two kinds: documents that users or other tools hand us are read as Kubernetes
//! reads them; the plan file is read strictly by `plan::load`, which has its own options here.

use serde::Serialize;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};
use serde_saphyr::{MessageFormatter, Spanned};
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};

/// Why a text is not the YAML it should be. The text never quotes the source, which may be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct YamlError {
    /// What is wrong, with its line and column where they are known.
    pub message: String,
}

/// Reads one document the way Kubernetes does (`yes` is true, `0644` is octal). It may be a host's:
/// what aliases and nesting make of the text is limited.
///
/// # Errors
/// The text is not YAML, or not of the wanted shape.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        with_snippet: false,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 200_000 },
        budget: serde_saphyr::budget! { max_nodes: 2_000_000, max_events: 5_000_000, max_depth: 100, max_aliases: 10_000 },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| YamlError { message: error.to_string() })
}

/// Reads all documents of a stream; empty ones are left out.
///
/// # Errors
/// The text is not YAML.
pub fn read_all(text: &str) -> Result<Vec<Value>, YamlError> {
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        with_snippet: false,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 200_000 },
        budget: serde_saphyr::budget! { max_nodes: 2_000_000, max_events: 5_000_000, max_depth: 100, max_aliases: 10_000 },
    };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| YamlError { message: error.to_string() })?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// A place in a text: where a node starts and how far it reaches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// Counted from 1; 0 where nothing is known.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// The first byte.
    pub start: usize,
    /// The byte after the last one; equal to `start` for a mapping or list written as a block.
    pub end: usize,
}

/// A node of a document, with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it is.
    pub place: Place,
    /// What it is.
    pub kind: NodeKind,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeKind {
    /// Null, a boolean, a number or a text.
    Scalar(Value),
    /// A list.
    List(Vec<Node>),
    /// A mapping in the order written: key, the key's place, value.
    Mapping(Vec<(String, Place, Node)>),
}

impl Node {
    /// The same without places.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match &self.kind {
            NodeKind::Scalar(value) => value.clone(),
            NodeKind::List(items) => items.iter().map(Self::to_value).collect(),
            NodeKind::Mapping(entries) => {
                Value::Object(entries.iter().map(|(key, _, node)| (key.clone(), node.to_value())).collect())
            }
        }
    }
}

/// Why a text could not be read strictly, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PlacedError {
    /// What is wrong, without the place.
    pub message: String,
    /// Where, as far as it is known.
    pub place: Place,
}

/// Reads one document that a person wrote for slipway: only `true` and `false` are booleans,
/// unknown tags, merge keys and repeated keys are errors, and the size of what aliases and
/// nesting make of the text is limited.
///
/// # Errors
/// The text is not YAML, or beyond a limit.
pub fn read_strictly(text: &str) -> Result<Node, PlacedError> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 20_000 },
        budget: serde_saphyr::budget! { max_nodes: 400_000, max_events: 1_000_000, max_depth: 40, max_aliases: 1_000 },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| PlacedError {
        place: error.location().map(place).unwrap_or_default(),
        message: serde_saphyr::DefaultMessageFormatter.format_message(&error).replace(char::is_control, " "),
    })
}

fn place(location: serde_saphyr::Location) -> Place {
    // The library marks what it does not know with numbers that are out of any range.
    let known = |number: Option<u64>| number.and_then(|n| usize::try_from(n).ok()).filter(|n| *n < u32::MAX as usize);
    let start = known(location.span().byte_offset()).unwrap_or_default();
    Place {
        line: known(Some(location.line())).unwrap_or_default(),
        column: known(Some(location.column())).unwrap_or_default(),
        start,
        end: start + known(location.span().byte_len()).unwrap_or_default(),
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<NodeKind>::deserialize(deserializer)?;
        Ok(Self { place: place(spanned.referenced), kind: spanned.value })
    }
}

impl<'de> Deserialize<'de> for NodeKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = NodeKind;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a YAML node")
    }
    fn visit_unit<E>(self) -> Result<NodeKind, E> {
        Ok(NodeKind::Scalar(Value::Null))
    }
    fn visit_bool<E>(self, value: bool) -> Result<NodeKind, E> {
        Ok(NodeKind::Scalar(value.into()))
    }
    fn visit_i64<E>(self, value: i64) -> Result<NodeKind, E> {
        Ok(NodeKind::Scalar(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<NodeKind, E> {
        Ok(NodeKind::Scalar(value.into()))
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<NodeKind, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a number without a value"))?;
        Ok(NodeKind::Scalar(Value::Number(number)))
    }
    fn visit_str<E>(self, value: &str) -> Result<NodeKind, E> {
        Ok(NodeKind::Scalar(value.into()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<NodeKind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
        }
        Ok(NodeKind::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<NodeKind, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            entries.push((key.value, place(key.referenced), map.next_value()?));
        }
        Ok(NodeKind::Mapping(entries))
    }
}

/// Writes one document that Kubernetes' own reader reads back unchanged.
#[must_use]
pub fn write(value: &impl Serialize) -> String {
    // A block scalar whose first line starts with a tab is refused by libyaml-type readers. Reading all
    // back takes five times as long as writing it, so it is done only where there may be one.
    let text = write_with(value, true);
    if !text.lines().any(begins_block_scalar) {
        return text;
    }
    if read::<Value>(&text).is_ok() && !text.lines().any(|line| line.trim_start_matches(' ').starts_with('\t')) {
        text
    } else {
        write_with(value, false)
    }
}

/// Whether a line ends in the word a block scalar begins with (YAML 1.2, 8.1.1). Other lines may end in
/// such a word too, which costs time only.
fn begins_block_scalar(line: &str) -> bool {
    line.rsplit(' ').next().is_some_and(|word| word.starts_with(['|', '>']))
}

fn write_with(value: &impl Serialize, prefer_block_scalars: bool) -> String {
    let options = serde_saphyr::ser_options! {
        folded_wrap_chars: usize::MAX,
        prefer_block_scalars: prefer_block_scalars,
    };
    let mut text = String::new();
    serde_saphyr::to_fmt_writer_with_options(&mut text, value, options).expect("documents hold nothing YAML cannot say");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn awkward_strings_survive() {
        for text in ["|", ">-", "a >", "\t|\n\ta\n", "a\n\tb\n\n", " a\n b\n", "yes", "no", "on", "n", "1_000", "0644", "1.20", "", " a", "a: b", "#c", "\ttab\nline", "a\n\nb\n", "null", "~", "é"] {
            let value = serde_json::json!({ "key": text, text: 1 });
            assert_eq!(read::<Value>(&write(&value)).unwrap(), value, "{text:?}");
        }
    }

    #[test]
    fn strict_reading_keeps_places() {
        let node = read_strictly("a: 1\nb:\n  - x\n  - {c: \"é\", d: ~}\n").unwrap();
        assert_eq!(node.to_value(), serde_json::json!({ "a": 1, "b": ["x", { "c": "é", "d": null }] }));
        let NodeKind::Mapping(entries) = &node.kind else { panic!() };
        assert_eq!(entries[1].1, Place { line: 2, column: 1, start: 5, end: 6 });
        let NodeKind::List(items) = &entries[1].2.kind else { panic!() };
        assert_eq!(items[0].place, Place { line: 3, column: 5, start: 12, end: 13 });
    }

    #[test]
    fn strict_reading_refuses_what_is_ambiguous_and_what_is_too_much() {
        for (text, wanted) in [
            ("a: 1\na: 2\n", "duplicate mapping key: a"),
            ("a: !thing 1\n", "tag"),
            ("<<: {a: 1}\n", "merge"),
            ("a: [\n", "unclosed bracket"),
            (&"[".repeat(5000), "limit exceeded"),
        ] {
            let error = read_strictly(text).unwrap_err();
            assert!(error.message.to_lowercase().contains(wanted), "{text:.20}: {error}");
        }
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
        for level in 1..12 {
            let inner = vec![format!("*a{}", level - 1); 9].join(",");
            bomb.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
        }
        let started = std::time::Instant::now();
        assert!(read_strictly(&bomb).is_err());
        assert!(started.elapsed().as_secs() < 2, "an alias bomb is refused quickly");
    }

    #[test]
    fn documents_are_read_as_kubernetes_reads_them() {
        assert_eq!(read::<Value>("mode: 0644").unwrap()["mode"], 420);
        assert_eq!(read_all("a: 1\n---\n---\nb: 2\n").unwrap().len(), 2);
    }
}
