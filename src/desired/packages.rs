//! The part of phase `programs` that is left to the hosts' package managers, apt and dnf: the repository
//! of Kubernetes' packages with its key, and packages in their versions, held so that nobody else
//! changes them. A unit or drop-in that a package brings does not matter: slipway's own stand over
//! them (`kubelet`).

use crate::artifact::{Artifact, Content};
use crate::facts::System;
use crate::names::{KubernetesVersion, Mode, RemotePath};
use crate::plan::{Plan, Program, Source};
use crate::template::{AptSource, RpmRepository, Template as _};

use super::LocalFiles;

/// apt's key, source and dnf's.
pub const FILES: [&str; 4] = [
    "/etc/apt/keyrings/slipway-kubernetes.asc",
    "/etc/apt/sources.list.d/slipway-kubernetes.list",
    "/etc/pki/rpm-gpg/RPM-GPG-KEY-slipway-kubernetes",
    "/etc/yum.repos.d/slipway-kubernetes.repo",
];
/// How the repository is called on dnf's hosts.
const REPOSITORY: &str = "slipway-kubernetes";

/// Who installs packages on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Installer {
    /// apt and dpkg.
    Apt,
    /// dnf and rpm.
    Dnf,
}

impl Installer {
    /// The one of that host; none if it has neither. A host that was not asked has its system's usual one.
    #[must_use]
    pub fn of(system: &System) -> Option<Self> {
        let has = |command: &str| system.commands.contains_key(command);
        let is_unknown = system.commands.is_empty();
        let is_debian = matches!(system.os_id.as_str(), "debian" | "ubuntu");
        match () {
            () if has("apt-get") || is_unknown && is_debian => Some(Self::Apt),
            () if has("dnf") || is_unknown => Some(Self::Dnf),
            () => None,
        }
    }
}

/// A program's package, and the program in it if units depend on it.
struct Parcel {
    program: Program,
    name: &'static str,
    path: Option<&'static str>,
    /// Whether it is of Kubernetes' repository, or of the operating system's own.
    of_kubernetes: bool,
}

/// All of them, dependencies first.
const PARCELS: [Parcel; 7] = [
    Parcel { program: Program::CniPlugins, name: "kubernetes-cni", path: None, of_kubernetes: true },
    Parcel { program: Program::Crictl, name: "cri-tools", path: None, of_kubernetes: true },
    Parcel { program: Program::Runc, name: "runc", path: None, of_kubernetes: false },
    Parcel { program: Program::Containerd, name: "containerd", path: Some(CONTAINERD_PROGRAM), of_kubernetes: false },
    Parcel { program: Program::Kubectl, name: "kubectl", path: None, of_kubernetes: true },
    Parcel { program: Program::Kubelet, name: KUBELET, path: Some("/usr/bin/kubelet"), of_kubernetes: true },
    Parcel { program: Program::Kubeadm, name: "kubeadm", path: None, of_kubernetes: true },
];
/// Where the package of containerd puts it.
pub const CONTAINERD_PROGRAM: &str = "/usr/bin/containerd";
/// Packages whose change is one of the runtime.
pub const OF_RUNTIME: [&str; 2] = ["containerd", "runc"];
/// The kubelet's package.
pub const KUBELET: &str = "kubelet";

fn wanted(plan: &Plan) -> impl Iterator<Item = &'static Parcel> {
    PARCELS.iter().filter(|parcel| plan.binaries.get(&parcel.program) == Some(&Source::Packages))
}

/// Whether packages of Kubernetes' own repository are wanted.
#[must_use]
pub fn needs_repository(plan: &Plan) -> bool {
    wanted(plan).any(|parcel| parcel.of_kubernetes)
}

/// Packages the probe looks for.
#[must_use]
pub fn names(plan: &Plan) -> Vec<String> {
    wanted(plan).map(|parcel| parcel.name.to_owned()).collect()
}

/// Whether a program's package follows Kubernetes' version.
#[must_use]
pub fn follows_kubernetes(program: Program) -> bool {
    matches!(program, Program::Kubelet | Program::Kubectl | Program::Kubeadm)
}

/// What is wanted of packages on a host.
#[must_use]
pub fn artifacts(plan: &Plan, system: &System, local: &LocalFiles) -> Vec<Artifact> {
    let Some(installer) = Installer::of(system) else { return Vec::new() };
    let mut artifacts = Vec::new();
    if needs_repository(plan) {
        artifacts.extend(repository(plan, installer, local));
    }
    artifacts.extend(wanted(plan).map(|parcel| Artifact::Package {
        name: parcel.name.to_owned(),
        version: version(plan, parcel.program),
        program: parcel.path.map(RemotePath::fixed),
        // On dnf's hosts the repository's file holds them.
        held: installer == Installer::Apt,
    }));
    artifacts
}

/// The version of a package, with a revision if the plan says one; none if any will do.
fn version(plan: &Plan, program: Program) -> Option<String> {
    if !follows_kubernetes(program) {
        return plan.packages.versions.get(&program).cloned();
    }
    let KubernetesVersion { major, minor, patch } = plan.kubernetes.version;
    let version = format!("{major}.{minor}.{patch}");
    Some(match &plan.packages.revision {
        Some(revision) => format!("{version}-{revision}"),
        None => version,
    })
}

