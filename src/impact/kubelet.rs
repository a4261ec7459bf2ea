//! The table of a kubelet's settings that are more than a restart. Everything that is not in it is
//! one: no kubelet of a supported release reads its configuration again while it runs. (v1.20 still had
//! the DynamicKubeletConfig gate, but only for kubelets with `--dynamic-config-dir`, which slipway never
//! sets; the feature is gone since v1.24, and the field comments in v1.31 to v1.36 promise nothing.)
//!
//! Sources: the field comments of `KubeletConfiguration` (staging/src/k8s.io/kubelet/config/v1beta1/types.go),
//! which in v1.20 say of each field what happens if it changes under a running Node ("draining the
//! node is recommended", "full node reboot"); Kubernetes' documentation of changing the CPU manager
//! policy (drain, stop, remove `cpu_manager_state`, start); and what the managers check when they start
//! (pkg/kubelet/cm/cpumanager/policy_static.go and memorymanager/policy_static.go, `validateState`).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Impact, Setting};
use crate::yaml;

/// Files below the kubelet's root directory that are gone after a change of `Impact::Forget`
/// (`cpuManagerStateFileName` and `memoryManagerStateFileName` in pkg/kubelet/cm).
pub const STATE_FILES: [&str; 2] = ["cpu_manager_state", "memory_manager_state"];

/// When a change of a field has its impact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    /// A static policy keeps what it handed out; without one the field is only arithmetic.
    Pinned,
    /// A smaller number turns pods away when the kubelet starts.
    Lowered,
}

/// One row: the field, its flag, what counts as its value where nothing is said, and what a change means.
struct Row {
    field: &'static str,
    flag: &'static str,
    default: &'static str,
    when: When,
    impact: Impact,
}

const fn row(field: &'static str, flag: &'static str, default: &'static str, when: When, impact: Impact) -> Row {
    Row { field, flag, default, when, impact }
}

use Impact::{Drain, Forget, Remake};
use When::{Always, Lowered, Pinned};

/// The table. Defaults are JSON; those of the kubelet itself (pkg/kubelet/apis/config/v1beta1/defaults.go).
const ROWS: &[Row] = &[
    row("cgroupDriver", "cgroup-driver", "\"cgroupfs\"", Always, Remake),
    row("cgroupRoot", "cgroup-root", "\"\"", Always, Remake),
    row("cgroupsPerQOS", "cgroups-per-qos", "true", Always, Remake),
    row("clusterDNS", "cluster-dns", "null", Always, Drain),
    row("clusterDomain", "cluster-domain", "\"\"", Always, Drain),
    row("containerRuntimeEndpoint", "container-runtime-endpoint", "null", Always, Drain),
    row("cpuManagerPolicy", "cpu-manager-policy", "\"none\"", Always, Forget),
    row("cpuManagerPolicyOptions", "cpu-manager-policy-options", "{}", Always, Forget),
    row("enableControllerAttachDetach", "enable-controller-attach-detach", "true", Always, Drain),
    row("evictionHard", "eviction-hard", "null", Pinned, Forget),
    row("kubeReserved", "kube-reserved", "{}", Pinned, Forget),
    row("kubeReservedCgroup", "kube-reserved-cgroup", "\"\"", Always, Drain),
    row("kubeletCgroups", "kubelet-cgroups", "\"\"", Always, Drain),
    row("maxPods", "max-pods", "110", Lowered, Drain),
    row("memoryManagerPolicy", "memory-manager-policy", "\"None\"", Always, Forget),
    row("podLogsDir", "", "\"/var/log/pods\"", Always, Drain),
    row("podsPerCore", "pods-per-core", "0", Lowered, Drain),
    row("qosReserved", "qos-reserved", "{}", Always, Drain),
    row("reservedMemory", "reserved-memory", "[]", Pinned, Forget),
    row("reservedSystemCPUs", "reserved-cpus", "\"\"", Pinned, Forget),
    row("resolvConf", "resolv-conf", "\"/etc/resolv.conf\"", Always, Drain),
    row("systemCgroups", "system-cgroups", "\"\"", Always, Drain),
    row("systemReserved", "system-reserved", "{}", Pinned, Forget),
    row("systemReservedCgroup", "system-reserved-cgroup", "\"\"", Always, Drain),
    row("topologyManagerPolicy", "topology-manager-policy", "\"none\"", Always, Forget),
    row("topologyManagerPolicyOptions", "topology-manager-policy-options", "{}", Always, Forget),
    row("topologyManagerScope", "topology-manager-scope", "\"container\"", Always, Forget),
    // The notes, volumes and plugins of all pods are below it.
    row("", "root-dir", "\"/var/lib/kubelet\"", Always, Remake),
];

