//! The kubelets: configuration and flags of each host, against what slipway would write there.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use super::components::overrides;
use super::shared::part;
use super::{AdoptError, Draft, Found, units};
use crate::facts::State;
use crate::kubernetes::kubelet;
use crate::meaning;
use crate::names::HostName;
use crate::paths;
use crate::plan::ArgumentValues;
use crate::plan::validate::flags::is_owned;
use crate::release::Release;
use crate::yaml;

fn configuration(state: &State) -> Option<Value> {
    yaml::read(state.text(&paths::kubelet_configuration())?).ok()
}

/// The path of a host's CRI socket.
pub(super) fn socket(state: &State) -> Option<String> {
    let flag = || meaning::flags(state.text(&paths::kubelet_flags())?)?.remove("container-runtime-endpoint")?.pop();
    let field = || configuration(state)?["containerRuntimeEndpoint"].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let socket = flag().or_else(field)?;
    Some(socket.strip_prefix("unix://").unwrap_or(&socket).to_owned())
}

/// A host's cgroup driver; the kubelet's own default is cgroupfs.
pub(super) fn cgroup_driver(state: &State) -> Option<&'static str> {
    let configuration = configuration(state)?;
    Some(if configuration["cgroupDriver"] == "systemd" { "systemd" } else { "cgroupfs" })
}

/// The pause image, where the kubelets are told one.
pub(super) fn pause_image(draft: &mut Draft, found: &Found<'_>, release: &Release) -> Result<(), AdoptError> {
    let plan = draft.plan()?;
    let image = |state: &State| meaning::flags(state.text(&paths::kubelet_flags())?)?.remove("pod-infra-container-image")?.pop();
    let images: BTreeSet<String> = found.facts.values().filter_map(|facts| image(&facts.state)).collect();
    let mut images = images.into_iter();
    if let (Some(image), None) = (images.next(), images.next())
        && image != release.images(&plan).pause
    {
        draft.object(&["runtime"]).insert("pauseImage".to_owned(), json!(image));
    }
    Ok(())
}

/// Configuration and flags.
pub(super) fn fill(draft: &mut Draft, found: &Found<'_>, release: &Release) -> Result<(), AdoptError> {
    let plan = draft.plan()?;
    let mut fields: BTreeMap<HostName, BTreeMap<String, Value>> = BTreeMap::new();
    let mut arguments: BTreeMap<HostName, BTreeMap<String, ArgumentValues>> = BTreeMap::new();
    for host in plan.nodes() {
        let Some(facts) = found.facts.get(&host.name) else { continue };
        let place = |path: &dyn std::fmt::Display| format!("host {}: {path}", host.name);
        let path = paths::kubelet_configuration();
        let Some(theirs) = configuration(&facts.state) else {
            return Err(AdoptError::unreadable(place(&path), "the kubelet has no configuration there"));
        };
        let ours = kubelet::configuration(&plan, host, &facts.system, release).map_err(|error| AdoptError::Invalid(error.to_string()))?;
        fields.insert(host.name.clone(), difference(&meaning::kubelet(ours), &meaning::kubelet(theirs)));

        let path = paths::kubelet_flags();
        let ours = meaning::lasting_flags(&kubelet::flags_environment(&plan, host, &facts.system, release)).unwrap_or_default();
        let own = units::without_later(units::taken_over(draft, &host.name, &facts.state), &facts.state);
        if !own.is_empty() {
            arguments.insert(host.name.clone(), own.clone());
        }
        match facts.state.text(&path).map(meaning::lasting_flags) {
            Some(Some(theirs)) => {
                let (owned, free): (BTreeMap<_, _>, BTreeMap<_, _>) =
                    overrides(&ours, &theirs).into_iter().partition(|(name, _)| is_owned("kubelet", name));
                for (name, ArgumentValues(values)) in owned {
                    let reason = format!("it has --{name}={}, which only slipway sets; `slipway apply` would write its own", values.join(","));
                    draft.leave(place(&path), reason);
                }
                arguments.insert(host.name.clone(), own.into_iter().chain(free).collect());
            }
            Some(None) => draft.leave(place(&path), "it cannot be read as flags of the kubelet; `slipway apply` would write it anew"),
            None => draft.leave(place(&path), "it is not there; `slipway apply` would write it"),
        }
    }
    let (common, own) = part(&fields);
    if !common.is_empty() {
        draft.object(&["kubelet"]).insert("configuration".to_owned(), json!(common));
    }
    for (host, fields) in own {
        if let Some(entry) = draft.host(&host) {
            entry["kubelet"]["configuration"] = json!(fields);
        }
    }
    let (common, own) = part(&arguments);
    if !common.is_empty() {
        draft.object(&["kubelet"]).insert("extraArgs".to_owned(), json!(common.into_iter().collect::<IndexMap<_, _>>()));
    }
    for (host, arguments) in own {
        if let Some(entry) = draft.host(&host) {
            entry["kubelet"]["extraArgs"] = json!(arguments.into_iter().collect::<IndexMap<_, _>>());
        }
    }
    Ok(())
}

/// The RFC 7386 merge that makes one document the other, by its top-level fields.
pub(super) fn difference(from: &Value, to: &Value) -> BTreeMap<String, Value> {
    let empty = Map::new();
    let (before, after) = (from.as_object().unwrap_or(&empty), to.as_object().unwrap_or(&empty));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = |name: &String| match (before.get(name), after.get(name)) {
        (one, other) if one == other => None,
        (_, None) => Some(Value::Null),
        (Some(one @ Value::Object(_)), Some(other @ Value::Object(_))) => Some(json!(difference(one, other))),
        (_, Some(other)) => Some(other.clone()),
    };
    names.into_iter().filter_map(|name| Some((name.clone(), changed(name)?))).collect()
}
