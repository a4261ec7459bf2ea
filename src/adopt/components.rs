//! The static pods: flags, volumes, variables and images of each component, and patches for what is
//! left. What all hosts have alike goes into the component's fields.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;
use serde_json::{Value, json};

use super::shared::part;
use super::{AdoptError, Draft, Found, operations};
use crate::facts::Facts;
use crate::kubernetes::static_pods::{self, EtcdMember};
use crate::kubernetes::PodInputs;
use crate::meaning::{self, Meaning};
use crate::names::{HostName, RemotePath};
use crate::paths;
use crate::plan::validate::flags::is_owned;
use crate::plan::{ArgumentValues, Plan};
use crate::release::Release;
use crate::trust::rotation::SigningFiles;
use crate::yaml;

/// A component as a static pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Component {
    Etcd,
    ApiServer,
    ControllerManager,
    Scheduler,
}

impl Component {
    const ALL: [Self; 4] = [Self::Etcd, Self::ApiServer, Self::ControllerManager, Self::Scheduler];

    /// Its section of the plan.
    fn section(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "apiServer",
            Self::ControllerManager => "controllerManager",
            Self::Scheduler => "scheduler",
        }
    }

    /// Its name as a target of patches.
    fn target(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
        }
    }

    fn manifest(self) -> RemotePath {
        match self {
            Self::Etcd => paths::etcd_manifest(),
            Self::ApiServer => paths::api_server_manifest(),
            Self::ControllerManager => paths::controller_manager_manifest(),
            Self::Scheduler => paths::scheduler_manifest(),
        }
    }
}

/// A pod as it was found and as the plan would have it so far.
struct Pair {
    found: Value,
    wanted: Value,
}

/// The value of a flag in a static pod's manifest.
pub fn flag(manifest: &str, name: &str) -> Option<String> {
    flags(&yaml::read(manifest).ok()?).remove(name)?.pop()
}

/// A pod's flags by name; a repeated flag has several values.
fn flags(pod: &Value) -> BTreeMap<String, Vec<String>> {
    let mut flags: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let arguments = pod.pointer("/spec/containers/0/command").and_then(Value::as_array).into_iter().flatten();
    for argument in arguments.skip(1).filter_map(Value::as_str) {
        let argument = argument.trim_start_matches('-');
        let (name, value) = argument.split_once('=').unwrap_or((argument, "true"));
        flags.entry(name.to_owned()).or_default().push(value.to_owned());
    }
    flags
}

/// Flags that must be given so that what is generated becomes what was found.
pub(super) fn overrides(
    wanted: &BTreeMap<String, Vec<String>>,
    found: &BTreeMap<String, Vec<String>>,
) -> BTreeMap<String, ArgumentValues> {
    let names: BTreeSet<&String> = wanted.keys().chain(found.keys()).collect();
    let differing = names.into_iter().filter(|name| wanted.get(*name) != found.get(*name));
    differing.map(|name| (name.clone(), ArgumentValues(found.get(name).cloned().unwrap_or_default()))).collect()
}

/// The pods of a component on all hosts that have it.
fn pairs(plan: &Plan, found: &Found<'_>, release: &Release, component: Component) -> Result<BTreeMap<HostName, Pair>, AdoptError> {
    let mut pairs = BTreeMap::new();
    for host in plan.control_planes() {
        let Some(Facts { system, state }) = found.facts.get(&host.name) else { continue };
        let place = || format!("host {}: {}", host.name, component.manifest());
        let Some(text) = state.text(&component.manifest()) else {
            return Err(AdoptError::unreadable(place(), "there is no such manifest, and slipway would make it"));
        };
        let pod: Value = yaml::read(text).map_err(|error| AdoptError::unreadable(place(), error))?;
        let signing = SigningFiles::default();
        let inputs = PodInputs { plan, host, system, release, inputs_digest: None, signing: &signing };
        let wanted = match component {
            Component::Etcd => static_pods::etcd(&inputs, &as_started(&pod)),
            Component::ApiServer => static_pods::api_server(&inputs),
            Component::ControllerManager => static_pods::controller_manager(&inputs),
            Component::Scheduler => static_pods::scheduler(&inputs),
        };
        let wanted = wanted.map_err(|error| AdoptError::Invalid(error.to_string()))?;
        pairs.insert(host.name.clone(), Pair { found: pod, wanted });
    }
    Ok(pairs)
}

/// How a member was started, which `standing` reads off its manifest as well.
fn as_started(pod: &Value) -> EtcdMember {
    let mut flags = flags(pod);
    let state = flags.remove("initial-cluster-state").map(|values| if values == ["existing"] { "existing" } else { "new" });
    EtcdMember { initial_cluster: flags.remove("initial-cluster").unwrap_or_default().join(","), state }
}

/// Images that are not those of the release.
pub(super) fn images(draft: &mut Draft, found: &Found<'_>, release: &Release) -> Result<(), AdoptError> {
    let plan = draft.plan()?;
    let image = |pod: &Value| pod.pointer("/spec/containers/0/image").and_then(Value::as_str).unwrap_or_default().to_owned();
    for component in Component::ALL {
        let pairs = pairs(&plan, found, release, component)?;
        let images: BTreeSet<String> = pairs.values().map(|pair| image(&pair.found)).collect();
        let mut images = images.into_iter();
        match (component, images.next(), images.next()) {
            (Component::Etcd, Some(one), None) if one != release.images(&plan).etcd => {
                draft.object(&["etcd"]).insert("image".to_owned(), json!(one));
            }
            _ => {}
        }
        let plan = draft.plan()?;
        for (host, pair) in self::pairs(&plan, found, release, component)? {
            if image(&pair.found) != image(&pair.wanted) {
                let reason = format!("its image is {}, and `slipway apply` would make it {}", image(&pair.found), image(&pair.wanted));
                draft.leave(format!("host {host}: {}", component.manifest()), reason);
            }
        }
    }
    Ok(())
}

