//! What a probe looks at, for a plan: one place that knows every file, unit, program and kernel
//! setting slipway may care about.

use crate::adopt::units;
use crate::desired::{kubelet, local_proxy, packages, pod_network, programs, runtime, system, vip};
use crate::names::RemotePath;
use crate::phase::Phase;
use crate::plan::{Endpoint, Plan};
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
    "/var/lib/slipway/archives",
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
            runtime::UNIT_FILE,
            pod_network::CNI_FILE,
            pod_network::POD_CIDRS_FILE,
            kubelet::UNIT_FILE,
            kubelet::DROP_IN_FILE,
            local_proxy::CONFIGURATION_FILE,
            vip::HAPROXY_FILE,
            vip::KEEPALIVED_FILE,
            vip::CHECK_FILE,
            packages::FILES[0],
            packages::FILES[1],
            packages::FILES[2],
            packages::FILES[3],
        ]
        .map(RemotePath::fixed),
    );
    roots.push(RemotePath::fixed(&format!("/etc/systemd/system/{}", pod_network::ROUTES_UNIT)));
    roots.extend(units::roots());
    roots.sort();
    roots.dedup();
    // What is below another root is told with it.
    let all = roots.clone();
    roots.retain(|path| !all.iter().any(|other| other != path && path.is_within(other)));
    ProbeRequest {
        roots,
        without_content: specification::keys_without_content(),
        directories: DIRECTORIES.iter().map(|path| RemotePath::fixed(path)).chain([plan.etcd.data_directory.clone()]).collect(),
        programs: programs::paths(plan),
        packages: packages::names(plan),
        units: ["containerd.service", kubelet::UNIT, pod_network::ROUTES_UNIT].map(str::to_owned).into(),
        commands: preflight::wanted_commands(),
        modules: system::modules(plan),
        sysctls: system::parameters(plan).into_iter().map(|parameter| parameter.key).collect(),
        ports: true,
        interfaces: matches!(plan.endpoint, Some(Endpoint::Vip(_))),
        etcd_directory: Some(plan.etcd.data_directory.clone()),
        socket: Some(plan.runtime.socket.clone()),
        lock,
    }
}

