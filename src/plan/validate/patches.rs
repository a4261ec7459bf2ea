//! Patches: shape, and whether their targets exist.

use serde_json::Value;

use super::super::field::{FieldPath, field};
use super::super::problem::Problems;
use super::super::suggestion::nearest;
use super::super::{Patch, PatchKind, PatchTarget, Plan};

/// Operations of RFC 6902, with the member each needs beside `op` and `path`.
const OPERATIONS: [(&str, Option<&str>); 6] = [
    ("add", Some("value")),
    ("remove", None),
    ("replace", Some("value")),
    ("move", Some("from")),
    ("copy", Some("from")),
    ("test", Some("value")),
];

pub(super) fn check(plan: &Plan, problems: &mut Problems) {
    for (index, patch) in plan.patches.iter().enumerate() {
        let path = field("patches").index(index);
        shape(patch, &path.key("patch"), problems);
        hosts(plan, patch, &path, problems);
        let unused = match patch.target {
            PatchTarget::Etcd if plan.etcd.external.is_some() => "etcd is external",
            PatchTarget::CorednsDeployment if !plan.core_dns.enabled => "CoreDNS is turned off",
            PatchTarget::KubeProxyDaemonset if !plan.kube_proxy.enabled => "kube-proxy is turned off",
            _ => continue,
        };
        problems.warning("unused", path.key("target"), format!("{unused}, so this patch has no effect"));
    }
}

fn shape(patch: &Patch, path: &FieldPath, problems: &mut Problems) {
    match (patch.kind, &patch.patch) {
        (PatchKind::Json, Value::Array(operations)) => {
            for (index, operation) in operations.iter().enumerate() {
                check_operation(operation, &path.index(index), problems);
            }
        }
        (PatchKind::Json, _) => {
            problems.error("patch-shape", path.clone(), "a patch of type `json` is a list of operations").hint("`- {op: add, path: /spec/…, value: …}`");
        }
        (_, Value::Object(_)) => {}
        _ => {
            let problem = problems.error("patch-shape", path.clone(), "a patch is a mapping, with the fields to change");
            if patch.patch.is_array() {
                problem.hint("a list of operations needs `type: json`");
            }
        }
    }
}

fn check_operation(operation: &Value, path: &FieldPath, problems: &mut Problems) {
    let Some(name) = operation["op"].as_str() else {
        problems.error("patch-shape", path.clone(), "an operation needs the member `op`");
        return;
    };
    let Some((_, needs)) = OPERATIONS.iter().find(|(known, _)| *known == name) else {
        let problem = problems.error("patch-shape", path.key("op"), format!("`{name}` is not an operation"));
        problem.hint = nearest(name, OPERATIONS.iter().map(|(known, _)| *known)).map(|near| format!("did you mean `{near}`?"));
        return;
    };
    for pointer in ["path"].into_iter().chain(needs.filter(|member| *member == "from")) {
        if !operation[pointer].as_str().is_some_and(|text| text.is_empty() || text.starts_with('/')) {
            problems.error("patch-shape", path.key(pointer), format!("`{pointer}` must be a pointer such as `/spec/hostNetwork`"));
        }
    }
    if *needs == Some("value") && operation.get("value").is_none() {
        problems.error("patch-shape", path.clone(), format!("`{name}` needs a `value`"));
    }
}

fn hosts(plan: &Plan, patch: &Patch, path: &FieldPath, problems: &mut Problems) {
    let path = path.key("hosts");
    if !patch.hosts.is_empty() && matches!(patch.target, PatchTarget::CorednsDeployment | PatchTarget::KubeProxyDaemonset) {
        problems.error("patch-hosts", path.clone(), "this document belongs to the cluster, not to a host");
    }
    // A set has no order of the file, so the list is what is marked.
    for name in patch.hosts.iter().filter(|name| plan.host(name).is_none()) {
        let problem = problems.error("patch-hosts", path.clone(), format!("the plan has no host `{name}`"));
        let known = plan.hosts.iter().map(|host| host.name.as_str());
        problem.hint = nearest(name.as_str(), known).map(|near| format!("did you mean `{near}`?"));
    }
}
