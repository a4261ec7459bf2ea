//! Command-line flags that a plan gives to components: those that a version no longer has and
//! those that slipway itself must set are refused, as either would leave a component that does
//! not start or a cluster that does not form.

use indexmap::IndexMap;

use super::super::field::{FieldPath, field};
use super::super::problem::Problems;
use super::super::{ArgumentValues, Plan};

mod table;

use table::{OWNED, Program, REMOVED};

pub(super) fn check(plan: &Plan, problems: &mut Problems) {
    let places = [
        (Program::ApiServer, "apiServer", &plan.api_server.extra_args),
        (Program::ControllerManager, "controllerManager", &plan.controller_manager.extra_args),
        (Program::Scheduler, "scheduler", &plan.scheduler.extra_args),
        (Program::Etcd, "etcd", &plan.etcd.extra_args),
        (Program::Kubelet, "kubelet", &plan.kubelet.extra_args),
    ];
    for (program, name, arguments) in places {
        check_arguments(plan, program, arguments, &field(name).key("extraArgs"), problems);
    }
    for (index, host) in plan.hosts.iter().enumerate() {
        let path = field("hosts").index(index).key("kubelet").key("extraArgs");
        check_arguments(plan, Program::Kubelet, &host.kubelet.extra_args, &path, problems);
    }
}

/// Whether slipway itself sets that flag, so that `extraArgs` of this section of the plan cannot.
#[must_use]
pub fn is_owned(section: &str, flag: &str) -> bool {
    let program = match section {
        "apiServer" => Program::ApiServer,
        "controllerManager" => Program::ControllerManager,
        "scheduler" => Program::Scheduler,
        "etcd" => Program::Etcd,
        "kubelet" => Program::Kubelet,
        _ => return false,
    };
    OWNED.iter().any(|(owner, name, _)| *owner == program && *name == flag)
}

fn check_arguments(
    plan: &Plan,
    program: Program,
    arguments: &IndexMap<String, ArgumentValues>,
    path: &FieldPath,
    problems: &mut Problems,
) {
    for (flag, values) in arguments {
        let path = path.key(flag);
        if let Some(wrong) = values.0.iter().find_map(|value| wrong_value(program, value)) {
            problems.error("flag-syntax", path.clone(), format!("the value holds {wrong}"));
        }
        let bare = flag.trim_start_matches('-');
        if !is_flag_name(flag) {
            let problem = problems.error("flag-syntax", path, format!("`{flag}` is not the name of a flag"));
            if is_flag_name(&bare.replace('_', "-")) {
                problem.hint(format!("write `{}`", bare.replace('_', "-")));
            }
            continue;
        }
        let minor = plan.kubernetes.version.minor;
        // With an image of the plan's own the version of etcd is not known.
        let known_version = program != Program::Etcd || plan.etcd.image.is_none();
        let removed = REMOVED.iter().find(|removed| removed.program == program && removed.flag == flag && minor >= removed.since);
        if let Some(removed) = removed.filter(|_| known_version) {
            let message = format!("{program} of Kubernetes {} has no flag `--{flag}` and would not start", plan.kubernetes.version);
            problems.error("flag-removed", path, message).hint(removed.instead);
        } else if let Some((.., instead)) = OWNED.iter().find(|(owner, name, _)| *owner == program && name == flag) {
            let problem = problems.error("flag-owned", path, format!("slipway itself sets `--{flag}` of {program}"));
            problem.hint = instead.map(|field| format!("use `{field}` instead"));
        } else if program == Program::Etcd && flag.starts_with("experimental-") && minor >= 34 && known_version {
            let message = format!("etcd 3.6 (Kubernetes {}) replaces experimental flags", plan.kubernetes.version);
            problems.warning("flag-experimental", path, message).hint("see etcd's own list for the name without `experimental-`");
        } else if flag == "feature-gates" && program != Program::Etcd && !plan.kubernetes.feature_gates.is_empty() {
            problems
                .error("flag-conflict", path, "feature gates are given twice")
                .related(field("kubernetes").key("featureGates"), "also given here")
                .hint("put all of them below `kubernetes.featureGates`");
        }
    }
}

/// The kubelet's flags are words of one variable of its unit, which systemd splits at white space,
/// with rules of its own for quotes and backslashes (systemd.service, "Command lines"): a value would
/// become other flags.
fn wrong_value(program: Program, value: &str) -> Option<&'static str> {
    if value.contains(char::is_control) {
        Some("a line break or another control character")
    } else if program == Program::Kubelet && value.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '\\')) {
        Some("white space, a quote or a backslash, which cannot be told to the kubelet")
    } else {
        None
    }
}

fn is_flag_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
}
