//! Short forms for RBAC objects, so that `objects` reads as the list of rights it is.

use serde_json::{Value, json};

const API: &str = "rbac.authorization.k8s.io/v1";
const GROUP: &str = "rbac.authorization.k8s.io";

/// Who is bound.
pub(super) enum Subject<'a> {
    User(&'a str),
    Group(&'a str),
    /// A service account of the given namespace.
    ServiceAccount(&'a str, &'a str),
}

impl Subject<'_> {
    fn value(&self) -> Value {
        match self {
            Self::User(name) => json!({ "apiGroup": GROUP, "kind": "User", "name": name }),
            Self::Group(name) => json!({ "apiGroup": GROUP, "kind": "Group", "name": name }),
            Self::ServiceAccount(namespace, name) => {
                json!({ "kind": "ServiceAccount", "name": name, "namespace": namespace })
            }
        }
    }
}

/// One rule: verbs on resources of an API group.
pub(super) fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({ "apiGroups": [group], "resources": resources, "verbs": verbs })
}

pub(super) fn cluster_role(name: &str, rules: Vec<Value>) -> Value {
    json!({ "apiVersion": API, "kind": "ClusterRole", "metadata": { "name": name }, "rules": rules })
}

pub(super) fn cluster_role_binding(name: &str, role: &str, subjects: &[Subject<'_>]) -> Value {
    json!({
        "apiVersion": API,
        "kind": "ClusterRoleBinding",
        "metadata": { "name": name },
        "roleRef": { "apiGroup": GROUP, "kind": "ClusterRole", "name": role },
        "subjects": subjects.iter().map(Subject::value).collect::<Vec<_>>(),
    })
}

/// A Role and its RoleBinding of the same name that allow to read one ConfigMap.
pub(super) fn config_map_reader(namespace: &str, name: &str, config_map: &str, subjects: &[Subject<'_>]) -> [Value; 2] {
    let metadata = json!({ "name": name, "namespace": namespace });
    let mut rule = rule("", &["configmaps"], &["get"]);
    rule["resourceNames"] = json!([config_map]);
    [
        json!({ "apiVersion": API, "kind": "Role", "metadata": metadata, "rules": [rule] }),
        json!({
            "apiVersion": API,
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": { "apiGroup": GROUP, "kind": "Role", "name": name },
            "subjects": subjects.iter().map(Subject::value).collect::<Vec<_>>(),
        }),
    ]
}

pub(super) fn service_account(namespace: &str, name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name, "namespace": namespace } })
}

pub(super) fn config_map(namespace: &str, name: &str, data: &std::collections::BTreeMap<String, String>) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": name, "namespace": namespace },
        "data": data,
    })
}
