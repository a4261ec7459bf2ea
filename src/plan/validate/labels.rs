//! Labels and taints of Nodes, by Kubernetes' own syntax. Prefixes that the kubelet may not set
//! for itself are fine, because slipway sets labels as an administrator.

use std::collections::BTreeSet;

use super::super::Plan;
use super::super::field::{FieldPath, field};
use super::super::problem::Problems;
use super::syntax::is_dns_name;

/// Labels that follow from a host's roles.
const RESERVED: [&str; 2] = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

pub(super) fn check(plan: &Plan, problems: &mut Problems) {
    for (index, host) in plan.hosts.iter().enumerate() {
        let path = field("hosts").index(index);
        for (key, value) in &host.labels {
            let path = path.key("labels").key(key);
            if RESERVED.contains(&key.as_str()) {
                problems
                    .error("label-reserved", path.clone(), format!("the label `{key}` follows from the host's roles"))
                    .hint("use `roles: [control-plane]`");
            }
            check_key("label", key, &path, problems);
            check_value("label", value, &path, problems);
        }
        let mut seen = BTreeSet::new();
        for (at, taint) in host.taints.iter().flatten().enumerate() {
            let path = path.key("taints").index(at);
            check_key("taint", &taint.key, &path.key("key"), problems);
            check_value("taint", &taint.value, &path.key("value"), problems);
            if !seen.insert((&taint.key, taint.effect)) {
                problems.error("taint-duplicate", path, "a taint of that key and effect is in the list already");
            }
        }
    }
}

fn check_key(what: &str, key: &str, path: &FieldPath, problems: &mut Problems) {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if !prefix.is_none_or(is_dns_name) || name.is_empty() || !is_label_text(name) {
        problems
            .error("label-syntax", path.clone(), format!("`{key}` is not the key of a {what}"))
            .hint("at most 63 letters, digits, `-`, `_` and `.`, perhaps after a DNS name and `/`");
    }
}

fn check_value(what: &str, value: &str, path: &FieldPath, problems: &mut Problems) {
    if !is_label_text(value) {
        problems
            .error("label-syntax", path.clone(), format!("`{value}` is not the value of a {what}"))
            .hint("at most 63 letters, digits, `-`, `_` and `.`, starting and ending with a letter or digit");
    }
}

/// Empty, or 1 to 63 letters, digits, `-`, `_`, `.` between letters or digits.
fn is_label_text(text: &str) -> bool {
    let at_end = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && at_end(text.chars().next())
        && at_end(text.chars().last())
}