/// Flags, volumes, variables, and patches for the rest.
pub(super) fn fill(draft: &mut Draft, found: &Found<'_>, release: &Release) -> Result<(), AdoptError> {
    for component in Component::ALL {
        let section = component.section();
        let arguments: BTreeMap<HostName, BTreeMap<String, ArgumentValues>> = pairs(&draft.plan()?, found, release, component)?
            .into_iter()
            .map(|(host, pair)| (host, overrides(&flags(&pair.wanted), &flags(&pair.found))))
            .collect();
        let (common, _) = part(&arguments);
        let common: IndexMap<String, ArgumentValues> = common.into_iter().filter(|(name, _)| !is_owned(section, name)).collect();
        if !common.is_empty() {
            draft.object(&[section]).insert("extraArgs".to_owned(), json!(common));
        }
        if component != Component::Etcd {
            volumes(draft, section, &pairs(&draft.plan()?, found, release, component)?);
        }
        environment(draft, section, &pairs(&draft.plan()?, found, release, component)?);
        patches(draft, component, &pairs(&draft.plan()?, found, release, component)?);
        for (host, Pair { found, wanted }) in pairs(&draft.plan()?, found, release, component)? {
            let same = meaning::of_file(&component.manifest(), &yaml::write(&wanted), &yaml::write(&found)) != Meaning::Other;
            let told = draft.left.iter().any(|left| left.place == format!("host {host}: {}", component.manifest()));
            if !same && !told {
                let reason = "it says something that no field expresses; `slipway diff` shows it";
                draft.leave(format!("host {host}: {}", component.manifest()), reason);
            }
        }
    }
    Ok(())
}

/// Directories of the host that the component sees on every host.
fn volumes(draft: &mut Draft, section: &str, pairs: &BTreeMap<HostName, Pair>) {
    let of_hosts: BTreeMap<HostName, BTreeMap<String, Value>> = pairs.iter().map(|(host, pair)| (host.clone(), more_volumes(pair))).collect();
    let (common, _) = part(&of_hosts);
    if !common.is_empty() {
        draft.object(&[section]).insert("extraVolumes".to_owned(), common.into_values().collect());
    }
}

fn more_volumes(Pair { found, wanted }: &Pair) -> BTreeMap<String, Value> {
    let list = |pod: &Value, pointer: &str| pod.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
    let (mounts, known) = (list(found, "/spec/containers/0/volumeMounts"), list(wanted, "/spec/volumes"));
    let new = list(found, "/spec/volumes").into_iter().filter(|volume| !known.iter().any(|other| other["name"] == volume["name"]));
    let described = |volume: Value| {
        let name = volume["name"].as_str()?.to_owned();
        let mount = mounts.iter().find(|mount| mount["name"] == volume["name"])?;
        let mut described = json!({ "name": name, "hostPath": volume.pointer("/hostPath/path")?, "mountPath": mount["mountPath"] });
        if mount["readOnly"] == true {
            described["readOnly"] = json!(true);
        }
        if let Some(kind) = volume.pointer("/hostPath/type").filter(|kind| !meaning::is_empty(kind)) {
            described["type"] = kind.clone();
        }
        Some((name, described))
    };
    new.filter_map(described).collect()
}

/// Environment variables with a value of their own.
fn environment(draft: &mut Draft, section: &str, pairs: &BTreeMap<HostName, Pair>) {
    let variables = |pod: &Value| -> BTreeMap<String, Value> {
        let all = pod.pointer("/spec/containers/0/env").and_then(Value::as_array).cloned().unwrap_or_default();
        all.into_iter().filter_map(|variable| Some((variable["name"].as_str()?.to_owned(), variable.get("value")?.clone()))).collect()
    };
    let of_hosts = pairs.iter().map(|(host, pair)| (host.clone(), variables(&pair.found))).collect();
    let (common, _) = part(&of_hosts);
    if !common.is_empty() {
        draft.object(&[section]).insert("extraEnv".to_owned(), json!(common));
    }
}

/// What is left, as operations; hosts that need the same ones share a patch.
fn patches(draft: &mut Draft, component: Component, pairs: &BTreeMap<HostName, Pair>) {
    let mut hosts_of: BTreeMap<String, (Vec<Value>, Vec<HostName>)> = BTreeMap::new();
    for (host, Pair { found, wanted }) in pairs {
        let mut operations = operations::between(wanted, found);
        if flags(wanted) != flags(found) {
            let names: Vec<String> = overrides(&flags(wanted), &flags(found)).into_keys().map(|name| format!("--{name}")).collect();
            let reason = format!("{} cannot be a field of the plan, so a patch keeps the whole command; an upgrade would need it changed", names.join(", "));
            draft.leave(format!("host {host}: {}", component.manifest()), reason);
            let command = found.pointer("/spec/containers/0/command").cloned().unwrap_or_default();
            operations.push(json!({ "op": "replace", "path": "/spec/containers/0/command", "value": command }));
        }
        if !operations.is_empty() {
            let entry = hosts_of.entry(Value::Array(operations.clone()).to_string()).or_insert_with(|| (operations, Vec::new()));
            entry.1.push(host.clone());
        }
    }
    for (operations, hosts) in hosts_of.into_values() {
        let mut patch = json!({ "target": component.target(), "type": "json", "patch": operations });
        if hosts.len() < pairs.len() {
            patch["hosts"] = json!(hosts);
        }
        match draft.document["patches"].as_array_mut() {
            Some(patches) => patches.push(patch),
            None => draft.document["patches"] = json!([patch]),
        }
    }
}
