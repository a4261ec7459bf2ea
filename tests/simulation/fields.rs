//! The table of fields: every field of the plan file, changed alone in a living cluster, touches only
//! what the table says: files, objects, restarts, hosts. A field without a row fails the test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use slipway::patch::merge::merged;
use slipway::phase::Target;
use slipway::plan::Plan;
use slipway::plan::load::parse;
use slipway::plan::schema::json_schema;
use slipway::report::difference::Difference;
use slipway::simulation::Simulation;
use slipway::yaml;

use crate::crashes::living;
use crate::plans::{simulated, text};

/// One row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    field: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    change: Value,
    /// By hosts: what is changed there.
    #[serde(default)]
    touches: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    restarts: Vec<String>,
}

fn table() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/simulation/fields.yaml")
}

/// The fields of the schema that hold no other fields, by their path; `[]` is an entry of a list, `*` of a
/// mapping with free names.
fn leaves(schema: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    descend(schema, schema, String::new(), &mut found);
    found
}

fn resolved<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/$defs/")) {
        return resolved(&root["$defs"][name], root);
    }
    for key in ["anyOf", "allOf"] {
        let options: Vec<&Value> = schema[key].as_array().into_iter().flatten().filter(|option| option["type"] != "null").collect();
        if let [only] = options[..] {
            return resolved(only, root);
        }
    }
    schema
}

fn has_fields(schema: &Value) -> bool {
    schema["properties"].is_object() || schema["oneOf"].as_array().is_some_and(|options| options.iter().any(|option| option["properties"].is_object()))
}

fn descend(schema: &Value, root: &Value, path: String, found: &mut BTreeSet<String>) {
    let schema = resolved(schema, root);
    if let Some(fields) = schema["properties"].as_object() {
        for (name, field) in fields {
            descend(field, root, if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, found);
        }
        return;
    }
    if let Some(options) = schema["oneOf"].as_array() {
        for option in options {
            if has_fields(option) {
                descend(option, root, path.clone(), found);
            } else {
                found.insert(path.clone());
            }
        }
        return;
    }
    let items = resolved(&schema["items"], root);
    let values = resolved(&schema["additionalProperties"], root);
    if has_fields(items) {
        descend(items, root, format!("{path}[]"), found);
    } else if has_fields(values) {
        descend(values, root, format!("{path}.*"), found);
    } else {
        found.insert(path);
    }
}

/// The plan file with patches over it, or over a host of it.
fn document(base: Option<&Value>, change: Option<(&Value, Option<&str>)>) -> String {
    let mut plan: Value = yaml::read(&text(3, 2, 0, "")).unwrap();
    if let Some(base) = base {
        plan = merged(plan, base);
    }
    match change {
        Some((change, None)) => plan = merged(plan, change),
        Some((change, Some(host))) => {
            let hosts = plan["hosts"].as_array_mut().unwrap();
            let place = hosts.iter().position(|entry| entry["name"] == host).unwrap();
            hosts[place] = merged(hosts[place].clone(), change);
        }
        None => {}
    }
    yaml::write(&plan)
}

fn read(text: &str) -> Result<Arc<Plan>, String> {
    match parse(text) {
        Ok((plan, _)) => Ok(Arc::new(plan)),
        Err(problems) => {
            let codes: BTreeSet<String> = problems.iter().map(|problem| problem.code.to_string()).collect();
            Err(format!("invalid: {}", codes.into_iter().collect::<Vec<_>>().join(", ")))
        }
    }
}

/// What a plan would change, by hosts that are alike, and what would restart.
async fn effect(simulation: &Simulation, plan: &Arc<Plan>) -> (Vec<String>, Vec<String>) {
    let planned = simulation.plan(plan).await;
    simulation.world().unlock_all();
    let planned = match planned {
        Ok(planned) => planned,
        Err(failure) => {
            let text = failure.to_string();
            return (vec![format!("refused: {}", text.lines().next().unwrap_or_default())], Vec::new());
        }
    };
    let mut of: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for step in planned.graph.steps() {
        let target = match &step.id.target {
            Target::Host(host) => host.to_string(),
            Target::Cluster => "cluster".into(),
        };
        for change in &step.changes {
            // What is done to a host's Node is the same for all hosts.
            of.entry(target.clone()).or_default().push(change.artifact.id().replace(&format!("Node/{target}"), "Node"));
        }
    }
    let mut alike: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
    for (target, changes) in of {
        alike.entry(changes).or_default().push(target);
    }
    let mut touches: Vec<String> = alike.into_iter().map(|(changes, targets)| format!("{}: {}", targets.join(" "), changes.join(" "))).collect();
    touches.sort();
    let mut restarts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for restart in Difference::of(&planned.graph).restarts {
        restarts.entry(restart.name).or_default().push(restart.host.to_string());
    }
    let restarts = restarts.into_iter().map(|(name, mut hosts)| {
        hosts.sort();
        format!("{name}: {}", hosts.join(" "))
    });
    (touches, restarts.collect())
}

