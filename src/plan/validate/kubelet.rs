//! Settings that the plan's release of Kubernetes does not have: fields of the kubelet's configuration,
//! which the kubelet would skip with a line in its log, and feature gates that are gone, with which no
//! component starts. Most come to light at an upgrade: the plan is checked for the release it goes to.

use serde_json::{Map, Value};

use super::super::field::{FieldPath, field};
use super::super::problem::Problems;
use super::super::suggestion::nearest;
use super::super::Plan;

mod table;

use table::{FIELDS_AFTER_20, FIELDS_AFTER_35, FIELDS_OF_20, GATES_GONE_BY_35, GATES_GONE_IN_36};

pub(super) fn check(plan: &Plan, problems: &mut Problems) {
    configuration(plan, &plan.kubelet.configuration, &field("kubelet").key("configuration"), problems);
    for (index, host) in plan.hosts.iter().enumerate() {
        let path = field("hosts").index(index).key("kubelet").key("configuration");
        configuration(plan, &host.kubelet.configuration, &path, problems);
    }
    let path = field("kubernetes").key("featureGates");
    gates(plan, plan.kubernetes.feature_gates.keys().map(String::as_str), &path, problems);
    let components = [
        ("apiServer", &plan.api_server.extra_args),
        ("controllerManager", &plan.controller_manager.extra_args),
        ("scheduler", &plan.scheduler.extra_args),
        ("kubelet", &plan.kubelet.extra_args),
    ];
    for (name, arguments) in components {
        let Some(values) = arguments.get("feature-gates") else { continue };
        let names = values.0.iter().flat_map(|value| value.split(',')).filter_map(|pair| pair.split_once('=')).map(|(name, _)| name.trim());
        gates(plan, names, &field(name).key("extraArgs").key("feature-gates"), problems);
    }
}

fn configuration(plan: &Plan, fields: &Map<String, Value>, path: &FieldPath, problems: &mut Problems) {
    let version = plan.kubernetes.version;
    for name in fields.keys() {
        let since = match name.as_str() {
            "apiVersion" | "kind" => None,
            name if FIELDS_OF_20.contains(&name) => None,
            name if FIELDS_AFTER_20.contains(&name) => (version.minor <= 20).then_some("has it only since a later release"),
            name if FIELDS_AFTER_35.contains(&name) => (version.minor <= 35).then_some("has it only since v1.36"),
            _ => Some("has it in no release that slipway knows"),
        };
        let Some(since) = since else { continue };
        let message = format!("the kubelet of {version} has no field `{name}` and would skip it; it {since}");
        let problem = problems.warning("kubelet-field", path.key(name), message);
        let known = FIELDS_OF_20.iter().chain(FIELDS_AFTER_20).chain(FIELDS_AFTER_35).copied();
        if let Some(near) = nearest(name, known).filter(|near| *near != name.as_str()) {
            problem.hint(format!("did you mean `{near}`?"));
        }
    }
    let gates = fields.get("featureGates").and_then(Value::as_object).into_iter().flat_map(Map::keys);
    self::gates(plan, gates.map(String::as_str), &path.key("featureGates"), problems);
}

fn gates<'a>(plan: &Plan, names: impl Iterator<Item = &'a str>, path: &FieldPath, problems: &mut Problems) {
    let version = plan.kubernetes.version;
    for name in names {
        let gone = version.minor >= 35 && GATES_GONE_BY_35.contains(&name) || version.minor >= 36 && GATES_GONE_IN_36.contains(&name);
        if gone {
            let message = format!("Kubernetes {version} has no feature gate `{name}` any more, and a component that is given it does not start");
            problems.error("feature-gate-removed", path.key(name), message).hint("remove it: what it switched is always on, or gone");
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::load::parse;

    fn told(version: &str, more: &str) -> Vec<String> {
        let text = format!("version: 1\nkubernetes: {{version: {version}}}\n{more}hosts:\n  - {{name: a, address: 192.0.2.1, roles: [control-plane, worker], kubelet: {{configuration: {{maxPods: 50}}}}}}\n");
        let problems = parse(&text).map_or_else(|problems| problems, |(_, problems)| problems);
        let ours = problems.iter().filter(|problem| problem.code.starts_with("kubelet-field") || problem.code == "feature-gate-removed");
        ours.map(|problem| format!("{} {}{}", problem.code, problem.path, problem.hint.as_deref().map(|hint| format!(": {hint}")).unwrap_or_default())).collect()
    }

    #[test]
    fn a_field_that_the_release_does_not_have_is_told() {
        let fields = "kubelet: {configuration: {tlsCurvePreferences: [X25519], userNamespaces: {}, maxPods: 10, maxPod: 10, nonsense: 1}}\n";
        let said = |version| told(version, fields).into_iter().map(|line| line.split(' ').nth(1).unwrap().rsplit('.').next().unwrap().trim_end_matches(':').to_owned()).collect::<Vec<_>>();
        assert_eq!(said("v1.36.2"), ["maxPod", "nonsense"]);
        assert_eq!(said("v1.35.6"), ["tlsCurvePreferences", "maxPod", "nonsense"]);
        assert_eq!(said("v1.20.2"), ["tlsCurvePreferences", "userNamespaces", "maxPod", "nonsense"]);
        assert_eq!(told("v1.36.2", fields)[0], "kubelet-field kubelet.configuration.maxPod: did you mean `maxPods`?");
    }

    #[test]
    fn a_gate_that_is_gone_is_refused_wherever_it_is_given() {
        let gates = "apiServer: {extraArgs: {feature-gates: 'A=true,MemoryManager=true'}}\nkubelet: {configuration: {featureGates: {CPUManager: true}}}\n";
        let places = ["feature-gate-removed apiServer.extraArgs.feature-gates.MemoryManager", "feature-gate-removed kubelet.configuration.featureGates.CPUManager"];
        let said = |version| {
            let mut lines: Vec<String> = told(version, gates).into_iter().map(|line| line.split(':').next().unwrap().to_owned()).collect();
            lines.sort();
            lines
        };
        assert_eq!(said("v1.36.2"), places);
        assert_eq!(said("v1.35.6"), places[1..]);
        assert_eq!(said("v1.34.2"), Vec::<String>::new());
    }
}