impl Row {
    fn impact(&self, before: Option<&Value>, after: Option<&Value>, pinned: bool) -> Option<Impact> {
        let default: Value = serde_json::from_str(self.default).unwrap_or(Value::Null);
        let (before, after) = (before.unwrap_or(&default), after.unwrap_or(&default));
        if before == after {
            return None;
        }
        let matters = match self.when {
            Always => true,
            Pinned => pinned,
            // Nought is no limit for podsPerCore.
            Lowered => limit(after) < limit(before),
        };
        Some(if matters { self.impact } else { Impact::Restart })
    }
}

fn limit(value: &Value) -> f64 {
    let number = value.as_f64().or_else(|| value.as_str()?.parse().ok());
    number.filter(|number| *number > 0.0).unwrap_or(f64::INFINITY)
}

/// What changes between two configurations. One that cannot be read counts as empty.
#[must_use]
pub fn fields(before: &str, after: &str, pinned: bool) -> Vec<Setting> {
    let (before, after) = (document(before), document(after));
    differing(&before, &after, |name, before, after| {
        let row = ROWS.iter().find(|row| row.field == name);
        row.map_or(Some(Impact::Restart), |row| row.impact(before, after, pinned))
    })
}

/// What changes between two texts of `kubeadm-flags.env`.
#[must_use]
pub fn flags(before: &str, after: &str, pinned: bool) -> Vec<Setting> {
    let (before, after) = (flag_values(before), flag_values(after));
    let named = differing(&before, &after, |name, before, after| {
        let row = ROWS.iter().find(|row| row.flag == name);
        row.map_or(Some(Impact::Restart), |row| row.impact(before, after, pinned))
    });
    named.into_iter().map(|setting| Setting::new(format!("--{}", setting.name), setting.impact)).collect()
}

fn differing(
    before: &Map<String, Value>,
    after: &Map<String, Value>,
    judge: impl Fn(&str, Option<&Value>, Option<&Value>) -> Option<Impact>,
) -> Vec<Setting> {
    let names: BTreeMap<&str, ()> = before.keys().chain(after.keys()).map(|name| (name.as_str(), ())).collect();
    let changed = names.into_keys().filter(|name| before.get(*name) != after.get(*name));
    changed.filter_map(|name| Some(Setting::new(name, judge(name, before.get(name), after.get(name))?))).collect()
}

/// Whether such a configuration and such flags tie containers to CPUs or memory.
#[must_use]
pub fn is_pinning(configuration: &str, flags: &str) -> bool {
    let (fields, flags) = (document(configuration), flag_values(flags));
    let says = |field: &str, flag: &str| {
        let value = flags.get(flag).or_else(|| fields.get(field)).and_then(Value::as_str);
        value.is_some_and(|value| value.eq_ignore_ascii_case("static"))
    };
    says("cpuManagerPolicy", "cpu-manager-policy") || says("memoryManagerPolicy", "memory-manager-policy")
}

/// The directory that a kubelet with these flags works in.
#[must_use]
pub fn root_directory(flags: &str) -> String {
    let given = flag_values(flags).get("root-dir").and_then(Value::as_str).map(|path| path.trim_end_matches('/').to_owned());
    given.filter(|path| path.starts_with('/')).unwrap_or_else(|| "/var/lib/kubelet".to_owned())
}

fn document(text: &str) -> Map<String, Value> {
    match yaml::read(text) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

/// Flags of the form `--name=value`, as slipway and kubeadm write them. A value that is a JSON scalar is
/// one, so that `--max-pods=50` is the number of the field.
fn flag_values(text: &str) -> Map<String, Value> {
    let quoted = text.lines().find_map(|line| line.trim().strip_prefix("KUBELET_KUBEADM_ARGS=")).unwrap_or_default();
    let words = quoted.trim().trim_matches('"').split_whitespace().filter_map(|word| word.strip_prefix("--"));
    words
        .map(|word| {
            let (name, value) = word.split_once('=').unwrap_or((word, "true"));
            let scalar = serde_json::from_str(value).ok().filter(|value: &Value| value.is_number() || value.is_boolean());
            (name.to_owned(), scalar.unwrap_or_else(|| json!(value)))
        })
        .collect()
}

#[cfg(test)]
mod tests;