/// The probe of every host for a run of these phases; an empty list means all. Who listens on a port counts only
/// for those who start something there.
#[must_use]
pub fn for_phases(plan: &Plan, lock: Option<String>, phases: &[Phase]) -> ProbeRequest {
    let ports = phases.is_empty() || phases.iter().any(|phase| phase.listens());
    ProbeRequest { ports, ..probe(plan, lock) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;

    use super::*;
    use crate::artifact::Artifact;
    use crate::desired::{self, Inputs, LocalFiles};
    use crate::facts::System;
    use crate::names::Digest;
    use crate::plan::Source;
    use crate::release::Release;
    use crate::standing;
    use crate::trust::refresh::{ExternalEtcdFiles, fresh_material};

    fn example(name: &str) -> Plan {
        let path = format!("{}/plans/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
        let (mut plan, _) = crate::plan::load::parse(&std::fs::read_to_string(path).unwrap()).unwrap();
        // Keys that are made fast; what is looked at does not depend on their kind.
        plan.pki.algorithm = crate::plan::KeyAlgorithm::EcdsaP256;
        plan
    }

    /// Whether the probe tells what is at that path.
    fn sees(request: &ProbeRequest, artifact: &Artifact) -> bool {
        match artifact {
            Artifact::Directory { path, .. } => {
                request.directories.contains(path) || request.roots.iter().any(|root| path.is_within(root))
            }
            Artifact::File { path, .. } | Artifact::Link { path, .. } | Artifact::Absent { path } => {
                request.roots.iter().any(|root| path.is_within(root))
            }
            Artifact::Program { path, .. } => request.programs.contains(path),
            Artifact::Package { name, .. } => request.packages.contains(name),
            Artifact::Module { name } => request.modules.contains(name),
            Artifact::Sysctl { key, .. } => request.sysctls.contains(key),
            Artifact::Unit { name, .. } => request.units.contains(name),
            // Which images there are is always told; of which archive they are is in a note.
            Artifact::Image { names, .. } => {
                let note = crate::transport::records::archive_note(names);
                request.roots.iter().any(|root| note.is_within(root))
            }
            Artifact::NoSwap | Artifact::Pulled { .. } | Artifact::Halted { .. } | Artifact::Restarted { .. } | Artifact::Snapshot(_) => true,
            Artifact::Object(_) | Artifact::NodeMarks(_) | Artifact::Membership(_) | Artifact::Maintenance(_) | Artifact::Undone(_) | Artifact::Departed(_) => false,
        }
    }

    /// Without this, `diff` would call what is there missing, and every `apply` would do it again.
    #[test]
    fn everything_slipway_wants_of_a_host_is_looked_at() {
        for name in ["single-node", "highly-available", "etcd-hosts", "external-etcd", "dual-stack", "offline", "lab", "virtual-address", "packages"] {
            let plan = example(name);
            let mut local = LocalFiles::default();
            for source in plan.binaries.values() {
                if let Source::Upload(file) = source {
                    local.digests.insert(programs::upload_file(file, "amd64"), Digest::of("x"));
                }
            }
            local.external_etcd = plan.etcd.external.as_ref().map(|_| ExternalEtcdFiles {
                ca: "ca".into(),
                certificate: "certificate".into(),
                key: crate::artifact::Secret::new("key"),
            });
            let release = Release::of(plan.kubernetes.version).unwrap();
            let standing = standing::survey_nothing(&plan).unwrap();
            let material = fresh_material(&plan, local.external_etcd.as_ref(), Timestamp::UNIX_EPOCH).unwrap();
            let system = System::default();
            let systems: BTreeMap<_, _> = plan.hosts.iter().map(|host| (host.name.clone(), &system)).collect();
            let inputs =
                Inputs { plan: &plan, release: &release, systems: &systems, standing: &standing, material: &material, local: &local };
            let request = probe(&plan, None);
            for host in &plan.hosts {
                let wanted = desired::of_host(&inputs, host).unwrap();
                let unseen: Vec<String> = wanted
                    .iter()
                    .flat_map(|(_, artifacts)| artifacts)
                    .filter(|artifact| !sees(&request, artifact))
                    .map(Artifact::id)
                    .collect();
                assert_eq!(unseen, Vec::<String>::new(), "{name}: {}", host.name);
            }
        }
    }

    #[test]
    fn of_which_archive_images_are_is_looked_at() {
        let image = Artifact::Image { names: vec!["a:1".into()], archive: "a.tar".into(), digest: Digest::of("a") };
        assert!(sees(&probe(&example("single-node"), None), &image));
    }

    #[test]
    fn keys_that_own_the_cluster_are_seen_without_content() {
        let request = probe(&example("single-node"), None);
        let unread: Vec<&str> = request.without_content.iter().map(RemotePath::as_str).collect();
        for key in ["ca.key", "etcd/ca.key", "front-proxy-ca.key", "sa.key"] {
            assert!(unread.contains(&format!("/etc/kubernetes/pki/{key}").as_str()), "{key} in {unread:?}");
        }
    }

    #[test]
    fn only_a_run_that_changes_things_takes_the_lock() {
        let plan = example("single-node");
        assert_eq!(probe(&plan, None).lock, None);
        assert_eq!(probe(&plan, Some("olga".into())), ProbeRequest { lock: Some("olga".into()), ..probe(&plan, None) });
    }

    #[test]
    fn ports_and_interfaces_are_asked_for_where_they_count() {
        let plan = example("highly-available");
        let ports = |phases: &[Phase]| for_phases(&plan, None, phases).ports;
        assert!(ports(&[]) && ports(&[Phase::Certificates, Phase::Kubelet]));
        assert!(!ports(&[Phase::System, Phase::Certificates]));
        assert!(probe(&example("virtual-address"), None).interfaces && !probe(&example("single-node"), None).interfaces);
    }
}
