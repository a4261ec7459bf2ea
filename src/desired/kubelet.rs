//! Phase `kubelet`: its configuration, flags, unit and drop-in. The kubelet is started last on a
//! host: everything its static pods read is in place by then.

use crate::artifact::{Artifact, Content, stamp_of};
use crate::facts::System;
use crate::kubernetes::kubelet;
use crate::names::{Mode, RemotePath};
use crate::patch::PatchError;
use crate::paths;
use crate::plan::{Host, Plan};
use crate::release::Release;
use crate::template::{KubeletDropIn, KubeletUnit, Template as _, Variable};
use crate::yaml;

use super::programs;

/// The kubelet's unit.
pub const UNIT: &str = "kubelet.service";
/// The unit's file; it stands over the one of a package.
pub const UNIT_FILE: &str = "/etc/systemd/system/kubelet.service";
/// The drop-in; the number puts it after the one of kubeadm's package.
pub const DROP_IN_FILE: &str = "/etc/systemd/system/kubelet.service.d/20-slipway.conf";

/// What this phase wants on a host. `others` are the artifacts of the host's earlier phases: the
/// kubelet restarts when one of them that it reads at start changes.
///
/// # Errors
/// A patch of the plan does not fit.
pub fn artifacts(
    plan: &Plan,
    host: &Host,
    system: &System,
    release: &Release,
    others: &[Artifact],
) -> Result<Vec<Artifact>, PatchError> {
    let program = programs::kubelet_path(plan, system);
    let file = |path: RemotePath, text: String| Artifact::File { path, mode: Mode(0o644), content: Content::plain(text) };
    let environment = plan.kubelet.extra_env.iter().map(|(name, value)| Variable::new(name, value)).collect();
    let drop_in = KubeletDropIn { program: program.to_string(), standalone: !host.is_node(), environment };
    let configuration = kubelet::configuration(plan, host, system, release)?;
    let mut artifacts = vec![
        Artifact::Directory { path: paths::manifests_directory(), mode: Mode(0o700) },
        Artifact::Directory { path: paths::kubelet_directory(), mode: Mode(0o700) },
        file(paths::kubelet_configuration(), yaml::write(&configuration)),
        file(paths::kubelet_flags(), kubelet::flags_environment(plan, host, system, release)),
    ];
    let mut inputs = vec![paths::kubelet_configuration(), paths::kubelet_flags()];
    if let Some(instance) = kubelet::instance_configuration(plan, release) {
        artifacts.push(file(paths::kubelet_instance_configuration(), yaml::write(&instance)));
    }
    for (path, text) in [
        (UNIT_FILE, KubeletUnit { program: program.to_string() }.render()),
        (DROP_IN_FILE, drop_in.render()),
    ] {
        artifacts.push(file(RemotePath::fixed(path), text));
        inputs.push(RemotePath::fixed(path));
    }
    inputs.push(program);
    if host.is_node() {
        inputs.extend([paths::ca_certificate(), paths::kubelet_kubeconfig()]);
    }
    let all: Vec<Artifact> = others.iter().chain(&artifacts).cloned().collect();
    let stamp = stamp_of(&inputs, &all);
    if host.is_node() {
        // A running kubelet reads its certificate once. The file is no part of the stamp: it is wanted
        // only in the run that makes it, and later the kubelet has moved on to its own.
        inputs.push(paths::kubelet_client_issued());
    }
    artifacts.push(Artifact::Unit { name: UNIT.into(), inputs, stamp, check: None });
    Ok(artifacts)
}
