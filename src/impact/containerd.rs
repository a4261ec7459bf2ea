//! Which settings of containerd are more than a restart. containerd's shims keep containers running
//! while it restarts, so most are not. Those are that decide where containers and their files are: after
//! such a change containerd no longer knows what it started, or cannot start it again.
//!
//! Sources: containerd's documentation of `root` and `state` (docs/ops.md) and of the CRI plugin's
//! `snapshotter` and `SystemdCgroup` (docs/cri/config.md); Kubernetes' documentation of container runtimes
//! on changing the cgroup driver of a Node with pods. Mirrors are in files of their own below
//! `config_path`, which containerd reads at each pull (docs/hosts.md): they are live and never come here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Impact, Setting};

/// Settings by the last part of their name that end all pods, with containerd's default.
const REMAKES: [(&str, &str); 3] = [("root", "/var/lib/containerd"), ("state", "/run/containerd"), ("snapshotter", "overlayfs")];

/// runc's cgroup driver.
const CGROUP: &str = "SystemdCgroup";

/// What changes between two texts of config.toml. If one cannot be read, anything may have changed.
#[must_use]
pub fn settings(before: &str, after: &str) -> Vec<Setting> {
    let (Some(before), Some(after)) = (tree(before), tree(after)) else { return vec![Setting::new("config.toml", Impact::Drain)] };
    let mut settings = Vec::new();
    // A new major version of containerd has its plugins under other names, and the same settings there.
    let format = |tree: &Leaves| tree.get("version").cloned().unwrap_or(Value::from(1));
    let moved = format(&before) != format(&after);
    if moved {
        settings.push(Setting::new("version", Impact::Drain));
    }
    if uses_systemd(&before) != uses_systemd(&after) {
        settings.push(Setting::new(CGROUP, Impact::Remake));
    }
    for (name, default) in REMAKES {
        if values(&before, name, default) != values(&after, name, default) {
            settings.push(Setting::new(name, Impact::Remake));
        }
    }
    let judged = |name: &str| name == "version" || [CGROUP].into_iter().chain(REMAKES.map(|(name, _)| name)).any(|last| is_called(name, last));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let others = names.into_iter().filter(|name| !moved && !judged(name) && before.get(*name) != after.get(*name));
    settings.extend(others.map(|name| {
        // Another runtime below the pods that are there; one that is added concerns none of them.
        let replaced = name.ends_with(".runtime_type") && before.contains_key(name);
        Setting::new(name, if replaced { Impact::Drain } else { Impact::Restart })
    }));
    settings
}

/// Whether images are elsewhere after a change of that setting.
#[must_use]
pub fn moves_images(setting: &str) -> bool {
    matches!(setting, "root" | "snapshotter")
}

type Leaves = BTreeMap<String, Value>;

fn tree(text: &str) -> Option<Leaves> {
    let value: toml::Table = text.parse().ok()?;
    let mut leaves = Leaves::new();
    gather(&serde_json::to_value(value).ok()?, String::new(), &mut leaves);
    Some(leaves)
}

fn gather(value: &Value, name: String, leaves: &mut Leaves) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                gather(value, if name.is_empty() { key.clone() } else { format!("{name}.{key}") }, leaves);
            }
        }
        other => _ = leaves.insert(name, other.clone()),
    }
}

/// Whether a setting is of that name: at the top level, or for the runtime's own plugins anywhere.
fn is_called(name: &str, last: &str) -> bool {
    let own = name == last;
    match last {
        "root" | "state" => own,
        _ => own || name.strip_suffix(last).is_some_and(|rest| rest.ends_with('.')),
    }
}

/// The distinct values of a setting wherever it is said; what is not said or empty is the default.
fn values(leaves: &Leaves, last: &str, default: &str) -> BTreeSet<String> {
    let said = leaves.iter().filter(|(name, _)| is_called(name, last)).filter_map(|(_, value)| value.as_str()).filter(|text| !text.is_empty());
    let mut values: BTreeSet<String> = said.map(str::to_owned).collect();
    if values.is_empty() {
        values.insert(default.to_owned());
    }
    values
}

fn uses_systemd(leaves: &Leaves) -> bool {
    leaves.iter().any(|(name, value)| is_called(name, CGROUP) && *value == Value::Bool(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"pause:3.9\"\n\
        [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n\
        [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\nSystemdCgroup = true\n";

    fn judged(before: &str, after: &str) -> Vec<(String, Impact)> {
        settings(before, after).into_iter().map(|setting| (setting.name.rsplit('.').next().unwrap_or_default().to_owned(), setting.impact)).collect()
    }

    #[test]
    fn a_pause_image_or_a_plugins_setting_is_a_restart() {
        assert_eq!(judged(OLD, OLD), []);
        assert_eq!(judged(OLD, &OLD.replace("3.9", "3.10")), [("sandbox_image".into(), Impact::Restart)]);
        assert_eq!(judged(OLD, &format!("oom_score = -999\n{OLD}")), [("oom_score".into(), Impact::Restart)]);
    }

    #[test]
    fn what_containers_live_in_ends_all_pods() {
        assert_eq!(judged(OLD, &OLD.replace("= true", "= false")), [("SystemdCgroup".into(), Impact::Remake)]);
        assert_eq!(judged(OLD, &OLD.replace("SystemdCgroup = true\n", "")), [("SystemdCgroup".into(), Impact::Remake)]);
        for (line, name) in [("root = \"/data\"\n", "root"), ("state = \"/run/c\"\n", "state")] {
            assert_eq!(judged(OLD, &format!("{line}{OLD}")), [(name.into(), Impact::Remake)]);
        }
        let native = format!("{OLD}[plugins.\"io.containerd.grpc.v1.cri\".containerd]\nsnapshotter = \"native\"\n");
        assert_eq!(judged(OLD, &native), [("snapshotter".into(), Impact::Remake)]);
        // What is said and was the default is no change.
        assert_eq!(judged(OLD, &format!("root = \"/var/lib/containerd\"\n{OLD}")), []);
    }

    #[test]
    fn another_format_or_runtime_drains() {
        let new = "version = 3\n[plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.runc.options]\nSystemdCgroup = true\n";
        assert_eq!(judged(OLD, new), [("version".into(), Impact::Drain)]);
        assert_eq!(judged(OLD, &OLD.replace("runc.v2", "runsc.v1")), [("runtime_type".into(), Impact::Drain)]);
        let added = format!("{OLD}[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.gvisor]\nruntime_type = \"io.containerd.runsc.v1\"\n");
        assert_eq!(judged(OLD, &added), [("runtime_type".into(), Impact::Restart)]);
        assert_eq!(settings("not toml [", OLD), [Setting::new("config.toml", Impact::Drain)]);
    }
}
