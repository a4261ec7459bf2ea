//! What differs between Kubernetes releases: images, flags, probes, labels, names. A [`Release`]
//! is looked up once and then asked; no other module compares versions. The facts themselves are
//! the tables of [`table`], each row with the release it holds from.

use crate::names::KubernetesVersion;
use crate::plan::{CgroupDriver, Plan};

pub mod table;

pub use table::SUPPORTED;

/// Everything that Kubernetes of one release wants done its own way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Which release.
    pub version: KubernetesVersion,
    /// Where its images come from unless the plan says otherwise.
    pub image_repository: &'static str,
    /// etcd's image tag.
    pub etcd_tag: &'static str,
    /// CoreDNS' image tag.
    pub core_dns_tag: &'static str,
    /// The pause image's tag.
    pub pause_tag: &'static str,
    /// CoreDNS' image path in the default repository; in any other it is plain `coredns`.
    pub core_dns_path: &'static str,
    /// How static pods are written.
    pub pods: PodFacts,
    /// How etcd is started.
    pub etcd: EtcdFacts,
    /// How the kubelet is started.
    pub kubelet: KubeletFacts,
    /// What is in the API.
    pub objects: ObjectFacts,
    /// What CoreDNS' objects look like.
    pub core_dns: CoreDnsFacts,
}

/// How static pods are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFacts {
    /// The numeric priority stands beside the priority class.
    pub numeric_priority: bool,
    /// The pod asks for the runtime's default seccomp profile.
    pub seccomp: bool,
    /// Probes name a container port instead of its number.
    pub named_probe_port: bool,
    /// Flags that the API server needs in this release only, sorted.
    pub api_server_flags: &'static [(&'static str, &'static str)],
    /// Flags that controller manager and scheduler need in this release only, sorted.
    pub controller_flags: &'static [(&'static str, &'static str)],
    /// `authorization-mode` is left out when the user gives `authorization-config`.
    pub authorization_config: bool,
    /// The scheduler's probes.
    pub scheduler_probes: ProbePaths,
    /// The controller manager mounts the flex volume directory.
    pub flex_volume: bool,
    /// Directories of CAs that are mounted if the host has them.
    pub ca_directories: &'static [&'static str],
    /// How overrides are ordered among the generated flags.
    pub flag_order: FlagOrder,
    /// A feature gate that dual stack needs.
    pub dual_stack_gate: Option<&'static str>,
}

/// The paths of a component's probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbePaths {
    /// Restarts the container if it fails.
    pub liveness: &'static str,
    /// Marks the pod ready; none in older releases.
    pub readiness: Option<&'static str>,
    /// Holds the other two back until the component has come up.
    pub startup: &'static str,
}

/// How overrides are ordered among the generated flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagOrder {
    /// All flags sorted by name.
    Sorted,
    /// Generated flags sorted, then the overrides as the user wrote them.
    OverridesLast,
}

/// How etcd is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdFacts {
    /// The spelling of the flags that check for corruption and notify watchers.
    pub flags: EtcdFlags,
    /// The probes.
    pub probes: ProbePaths,
    /// The pod requests ephemeral storage.
    pub ephemeral_storage: bool,
}

/// The spelling of etcd's younger flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EtcdFlags {
    /// etcd has none of them.
    Without,
    /// `--experimental-…` (etcd 3.5).
    Experimental,
    /// The image's tag decides: experimental before 3.6, stable from then on.
    ByTag,
    /// A feature gate and a stable flag (etcd 3.6).
    Stable,
}

/// How the kubelet is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeletFacts {
    /// `--container-runtime=remote` is needed.
    pub container_runtime_flag: bool,
    /// The CRI socket is a flag; otherwise it is in the configuration and the instance file.
    pub endpoint_flag: bool,
    /// The pause image is a flag.
    pub pause_flag: bool,
    /// `failCgroupV1` must be turned off on hosts with cgroup version 1.
    pub refuses_cgroup_v1: bool,
    /// The cgroup driver kubeadm gives when the user gives none.
    pub default_cgroup_driver: CgroupDriver,
}

/// What is in the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectFacts {
    /// The version of kubeadm's configuration API that is stored.
    pub configuration_api: ConfigurationApi,
    /// The name of the kubelets' ConfigMap (and of its Role and RoleBinding after `kubeadm:`).
    pub kubelet_config_map: String,
    /// Administrators are bound through the group `kubeadm:cluster-admins`.
    pub cluster_admins: bool,
    /// The API server's kubelet client is bound by its name, and its certificate has no
    /// organization.
    pub kubelet_client_by_name: bool,
    /// Labels of control-plane nodes.
    pub control_plane_labels: &'static [&'static str],
    /// Labels of older releases that such a node shall not keep.
    pub dropped_labels: &'static [&'static str],
    /// Keys of the control-plane taints.
    pub control_plane_taints: &'static [&'static str],
    /// Nodes carry the CRI socket as an annotation.
    pub cri_socket_annotation: bool,
    /// kube-proxy tolerates `CriticalAddonsOnly` by name besides everything else.
    pub kube_proxy_critical_toleration: bool,
    /// Kubeconfigs in the API carry an empty `preferences`.
    pub kubeconfig_preferences: bool,
}

