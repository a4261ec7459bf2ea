//! What a probe looks at, for a plan: one place that knows every file, unit, program and kernel
//! setting slipway may care about.

use crate::desired::{kubelet, local_proxy, pod_network, programs, runtime, system};
use crate::names::RemotePath;
use crate::plan::Plan;
use crate::preflight;
use crate::transport::ProbeRequest;
use crate::trust::specification;

/// Directories and files whose content tells how a host stands.
const ROOTS: &[&str] = &[
    "/etc/kubernetes/manifests",
    "/etc/kubernetes/bootstrap-kubelet.conf",
    "/var/lib/kubelet/config.yaml",
    "/var/lib/kubelet/kubeadm-flags.env",
    "/var/lib/kubelet/instance-config.yaml",
    "/etc/containerd/certs.d",
    "/var/lib/slipway/records",
    "/var/lib/slipway/formed",
];

/// Directories of which only mode and owner matter.
const DIRECTORIES: &[&str] = &["/etc/kubernetes", "/var/lib/kubelet", "/var/lib/slipway"];

/// The probe of every host of this plan. With `lock`, the hosts' locks are held.
#[must_use]
pub fn probe(plan: &Plan, lock: Option<String>) -> ProbeRequest {
    let mut roots: Vec<RemotePath> = ROOTS.iter().map(|path| RemotePath::fixed(path)).collect();
    roots.extend(specification::probe_roots());
    roots.extend(
        [
            system::MODULES_FILE,
            system::SYSCTL_FILE,
            runtime::CONFIGURATION_FILE,
            pod_network::CNI_FILE,
            pod_network::POD_CIDRS_FILE,
            kubelet::UNIT_FILE,
            kubelet::DROP_IN_FILE,
            local_proxy::CONFIGURATION_FILE,
        ]
        .map(RemotePath::fixed),
    );
    roots.push(RemotePath::fixed(&format!("/etc/systemd/system/{}", pod_network::ROUTES_UNIT)));
    roots.sort();
    roots.dedup();
    ProbeRequest {
        roots,
        without_content: specification::keys_without_content(),
        directories: DIRECTORIES.iter().map(|path| RemotePath::fixed(path)).chain([plan.etcd.data_directory.clone()]).collect(),
        programs: programs::paths(plan),
        units: ["containerd.service", kubelet::UNIT, pod_network::ROUTES_UNIT].map(str::to_owned).into(),
        commands: preflight::wanted_commands(),
        modules: system::modules(plan),
        sysctls: system::parameters(plan).into_iter().map(|parameter| parameter.key).collect(),
        etcd_directory: Some(plan.etcd.data_directory.clone()),
        socket: Some(plan.runtime.socket.clone()),
        lock,
    }
}