fn repository(plan: &Plan, installer: Installer, local: &LocalFiles) -> [Artifact; 2] {
    let minor = plan.kubernetes.version.minor_release();
    let format = if installer == Installer::Apt { "deb" } else { "rpm" };
    let address = plan.packages.repository.replace("{minor}", &minor).replace("{format}", format);
    let file = |path: &str, text: String| Artifact::File { path: RemotePath::fixed(path), mode: Mode(0o644), content: Content::plain(text) };
    let key = local.signing_key.clone().unwrap_or_default();
    let [apt_key, apt_source, rpm_key, rpm_repository] = FILES;
    match installer {
        Installer::Apt => [file(apt_key, key), file(apt_source, AptSource { key: apt_key.into(), address }.render())],
        Installer::Dnf => {
            let held = PARCELS.iter().filter(|parcel| parcel.of_kubernetes).map(|parcel| parcel.name.to_owned()).collect();
            let file_of_repository = RpmRepository { name: REPOSITORY.into(), minor, address, key: rpm_key.into(), held };
            [file(rpm_key, key), file(rpm_repository, file_of_repository.render())]
        }
    }
}

/// Whether an installed version is the wanted one: the same, or any revision of it.
#[must_use]
pub fn satisfies(installed: &str, wanted: &str) -> bool {
    installed == wanted || installed.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(more: &str) -> Plan {
        let text = format!(
            "version: 1\nkubernetes: {{version: v1.34.2}}\nbinaries: {{kubelet: packages, kubectl: packages, crictl: packages, containerd: packages}}\n{more}hosts: [{{name: a, address: 192.0.2.1, roles: [worker]}}]\n"
        );
        crate::yaml::read(&text).unwrap()
    }

    fn host(command: &str) -> System {
        System { commands: [(command.to_owned(), format!("/usr/bin/{command}"))].into(), ..System::default() }
    }

    /// Files with their texts, and packages with versions.
    fn shown(plan: &Plan, system: &System) -> String {
        let local = LocalFiles { signing_key: Some("KEY\n".into()), ..LocalFiles::default() };
        let line = |artifact: &Artifact| match artifact {
            Artifact::File { path, content, .. } => format!("{path}:\n{}", content.review()),
            Artifact::Package { name, version, held, .. } => format!("{name} {version:?} held={held}\n"),
            other => panic!("{other:?}"),
        };
        artifacts(plan, system, &local).iter().map(line).collect()
    }

    #[test]
    fn apt_gets_a_source_of_the_minor_version_and_packages_that_are_held() {
        insta::assert_snapshot!(shown(&plan(""), &host("apt-get")), @r#"
        /etc/apt/keyrings/slipway-kubernetes.asc:
        KEY
        /etc/apt/sources.list.d/slipway-kubernetes.list:
        # Written by slipway.
        deb [signed-by=/etc/apt/keyrings/slipway-kubernetes.asc] https://pkgs.k8s.io/core:/stable:/v1.34/deb/ /
        cri-tools None held=true
        containerd None held=true
        kubectl Some("1.34.2") held=true
        kubelet Some("1.34.2") held=true
        "#);
    }

    #[test]
    fn dnf_gets_a_repository_that_others_do_not_update_from() {
        let more = "packages: {repository: 'https://mirror.example.test/{format}/v{minor}/', revision: 150500.1.1, versions: {crictl: 1.34.0}}\n";
        insta::assert_snapshot!(shown(&plan(more), &host("dnf")), @r#"
        /etc/pki/rpm-gpg/RPM-GPG-KEY-slipway-kubernetes:
        KEY
        /etc/yum.repos.d/slipway-kubernetes.repo:
        # Written by slipway.
        [slipway-kubernetes]
        name=Kubernetes v1.34
        baseurl=https://mirror.example.test/rpm/v1.34/
        enabled=1
        gpgcheck=1
        gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-slipway-kubernetes
        exclude=kubernetes-cni cri-tools kubectl kubelet kubeadm
        cri-tools Some("1.34.0") held=false
        containerd None held=false
        kubectl Some("1.34.2-150500.1.1") held=false
        kubelet Some("1.34.2-150500.1.1") held=false
        "#);
    }

    #[test]
    fn a_host_without_either_gets_nothing_and_one_that_was_not_asked_the_usual() {
        assert_eq!(shown(&plan(""), &host("zypper")), "");
        let unasked = |os: &str| Installer::of(&System { os_id: os.into(), ..System::default() });
        assert_eq!((unasked("ubuntu"), unasked("rocky")), (Some(Installer::Apt), Some(Installer::Dnf)));
    }

    #[test]
    fn a_version_is_right_with_any_revision_unless_one_is_wanted() {
        for (installed, wanted, expected) in [
            ("1.34.2-1.1", "1.34.2", true),
            ("1.34.2-1.1", "1.34.2-1.1", true),
            ("1.34.2-2.1", "1.34.2-1.1", false),
            ("1.34.21-1.1", "1.34.2", false),
            ("1.34.2", "1.34.2", true),
        ] {
            assert_eq!(satisfies(installed, wanted), expected, "{installed} for {wanted}");
        }
    }
}
