//! The list comes back as it was written, is never too short, and only what is on it goes.

use super::*;
use crate::plan::Taint;

fn object(kind: &str, name: &str) -> Object {
    Object::new(json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": name, "namespace": "kube-system" } }))
}

fn marks(node: &str, labels: &[&str], taints: &[(&str, Effect)]) -> NodeMarks {
    NodeMarks {
        node: node.parse().unwrap(),
        labels: labels.iter().map(|label| ((*label).to_owned(), "x".to_owned())).collect(),
        absent_labels: Vec::new(),
        annotations: BTreeMap::new(),
        taints: taints.iter().map(|(key, effect)| Taint { key: (*key).to_owned(), value: String::new(), effect: *effect }).collect(),
        absent_taints: Vec::new(),
        pod_cidrs: Vec::new(),
    }
}

fn of(objects: &[Object], nodes: &[NodeMarks]) -> Inventory {
    let artifacts: Vec<Artifact> =
        objects.iter().cloned().map(Artifact::Object).chain(nodes.iter().cloned().map(Artifact::NodeMarks)).collect();
    Inventory::of(artifacts.iter())
}

/// What the ConfigMap of a change says.
fn listed(change: &Change) -> Inventory {
    let Artifact::Object(object) = &change.artifact else { panic!("{change:?}") };
    assert_eq!(object.id(), "ConfigMap/kube-system/slipway-inventory");
    Inventory::read(&serde_json::from_value(object.value["data"].clone()).unwrap())
}

/// A change that takes one of these away, as the API's answer brings it.
fn gone(name: &ObjectName) -> Change {
    Change { artifact: Artifact::Object(name.absent()), reason: Reason::Unwanted, before: None }
}

#[test]
fn a_list_comes_back_as_it_was_written() {
    let role = Object::new(json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": "system:a:b" } }));
    let node = marks("worker-1", &["example.test/zone"], &[("dedicated", Effect::NoExecute), ("dedicated", Effect::NoSchedule)]);
    let once = Object { policy: ObjectPolicy::WithCluster, ..object("Secret", "bootstrap-token-abcdef") };
    let hosts = BTreeMap::from([("etcd-1".parse().unwrap(), r#"{"address":"192.0.2.31","hostKey":"ssh-ed25519 AAAA"}"#.to_owned())]);
    let inventory = Inventory { hosts, ..of(&[object("ConfigMap", "coredns"), role, once], &[node, marks("worker-2", &[], &[])]) };
    assert_eq!((inventory.objects.len(), inventory.marks.len()), (2, 1), "a token ends by itself, a Node without marks has none");
    let change = Change { artifact: Artifact::Object(inventory.object()), reason: Reason::Missing, before: None };
    assert_eq!(listed(&change), inventory);
}

#[test]
fn lines_that_say_nothing_are_no_entries() {
    let data = BTreeMap::from([
        ("objects".to_owned(), "v1 ConfigMap\n\nv1 ConfigMap kube-system a b\nv1 ConfigMap kube-system a\n".to_owned()),
        ("nodes".to_owned(), "worker-1 label\nNo_Host label x\nworker-1 taint x Never\nworker-1 label x\n".to_owned()),
    ]);
    let read = Inventory::read(&data);
    assert_eq!(read, of(&[object("ConfigMap", "a")], &[marks("worker-1", &["x"], &[])]));
    assert_eq!(Inventory::read(&BTreeMap::new()), Inventory::default());
}

#[test]
fn an_object_in_another_version_of_the_api_is_the_same() {
    let at = |api_version: &str, namespace: Value| {
        Object::new(json!({ "apiVersion": api_version, "kind": "PodDisruptionBudget", "metadata": { "name": "a", "namespace": namespace } }))
    };
    let before = of(&[at("policy/v1beta1", json!("default"))], &[]);
    assert_eq!(before.unwanted(&of(&[at("policy/v1", Value::Null)], &[])), Vec::<&ObjectName>::new());
    assert_eq!(before.unwanted(&of(&[at("policy/v1", json!("other"))], &[])).len(), 1);
}

#[test]
fn marks_that_were_set_once_are_taken_away_and_those_of_others_are_not() {
    let before = of(&[], &[marks("worker-1", &["a", "b"], &[("x", Effect::NoSchedule), ("y", Effect::NoSchedule)])]);
    let mut now = marks("worker-1", &["b"], &[("y", Effect::NoExecute)]);
    before.retract(&mut now);
    assert_eq!(now.absent_labels, ["a"]);
    assert_eq!(now.absent_taints, [("x".to_owned(), Effect::NoSchedule), ("y".to_owned(), Effect::NoSchedule)]);
    let mut other = marks("worker-2", &[], &[]);
    before.retract(&mut other);
    assert_eq!(other, marks("worker-2", &[], &[]));
}

/// At every moment of a run the list holds all that may be there.
#[test]
fn the_list_grows_before_and_shrinks_after() {
    let (a, b, c) = (object("ConfigMap", "a"), object("ConfigMap", "b"), object("ConfigMap", "c"));
    let (found, wanted) = (of(&[a.clone(), b.clone()], &[]), of(&[b.clone(), c.clone()], &[]));
    let unwanted: Vec<Change> = found.unwanted(&wanted).into_iter().map(gone).collect();
    let all = pruning(Some(&found), &Inventory::default(), &wanted, unwanted.clone(), true, true);
    assert_eq!(listed(all.first.as_ref().unwrap()), of(&[a, b, c], &[]));
    assert_eq!(all.last[..1], unwanted[..]);
    assert_eq!(listed(&all.last[1]), wanted);
    // Cut off before it shrank: the object is gone, its name follows.
    let rest = pruning(Some(&listed(all.first.as_ref().unwrap())), &Inventory::default(), &wanted, Vec::new(), false, true);
    assert_eq!((rest.first, rest.last.len()), (None, 1));
    assert_eq!(listed(&rest.last[0]), wanted);
    assert_eq!(pruning(Some(&wanted), &Inventory::default(), &wanted, Vec::new(), true, true), Pruning::default());
}

/// What leaves is on the list before anything is made, and no longer in the end.
#[test]
fn a_host_that_leaves_is_on_the_list_until_it_is_gone() {
    let host = |name: &str| Inventory { hosts: BTreeMap::from([(name.parse().unwrap(), "{}".to_owned())]), ..Inventory::default() };
    let (wanted, leaving) = (host("a"), host("b"));
    let both = wanted.clone().with(&leaving);
    for found in [&wanted, &both] {
        let pruning = pruning(Some(found), &leaving, &wanted, Vec::new(), false, true);
        assert_eq!(pruning.first.as_ref().map(listed), (found != &both).then(|| both.clone()));
        assert_eq!(pruning.last.iter().map(listed).collect::<Vec<_>>(), std::slice::from_ref(&wanted));
    }
}

#[test]
fn what_would_take_others_with_it_stays_on_the_list() {
    let namespace = Object::new(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "kube-flannel" } }));
    let (found, wanted) = (of(&[namespace.clone(), object("ConfigMap", "a")], &[]), of(&[object("ConfigMap", "a")], &[]));
    let name = ObjectName::of(&namespace);
    let pruning = pruning(Some(&found), &Inventory::default(), &wanted, vec![gone(&name)], false, true);
    assert_eq!(pruning, Pruning { first: None, last: Vec::new(), kept: vec![name] });
}

#[test]
fn an_adopted_cluster_is_not_written_to_before_something_changes() {
    let wanted = of(&[object("ConfigMap", "a")], &[]);
    assert_eq!(pruning(None, &Inventory::default(), &wanted, Vec::new(), false, false), Pruning::default());
    for (changed, begun_here) in [(true, false), (false, true)] {
        let begun = pruning(None, &Inventory::default(), &wanted, Vec::new(), changed, begun_here);
        assert_eq!((listed(begun.first.as_ref().unwrap()), begun.last.len()), (wanted.clone(), 0));
    }
}
