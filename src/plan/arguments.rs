//! The value of a command-line flag in the plan file: text, number, boolean, or a list of those.

use std::fmt;

use schemars::JsonSchema;
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

/// What follows `--flag=`: one value, several for a repeated flag, none to remove a generated one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArgumentValues(pub Vec<String>);

impl From<&str> for ArgumentValues {
    fn from(value: &str) -> Self {
        Self(vec![value.to_owned()])
    }
}

struct ArgumentVisitor;

impl<'de> Visitor<'de> for ArgumentVisitor {
    type Value = ArgumentValues;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a whole number, true or false, or a list of those")
    }
    fn visit_str<E: Error>(self, value: &str) -> Result<ArgumentValues, E> {
        Ok(ArgumentValues(vec![value.to_owned()]))
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<ArgumentValues, E> {
        Ok(ArgumentValues(vec![value.to_string()]))
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<ArgumentValues, E> {
        Ok(ArgumentValues(vec![value.to_string()]))
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<ArgumentValues, E> {
        Ok(ArgumentValues(vec![value.to_string()]))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<ArgumentValues, A::Error> {
        let mut values = Vec::new();
        while let Some(ArgumentValues(more)) = sequence.next_element()? {
            values.extend(more);
        }
        Ok(ArgumentValues(values))
    }
}

impl<'de> Deserialize<'de> for ArgumentValues {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ArgumentVisitor)
    }
}

impl Serialize for ArgumentValues {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [single] => serializer.serialize_str(single),
            several => serializer.collect_seq(several),
        }
    }
}

impl JsonSchema for ArgumentValues {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ArgumentValues".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [
                { "type": ["string", "integer", "boolean"] },
                { "type": "array", "items": { "type": ["string", "integer", "boolean"] } }
            ]
        })
    }
}
