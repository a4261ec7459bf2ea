//! Phase `runtime`: containerd's configuration and unit.

use serde_json::{Map, Value, json};

use super::{packages, programs};
use crate::artifact::{Artifact, Content, UnitCheck, stamp_of};
use crate::facts::System;
use crate::names::{Mode, RemotePath};
use crate::plan::{CgroupDriver, Plan, Program, Source};
use crate::template::{Containerd, ContainerdUnit, RegistryHosts, Table, Template as _};

/// containerd's configuration file.
pub const CONFIGURATION_FILE: &str = "/etc/containerd/config.toml";
/// containerd's unit, where slipway brings containerd; it stands over the one of a package.
pub const UNIT_FILE: &str = "/etc/systemd/system/containerd.service";
const MIRROR_DIRECTORY: &str = "/etc/containerd/certs.d";

/// What this phase wants on a host.
#[must_use]
pub fn artifacts(plan: &Plan, system: &System, pause_image: &str) -> Vec<Artifact> {
    if !plan.runtime.managed {
        return Vec::new();
    }
    let configuration = RemotePath::fixed(CONFIGURATION_FILE);
    let mut artifacts = vec![Artifact::File {
        path: configuration.clone(),
        mode: Mode(0o644),
        content: Content::plain(configuration_text(plan, system, pause_image)),
    }];
    for (registry, mirror) in &plan.runtime.mirrors {
        let hosts = RegistryHosts {
            registry: registry.clone(),
            server: if registry == "_default" { String::new() } else { format!("https://{registry}") },
            endpoints: mirror.endpoints.clone(),
            skip_verify: mirror.skip_verify,
        };
        artifacts.push(Artifact::File {
            path: RemotePath::fixed(&format!("{MIRROR_DIRECTORY}/{registry}/hosts.toml")),
            mode: Mode(0o644),
            content: Content::plain(hosts.render()),
        });
    }
    // containerd reads the mirrors' files at each pull, so they are no reason for a restart.
    let mut inputs = vec![configuration];
    if is_brought(plan, Program::Containerd) {
        // Who brings the programs also brings the unit that runs them.
        let unit = RemotePath::fixed(UNIT_FILE);
        artifacts.push(Artifact::File {
            path: unit.clone(),
            mode: Mode(0o644),
            content: Content::plain(ContainerdUnit {}.render()),
        });
        inputs.push(unit);
    }
    inputs.extend(brought(plan));
    let stamp = stamp_of(&inputs, &artifacts);
    artifacts.push(Artifact::Unit {
        name: "containerd.service".into(),
        inputs,
        stamp,
        check: Some(UnitCheck::Containerd),
    });
    artifacts
}

fn is_brought(plan: &Plan, program: Program) -> bool {
    plan.binaries.get(&program).is_some_and(Source::is_file)
}

/// Programs of the runtime that slipway brings, or has the package manager bring.
fn brought(plan: &Plan) -> impl Iterator<Item = RemotePath> {
    let is_packaged = plan.binaries.get(&Program::Containerd) == Some(&Source::Packages);
    let packaged = is_packaged.then(|| RemotePath::fixed(packages::CONTAINERD_PROGRAM));
    let files = [(Program::Containerd, "/usr/local/bin/containerd"), (Program::Runc, "/usr/local/bin/runc")];
    let files = files.into_iter().filter(|(program, _)| is_brought(plan, *program)).map(|(_, path)| RemotePath::fixed(path));
    packaged.into_iter().chain(files)
}

fn configuration_text(plan: &Plan, system: &System, pause_image: &str) -> String {
    let (major, minor) = version(&expected_version(plan, system));
    let mut tree = if major >= 2 { version_3(plan, system, pause_image, minor) } else { version_2(plan, system, pause_image) };
    merge(&mut tree, &plan.runtime.settings);
    let (top, tables) = flatten(&tree);
    Containerd { version: if major >= 2 { 3 } else { 2 }, top, tables }.render()
}