#[test]
fn every_field_has_a_row() {
    let rows: Vec<Row> = yaml::read(&std::fs::read_to_string(table()).unwrap()).unwrap();
    let told: BTreeSet<String> = rows.iter().map(|row| row.field.clone()).collect();
    assert_eq!(told.len(), rows.len(), "a field has two rows");
    let fields = leaves(&json_schema());
    let without: Vec<&String> = fields.difference(&told).collect();
    let gone: Vec<&String> = told.difference(&fields).collect();
    assert!(without.is_empty() && gone.is_empty(), "without a row: {without:?}; in the table only: {gone:?}");
    // The walk itself: a list, a mapping and a choice.
    let schema = json!({ "properties": {
        "a": { "type": "array", "items": { "$ref": "#/$defs/x" } },
        "b": { "additionalProperties": { "oneOf": [{ "const": "c" }, { "properties": { "d": {} } }] } },
    }, "$defs": { "x": { "properties": { "y": {} } } } });
    assert_eq!(leaves(&schema).into_iter().collect::<Vec<_>>(), ["a[].y", "b.*", "b.*.d"]);
}

#[test]
fn a_field_that_is_changed_alone_touches_what_the_table_says_and_nothing_else() {
    simulated(async {
        let text = std::fs::read_to_string(table()).unwrap();
        let rows: Vec<Row> = yaml::read(&text).unwrap();
        let mut bases: BTreeMap<String, Simulation> = BTreeMap::new();
        let (mut found, mut wrong) = (Vec::new(), Vec::new());
        for row in &rows {
            let base = document(row.base.as_ref(), None);
            let start = read(&base).unwrap_or_else(|problem| panic!("{}: base {problem}", row.field));
            if !bases.contains_key(&base) {
                let simulation = living(&start).await;
                assert_eq!(effect(&simulation, &start).await, (Vec::new(), Vec::new()), "{}: the base is settled", row.field);
                bases.insert(base.clone(), simulation);
            }
            let simulation = &bases[&base];
            let changed = document(row.base.as_ref(), Some((&row.change, row.host.as_deref())));
            assert_ne!(changed, base, "{}: changes nothing in the file", row.field);
            let (touches, restarts) = match read(&changed) {
                Ok(plan) => effect(simulation, &plan).await,
                Err(problem) => (vec![problem], Vec::new()),
            };
            let seen = Row { touches, restarts, ..row.clone() };
            if seen != *row {
                wrong.push(format!("{}\n  table: {:?} restarts {:?}\n  found: {:?} restarts {:?}", row.field, row.touches, row.restarts, seen.touches, seen.restarts));
            }
            found.push(seen);
        }
        println!("fields: {} rows", rows.len());
        if std::env::var_os("SLIPWAY_BLESS").is_some() {
            let opening: String = text.lines().take_while(|line| line.starts_with('#')).map(|line| format!("{line}\n")).collect();
            std::fs::write(table(), format!("{opening}{}", yaml::write(&found))).unwrap();
            return;
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

#[test]
fn what_a_reviewer_may_rely_on_holds_in_the_whole_table() {
    let rows: Vec<Row> = yaml::read(&std::fs::read_to_string(table()).unwrap()).unwrap();
    let quiet = ["limits.", "upgrade.", "preflight."];
    let reached = ["ssh.", "hosts[].ssh."];
    for row in &rows {
        let nothing = row.touches.is_empty() && row.restarts.is_empty();
        if quiet.iter().any(|prefix| row.field.starts_with(prefix)) {
            assert!(nothing, "{}: how slipway works is no difference", row.field);
        }
        if reached.iter().any(|prefix| row.field.starts_with(prefix)) {
            let marks = row.touches.iter().all(|touched| touched.starts_with("cluster: Node/"));
            assert!(marks && row.restarts.is_empty(), "{}: how hosts are reached is a mark of their Nodes and no more", row.field);
        }
        if row.field.starts_with("scheduler.") {
            assert!(row.restarts.iter().all(|restart| restart.starts_with("kube-scheduler: ")) && !row.restarts.is_empty(), "{}: {:?}", row.field, row.restarts);
        }
        if row.field.starts_with("hosts[].") {
            assert!(row.restarts.iter().all(|restart| !restart.contains("etcd: ") || row.field == "hosts[].roles"), "{}: {:?}", row.field, row.restarts);
        }
        if row.field.starts_with("coreDns.") || row.field.starts_with("runtime.mirrors.") {
            assert_eq!(row.restarts, Vec::<String>::new(), "{}", row.field);
        }
    }
    assert!(rows.iter().filter(|row| !row.restarts.is_empty()).count() > 30, "the table is filled");
}
