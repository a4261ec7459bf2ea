//! What slipway made in the API, so that what the plan no longer wants can be taken away again, and
//! only that. It is kept in the cluster itself, as a ConfigMap that nodes cannot write. Pure.
//!
//! The list is never shorter than what is there: names are added before the first object is made and
//! taken out after the last one is gone. It only says where to look. An object goes only if it also
//! carries the annotation that slipway leaves on whatever it applies.
//!
//! Hosts with only the role `etcd` have no Node that could carry where they are reached (`departed`), so
//! that is on the list too: for as long as the host is of the plan, and until it was reset.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Value, json};

use crate::artifact::{Artifact, NodeMarks, Object, ObjectPolicy};
use crate::change::{Change, Reason};
use crate::names::HostName;
use crate::plan::Effect;

/// Where the list is.
pub const NAMESPACE: &str = "kube-system";
/// Its ConfigMap.
pub const NAME: &str = "slipway-inventory";

/// Objects of these kinds take others with them that slipway did not make: what is in a namespace,
/// every object of a defined kind, the data of a volume. They are named and stay.
const KEPT_KINDS: &[&str] = &["CustomResourceDefinition", "Namespace", "PersistentVolume", "PersistentVolumeClaim"];

/// The name of an object in the API.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectName {
    /// `v1`, `apps/v1`, ….
    pub api_version: String,
    /// `ConfigMap`.
    pub kind: String,
    /// Empty for one without a namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectName {
    /// The name of an object.
    #[must_use]
    pub fn of(object: &Object) -> Self {
        let text = |pointer: &str| object.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self { api_version: text("/apiVersion"), kind: text("/kind"), namespace: text("/metadata/namespace"), name: text("/metadata/name") }
    }

    /// What stays the same when the object is served in another version or group of the API. Two kinds
    /// of one name in different groups are taken for one: then one of them stays too long, at worst.
    fn identity(&self) -> (&str, &str, &str) {
        let namespace = if self.namespace == "default" { "" } else { &self.namespace };
        (&self.kind, namespace, &self.name)
    }

    /// The object as it is wanted when it shall go.
    #[must_use]
    pub fn absent(&self) -> Object {
        let mut value = json!({ "apiVersion": self.api_version, "kind": self.kind, "metadata": { "name": self.name } });
        if !self.namespace.is_empty() {
            value["metadata"]["namespace"] = self.namespace.clone().into();
        }
        Object { value, secret: false, policy: ObjectPolicy::Absent }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.absent().id())
    }
}

/// Something slipway set on a Node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// A label with that key.
    Label(String),
    /// A taint with that key and effect.
    Taint(String, Effect),
}

/// What slipway made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Objects.
    pub objects: BTreeSet<ObjectName>,
    /// Labels and taints by Node.
    pub marks: BTreeMap<HostName, BTreeSet<Mark>>,
    /// Where hosts without a Node are reached (`departed::mark`), by host.
    pub hosts: BTreeMap<HostName, String>,
}