/// The version that is there, or that comes with the archive slipway brings, by the archive's name
/// (`containerd-2.1.4-linux-amd64.tar.gz`): a first run must write what the second one wants.
fn expected_version(plan: &Plan, system: &System) -> String {
    let name = match plan.binaries.get(&Program::Containerd) {
        _ if !system.containerd_version.is_empty() => return system.containerd_version.clone(),
        Some(Source::Upload(file)) => file.to_string_lossy().into_owned(),
        Some(Source::Download { address, .. }) => address.clone(),
        _ => String::new(),
    };
    let last = name.rsplit('/').next().unwrap_or_default();
    last.split('-').find(|part| part.starts_with(|c: char| c.is_ascii_digit())).unwrap_or_default().to_owned()
}

/// Major and minor number; an unknown version counts as the widespread 1.7.
fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split('.').map(|part| part.parse().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor),
        _ => (1, 7),
    }
}

fn version_2(plan: &Plan, system: &System, pause_image: &str) -> Map<String, Value> {
    object(json!({ "plugins": { "io.containerd.grpc.v1.cri": {
        "sandbox_image": pause_image,
        "cni": { "bin_dir": programs::cni_directory(plan, system), "conf_dir": "/etc/cni/net.d" },
        "containerd": { "runtimes": { "runc": {
            "runtime_type": "io.containerd.runc.v2",
            "options": { "SystemdCgroup": plan.runtime.cgroup_driver == CgroupDriver::Systemd },
        } } },
        "registry": { "config_path": MIRROR_DIRECTORY },
    } } }))
}

fn version_3(plan: &Plan, system: &System, pause_image: &str, minor: u32) -> Map<String, Value> {
    let directory = programs::cni_directory(plan, system);
    // containerd 2.1 takes several plugin directories and calls the single one deprecated.
    let cni = if minor >= 1 {
        json!({ "bin_dirs": [directory], "conf_dir": "/etc/cni/net.d" })
    } else {
        json!({ "bin_dir": directory, "conf_dir": "/etc/cni/net.d" })
    };
    object(json!({ "plugins": {
        "io.containerd.cri.v1.images": {
            "pinned_images": { "sandbox": pause_image },
            "registry": { "config_path": MIRROR_DIRECTORY },
        },
        "io.containerd.cri.v1.runtime": {
            "cni": cni,
            "containerd": { "runtimes": { "runc": {
                "runtime_type": "io.containerd.runc.v2",
                "options": { "SystemdCgroup": plan.runtime.cgroup_driver == CgroupDriver::Systemd },
            } } },
        },
    } }))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Tables are merged, everything else is replaced.
fn merge(tree: &mut Map<String, Value>, over: &Map<String, Value>) {
    for (key, value) in over {
        match (tree.get_mut(key), value) {
            (Some(Value::Object(below)), Value::Object(value)) => merge(below, value),
            _ => {
                tree.insert(key.clone(), value.clone());
            }
        }
    }
}

/// The tree as TOML: lines before the first table, then one table per object.
fn flatten(tree: &Map<String, Value>) -> (Vec<String>, Vec<Table>) {
    let mut tables = Vec::new();
    for (key, value) in tree {
        if let Value::Object(below) = value {
            collect(&toml_key(key), below, &mut tables);
        }
    }
    (lines(tree), tables)
}

fn collect(header: &str, tree: &Map<String, Value>, tables: &mut Vec<Table>) {
    let lines = lines(tree);
    if !lines.is_empty() || tree.is_empty() {
        tables.push(Table { header: header.to_owned(), lines });
    }
    for (key, value) in tree {
        if let Value::Object(below) = value {
            collect(&format!("{header}.{}", toml_key(key)), below, tables);
        }
    }
}

fn lines(tree: &Map<String, Value>) -> Vec<String> {
    tree.iter()
        .filter(|(_, value)| !value.is_object() && !value.is_null())
        .map(|(key, value)| format!("{} = {}", toml_key(key), toml_value(value)))
        .collect()
}

fn toml_key(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { key.to_owned() } else { toml_string(key) }
}

/// JSON's strings, numbers and booleans are TOML's too; objects become inline tables.
fn toml_value(value: &Value) -> String {
    match value {
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(toml_value).collect();
            format!("[{}]", values.join(", "))
        }
        Value::Object(map) => {
            let pairs: Vec<String> =
                map.iter().map(|(key, value)| format!("{} = {}", toml_key(key), toml_value(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        Value::String(text) => toml_string(text),
        other => other.to_string(),
    }
}

/// A JSON string is a TOML string, but for one character that TOML wants escaped.
fn toml_string(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests;