/// A version of kubeadm's configuration API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigurationApi {
    /// `v1beta2`, with a `ClusterStatus` beside the configuration.
    V1Beta2,
    /// `v1beta4`. The flag says whether it knows ECDSA on P-384.
    V1Beta4 {
        /// `encryptionAlgorithm: ECDSA-P384` is understood.
        p384: bool,
    },
}

/// What CoreDNS' objects look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoreDnsFacts {
    /// The Service's label `kubernetes.io/name`.
    pub service_label: &'static str,
    /// How the capabilities to drop are spelled.
    pub drop_capabilities: &'static str,
    /// Keys of the control-plane taints it tolerates.
    pub tolerated_taints: &'static [&'static str],
    /// It reads EndpointSlices; before, it read Nodes.
    pub endpoint_slices: bool,
    /// Its pods prefer different hosts.
    pub anti_affinity: bool,
    /// Probes name a container port.
    pub named_probe_ports: bool,
    /// Names of the cluster are not cached.
    pub cluster_names_uncached: bool,
}

/// The images of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// kube-apiserver.
    pub api_server: String,
    /// kube-controller-manager.
    pub controller_manager: String,
    /// kube-scheduler.
    pub scheduler: String,
    /// kube-proxy.
    pub proxy: String,
    /// etcd.
    pub etcd: String,
    /// CoreDNS.
    pub coredns: String,
    /// The pause container of every pod.
    pub pause: String,
}

/// Why there is no [`Release`] for a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Kubernetes {version} is not supported: slipway knows {SUPPORTED}")]
pub struct UnsupportedRelease {
    /// The version asked for.
    pub version: KubernetesVersion,
}

impl Release {
    /// The release of that version.
    ///
    /// # Errors
    /// slipway has no facts for it.
    pub fn of(version: KubernetesVersion) -> Result<Self, UnsupportedRelease> {
        if table::is_supported(version) { Ok(table::release(version)) } else { Err(UnsupportedRelease { version }) }
    }

    /// The repository the plan's images come from.
    #[must_use]
    pub fn repository<'a>(&self, plan: &'a Plan) -> &'a str {
        plan.kubernetes.image_repository.as_deref().unwrap_or(self.image_repository)
    }

    /// The images of the plan's cluster.
    #[must_use]
    pub fn images(&self, plan: &Plan) -> Images {
        let repository = self.repository(plan);
        let component = |name: &str| format!("{repository}/{name}:{}", self.version);
        let core_dns_path = if repository == self.image_repository { self.core_dns_path } else { "coredns" };
        Images {
            api_server: component("kube-apiserver"),
            controller_manager: component("kube-controller-manager"),
            scheduler: component("kube-scheduler"),
            proxy: component("kube-proxy"),
            etcd: plan.etcd.image.clone().unwrap_or_else(|| format!("{repository}/etcd:{}", self.etcd_tag)),
            coredns: (plan.core_dns.image.clone())
                .unwrap_or_else(|| format!("{repository}/{core_dns_path}:{}", self.core_dns_tag)),
            pause: (plan.runtime.pause_image.clone())
                .unwrap_or_else(|| format!("{repository}/pause:{}", self.pause_tag)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::example;

    #[test]
    fn only_supported_releases_have_facts() {
        for good in ["v1.20.0", "v1.21.14", "v1.31.0", "v1.36.99"] {
            assert!(Release::of(good.parse().unwrap()).is_ok(), "{good}");
        }
        for bad in ["v1.19.0", "v1.22.0", "v1.30.9", "v1.37.0", "v2.31.0"] {
            let error = Release::of(bad.parse().unwrap()).unwrap_err();
            assert!(error.to_string().contains(SUPPORTED), "{error}");
        }
    }

    #[test]
    fn image_tags_follow_the_patch_release() {
        let etcd = |version: &str| Release::of(version.parse().unwrap()).unwrap().etcd_tag;
        assert_eq!(etcd("v1.31.13"), "3.5.15-0");
        assert_eq!(etcd("v1.31.14"), "3.5.24-0");
        assert_eq!(etcd("v1.32.0"), "3.5.16-0");
        assert_eq!(etcd("v1.33.1"), "3.5.21-0");
        assert_eq!(etcd("v1.35.0"), "3.6.6-0");
    }

    #[test]
    fn a_custom_repository_has_core_dns_at_the_top() {
        let mut plan = example("v1.34.9");
        let release = Release::of(plan.kubernetes.version).unwrap();
        assert_eq!(release.images(&plan).coredns, "registry.k8s.io/coredns/coredns:v1.12.1");
        plan.kubernetes.image_repository = Some("registry.example.test/k8s".into());
        plan.etcd.image = Some("registry.example.test/etcd:3.6.9-0".into());
        plan.runtime.pause_image = Some("registry.example.test/pause:1".into());
        let images = release.images(&plan);
        assert_eq!(images.coredns, "registry.example.test/k8s/coredns:v1.12.1");
        assert_eq!(images.proxy, "registry.example.test/k8s/kube-proxy:v1.34.9");
        assert_eq!(images.etcd, "registry.example.test/etcd:3.6.9-0");
        assert_eq!(images.pause, "registry.example.test/pause:1");
    }
}
