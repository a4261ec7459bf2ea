//! The plan file's format as documents: a JSON Schema for editors (and for `structure`, which
//! checks plan files against it) and the reference for people. Both are made from the types of
//! `plan`, so they cannot drift from what is read.

use std::borrow::Cow;
use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::{Plan, Program, Source};

pub mod reference;

/// The schema of a plan file (JSON Schema, draft 2020-12).
#[must_use]
pub fn json_schema() -> Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Plan>().to_value();
    schema["title"] = "slipway plan file".into();
    schema
}

/// The same schema, made once.
pub(super) static SCHEMA: LazyLock<Value> = LazyLock::new(json_schema);

/// The schema that a `$ref` of the plan file's schema stands for, and its name; other schemas
/// stand for themselves.
pub(super) fn resolve<'a>(schema: &'a Value, root: &'a Value) -> (Option<&'a str>, &'a Value) {
    match schema["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/$defs/")) {
        Some(name) => (Some(name), &root["$defs"][name]),
        None => (None, schema),
    }
}

/// Schema of an IP address as text.
#[derive(Debug)]
pub enum AddressText {}

impl JsonSchema for AddressText {
    fn schema_name() -> Cow<'static, str> {
        "Address".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9a-fA-F.:]+$" })
    }
}

/// Schema of a network in CIDR notation.
#[derive(Debug)]
pub enum NetworkText {}

impl JsonSchema for NetworkText {
    fn schema_name() -> Cow<'static, str> {
        "Cidr".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9a-fA-F.:]+/[0-9]{1,3}$" })
    }
}

/// Schema of `packages.versions`: only names of programs are keys.
#[derive(Debug)]
pub enum VersionByProgram {}

impl JsonSchema for VersionByProgram {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "VersionByProgram".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let names = generator.subschema_for::<Program>();
        json_schema!({ "type": "object", "propertyNames": names, "additionalProperties": { "type": "string" } })
    }
}

/// Schema of `binaries`: only names of programs are keys.
#[derive(Debug)]
pub enum SourceByProgram {}

impl JsonSchema for SourceByProgram {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "SourceByProgram".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (names, sources) = (generator.subschema_for::<Program>(), generator.subschema_for::<Source>());
        json_schema!({ "type": "object", "propertyNames": names, "additionalProperties": sources })
    }
}