impl Inventory {
    /// The list for what is wanted. Objects that are made once with the cluster end by themselves.
    pub fn of<'a>(wanted: impl Iterator<Item = &'a Artifact>) -> Self {
        let mut inventory = Self::default();
        for artifact in wanted {
            match artifact {
                Artifact::Object(object) if object.policy == ObjectPolicy::Always => {
                    inventory.objects.insert(ObjectName::of(object));
                }
                Artifact::NodeMarks(marks) => {
                    let of_node = marks_of(marks);
                    if !of_node.is_empty() {
                        inventory.marks.insert(marks.node.clone(), of_node);
                    }
                }
                _ => {}
            }
        }
        inventory
    }

    /// Reads the data of the ConfigMap. A line that says nothing is no entry, so at worst something stays.
    #[must_use]
    pub fn read(data: &BTreeMap<String, String>) -> Self {
        let lines = |key: &str| data.get(key).map(String::as_str).unwrap_or_default().lines();
        let object = |line: &str| match line.split(' ').collect::<Vec<_>>()[..] {
            [api_version, kind, namespace, name] => Some(ObjectName {
                api_version: api_version.to_owned(),
                kind: kind.to_owned(),
                namespace: if namespace == "-" { String::new() } else { namespace.to_owned() },
                name: name.to_owned(),
            }),
            _ => None,
        };
        let mut marks: BTreeMap<HostName, BTreeSet<Mark>> = BTreeMap::new();
        for line in lines("nodes") {
            let (node, mark) = match line.split(' ').collect::<Vec<_>>()[..] {
                [node, "label", key] => (node, Some(Mark::Label(key.to_owned()))),
                [node, "taint", key, effect] => {
                    let effect = Effect::ALL.into_iter().find(|known| format!("{known:?}") == effect);
                    (node, effect.map(|effect| Mark::Taint(key.to_owned(), effect)))
                }
                _ => continue,
            };
            if let (Ok(node), Some(mark)) = (node.parse(), mark) {
                marks.entry(node).or_default().insert(mark);
            }
        }
        let host = |line: &str| line.split_once(' ').and_then(|(name, mark)| Some((name.parse().ok()?, mark.to_owned())));
        Self { objects: lines("objects").filter_map(object).collect(), marks, hosts: lines("hosts").filter_map(host).collect() }
    }

    /// The ConfigMap.
    #[must_use]
    pub fn object(&self) -> Object {
        let or_dash = |namespace: &str| if namespace.is_empty() { "-".to_owned() } else { namespace.to_owned() };
        let objects: String = self
            .objects
            .iter()
            .map(|object| format!("{} {} {} {}\n", object.api_version, object.kind, or_dash(&object.namespace), object.name))
            .collect();
        let mark = |node: &HostName, mark: &Mark| match mark {
            Mark::Label(key) => format!("{node} label {key}\n"),
            Mark::Taint(key, effect) => format!("{node} taint {key} {effect:?}\n"),
        };
        let nodes: String = self.marks.iter().flat_map(|(node, marks)| marks.iter().map(move |one| mark(node, one))).collect();
        let mut value = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": NAME, "namespace": NAMESPACE },
            "data": { "objects": objects, "nodes": nodes },
        });
        if !self.hosts.is_empty() {
            let hosts: String = self.hosts.iter().map(|(host, mark)| format!("{host} {mark}\n")).collect();
            value["data"]["hosts"] = hosts.into();
        }
        Object::new(value)
    }

    /// Objects of this list that are not in the wanted one, in whatever version of the API.
    #[must_use]
    pub fn unwanted(&self, wanted: &Self) -> Vec<&ObjectName> {
        let identities: BTreeSet<_> = wanted.objects.iter().map(ObjectName::identity).collect();
        self.objects.iter().filter(|object| !identities.contains(&object.identity())).collect()
    }

    /// Adds to a Node's marks those that slipway once set and that are no longer wanted, to be taken away.
    pub fn retract(&self, marks: &mut NodeMarks) {
        let wanted = marks_of(marks);
        for mark in self.marks.get(&marks.node).into_iter().flatten().filter(|mark| !wanted.contains(mark)) {
            match mark {
                Mark::Label(key) if !marks.absent_labels.contains(key) => marks.absent_labels.push(key.clone()),
                Mark::Label(_) => {}
                Mark::Taint(key, effect) => marks.absent_taints.push((key.clone(), *effect)),
            }
        }
    }

    fn with(mut self, other: &Self) -> Self {
        self.objects.extend(other.objects.iter().cloned());
        for (node, marks) in &other.marks {
            self.marks.entry(node.clone()).or_default().extend(marks.iter().cloned());
        }
        self.hosts.extend(other.hosts.clone());
        self
    }
}

fn marks_of(marks: &NodeMarks) -> BTreeSet<Mark> {
    let labels = marks.labels.keys().cloned().map(Mark::Label);
    labels.chain(marks.taints.iter().map(|taint| Mark::Taint(taint.key.clone(), taint.effect))).collect()
}

/// What is done about the list and by it.
#[derive(Debug, Default, PartialEq)]
pub struct Pruning {
    /// Before anything is made: the list gets longer.
    pub first: Option<Change>,
    /// After everything is made: objects go, and their names.
    pub last: Vec<Change>,
    /// Objects that are no longer wanted and stay, because they would take others with them.
    pub kept: Vec<ObjectName>,
}

/// Decides it. `found` is the list as it is; `meanwhile` is on it during the run, but not afterwards; `gone`
/// are changes for those of its unwanted objects that are there and slipway's. Without a list nothing is
/// pruned, and one is begun with the first change, or at once in a cluster that slipway made (`begun_here`).
#[must_use]
pub fn pruning(
    found: Option<&Inventory>,
    meanwhile: &Inventory,
    wanted: &Inventory,
    gone: Vec<Change>,
    is_changed: bool,
    begun_here: bool,
) -> Pruning {
    if found.is_none() && !is_changed && !begun_here {
        return Pruning::default();
    }
    let known = found.cloned().unwrap_or_default();
    let (kept, mut last): (Vec<Change>, Vec<Change>) = gone.into_iter().partition(is_kept);
    let kept: Vec<ObjectName> = kept.iter().filter_map(name_of).collect();
    let longest = known.with(meanwhile).with(wanted);
    let mut end = wanted.clone();
    end.objects.extend(kept.iter().cloned());
    let write = |from: Option<&Inventory>, to: &Inventory| {
        let reason = match from {
            None => Reason::Missing,
            Some(_) => Reason::Fields { changed: vec!["data".into()], drift: false },
        };
        let before = from.map(|from| crate::yaml::write(&from.object().value));
        Change { artifact: Artifact::Object(to.object()), reason, before }
    };
    let first = (found != Some(&longest)).then(|| write(found, &longest));
    if end != longest {
        last.push(write(Some(&longest), &end));
    }
    Pruning { first, last, kept }
}

fn is_kept(change: &Change) -> bool {
    name_of(change).is_some_and(|name| KEPT_KINDS.contains(&name.kind.as_str()))
}

fn name_of(change: &Change) -> Option<ObjectName> {
    if let Artifact::Object(object) = &change.artifact { Some(ObjectName::of(object)) } else { None }
}

#[cfg(test)]
mod tests;
