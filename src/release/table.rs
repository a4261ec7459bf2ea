//! The facts per Kubernetes release. A table is a list of rows (since, value) in rising order;
//! the value for a release is that of the last row that is not younger. Patch releases have rows
//! of their own where a fix was carried back to older minors.
//!
//! Sources: what kubeadm v1.20.2, v1.32.13, v1.34.9 and v1.36.2 rendered (and v1.35.6); the release notes of
//! v1.21 to v1.36; image lists of clusters. Where the first patch release with a new image is not
//! known, the row names the first one seen with it.

use super::{
    ConfigurationApi, CoreDnsFacts, EtcdFacts, EtcdFlags, FlagOrder, KubeletFacts, ObjectFacts, PodFacts, ProbePaths,
    Release,
};
use crate::names::KubernetesVersion;
use crate::plan::CgroupDriver;

/// The supported releases, for messages.
pub const SUPPORTED: &str = "v1.20, v1.21 and v1.31 to v1.36";

/// The supported minor releases of Kubernetes 1.
const MINORS: &[u32] = &[20, 21, 31, 32, 33, 34, 35, 36];

/// Rows of (since, value) in rising order.
type Table<T> = &'static [(KubernetesVersion, T)];
/// Rows of a fact that holds or not.
type Switch = Table<bool>;

const fn v(minor: u32, patch: u32) -> KubernetesVersion {
    KubernetesVersion::new(1, minor, patch)
}

const IMAGE_REPOSITORY: Table<&str> = &[(v(20, 0), "k8s.gcr.io"), (v(25, 0), "registry.k8s.io")];

const ETCD_TAG: Table<&str> = &[
    (v(20, 0), "3.4.13-0"),
    (v(31, 0), "3.5.15-0"),
    (v(31, 14), "3.5.24-0"),
    (v(32, 0), "3.5.16-0"),
    (v(32, 13), "3.5.24-0"),
    (v(33, 0), "3.5.21-0"),
    (v(33, 7), "3.5.24-0"),
    (v(34, 0), "3.6.4-0"),
    (v(34, 9), "3.6.5-0"),
    (v(35, 0), "3.6.6-0"),
    (v(36, 0), "3.6.8-0"),
];

const CORE_DNS_TAG: Table<&str> = &[
    (v(20, 0), "1.7.0"),
    (v(21, 0), "v1.8.0"),
    (v(31, 0), "v1.11.1"),
    (v(31, 1), "v1.11.3"),
    (v(33, 0), "v1.12.0"),
    (v(34, 0), "v1.12.1"),
    (v(35, 0), "v1.13.1"),
    (v(36, 0), "v1.14.2"),
];

const PAUSE_TAG: Table<&str> = &[(v(20, 0), "3.2"), (v(21, 0), "3.4.1"), (v(31, 0), "3.10"), (v(34, 0), "3.10.1"), (v(36, 0), "3.10.2")];

const CORE_DNS_PATH: Table<&str> = &[(v(20, 0), "coredns"), (v(21, 0), "coredns/coredns")];

const NUMERIC_PRIORITY: Switch = &[(v(20, 0), false), (v(27, 0), true)];
const SECCOMP: Switch = &[(v(20, 0), false), (v(22, 0), true)];
const NAMED_PROBE_PORT: Switch = &[(v(20, 0), false), (v(34, 0), true)];
const API_SERVER_FLAGS: Table<&[(&str, &str)]> = &[(v(20, 0), &[("insecure-port", "0")]), (v(22, 0), &[])];
const CONTROLLER_FLAGS: Table<&[(&str, &str)]> = &[(v(20, 0), &[("port", "0")]), (v(23, 0), &[])];
const AUTHORIZATION_CONFIG: Switch = &[(v(20, 0), false), (v(30, 0), true)];
const FLEX_VOLUME: Switch = &[(v(20, 0), true), (v(36, 0), false)];
const CA_DIRECTORIES: Table<&[&str]> = &[
    (v(20, 0), &["/etc/pki", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates", "/etc/ca-certificates"]),
    (
        v(31, 0),
        &[
            "/etc/pki/ca-trust",
            "/etc/pki/tls/certs",
            "/usr/share/ca-certificates",
            "/usr/local/share/ca-certificates",
            "/etc/ca-certificates",
        ],
    ),
];
const FLAG_ORDER: Table<FlagOrder> = &[(v(20, 0), FlagOrder::Sorted), (v(36, 0), FlagOrder::OverridesLast)];
const DUAL_STACK_GATE: Table<Option<&str>> = &[(v(20, 0), Some("IPv6DualStack")), (v(21, 0), None)];
const SCHEDULER_PROBES: Table<ProbePaths> = &[
    (v(20, 0), ProbePaths { liveness: "/healthz", readiness: None, startup: "/healthz" }),
    (v(32, 0), ProbePaths { liveness: "/livez", readiness: Some("/readyz"), startup: "/livez" }),
];

const ETCD_FLAGS: Table<EtcdFlags> = &[
    (v(20, 0), EtcdFlags::Without),
    (v(25, 0), EtcdFlags::Experimental),
    (v(34, 0), EtcdFlags::ByTag),
    (v(36, 0), EtcdFlags::Stable),
];
const ETCD_PROBES: Table<ProbePaths> = &[
    (v(20, 0), ProbePaths { liveness: "/health", readiness: None, startup: "/health" }),
    (v(31, 0), ProbePaths { liveness: "/livez", readiness: Some("/readyz"), startup: "/readyz" }),
];
const ETCD_EPHEMERAL_STORAGE: Switch = &[(v(20, 0), true), (v(22, 0), false)];

const CONTAINER_RUNTIME_FLAG: Switch = &[(v(20, 0), true), (v(26, 0), false)];
const ENDPOINT_FLAG: Switch = &[(v(20, 0), true), (v(34, 0), false)];
// With a runtime other than Docker, v1.20 passes no pause image.
const PAUSE_FLAG: Switch = &[(v(20, 0), false), (v(21, 0), true), (v(35, 0), false)];
const REFUSES_CGROUP_V1: Switch = &[(v(20, 0), false), (v(35, 0), true)];
const DEFAULT_CGROUP_DRIVER: Table<CgroupDriver> =
    &[(v(20, 0), CgroupDriver::Cgroupfs), (v(21, 0), CgroupDriver::Systemd)];

const CONFIGURATION_API: Table<ConfigurationApi> = &[
    (v(20, 0), ConfigurationApi::V1Beta2),
    (v(31, 0), ConfigurationApi::V1Beta4 { p384: false }),
    (v(34, 0), ConfigurationApi::V1Beta4 { p384: true }),
];
const VERSIONED_KUBELET_CONFIG_MAP: Switch = &[(v(20, 0), true), (v(24, 0), false)];
const CLUSTER_ADMINS: Switch = &[(v(20, 0), false), (v(29, 0), true)];
// kubernetes/kubernetes#138957, carried back to four minors.
const KUBELET_CLIENT_BY_NAME: Switch = &[
    (v(20, 0), false),
    (v(33, 12), true),
    (v(34, 0), false),
    (v(34, 8), true),
    (v(35, 0), false),
    (v(35, 5), true),
    (v(36, 0), false),
    (v(36, 1), true),
];

const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";
const MASTER: &str = "node-role.kubernetes.io/master";
const EXCLUDE_FROM_LOAD_BALANCERS: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

const CONTROL_PLANE_LABELS: Table<&[&str]> = &[
    (v(20, 0), &[CONTROL_PLANE, MASTER]),
    (v(21, 0), &[CONTROL_PLANE, MASTER, EXCLUDE_FROM_LOAD_BALANCERS]),
    (v(24, 0), &[CONTROL_PLANE, EXCLUDE_FROM_LOAD_BALANCERS]),
];
const DROPPED_LABELS: Table<&[&str]> = &[(v(20, 0), &[]), (v(24, 0), &[MASTER])];
const CONTROL_PLANE_TAINTS: Table<&[&str]> =
    &[(v(20, 0), &[MASTER]), (v(24, 0), &[CONTROL_PLANE, MASTER]), (v(25, 0), &[CONTROL_PLANE])];
const CRI_SOCKET_ANNOTATION: Switch = &[(v(20, 0), true), (v(34, 0), false)];
const KUBE_PROXY_CRITICAL_TOLERATION: Switch = &[(v(20, 0), true), (v(22, 0), false)];
const KUBECONFIG_PREFERENCES: Switch = &[(v(20, 0), true), (v(34, 0), false)];

const CORE_DNS_SERVICE_LABEL: Table<&str> = &[(v(20, 0), "KubeDNS"), (v(31, 0), "CoreDNS")];
const CORE_DNS_DROP: Table<&str> = &[(v(20, 0), "all"), (v(31, 0), "ALL")];
const CORE_DNS_TOLERATED: Table<&[&str]> = &[(v(20, 0), &[MASTER, CONTROL_PLANE]), (v(25, 0), &[CONTROL_PLANE])];
const CORE_DNS_ENDPOINT_SLICES: Switch = &[(v(20, 0), false), (v(22, 0), true)];
const CORE_DNS_ANTI_AFFINITY: Switch = &[(v(20, 0), false), (v(25, 0), true)];
const CORE_DNS_NAMED_PORTS: Switch = &[(v(20, 0), false), (v(34, 0), true)];
const CORE_DNS_UNCACHED: Switch = &[(v(20, 0), false), (v(32, 0), true)];

/// The value that holds for a release.
fn at<T: Copy>(table: Table<T>, version: KubernetesVersion) -> T {
    let row = table.iter().rev().find(|(since, _)| *since <= version);
    row.expect("every table starts with the oldest supported release").1
}

pub(super) fn is_supported(version: KubernetesVersion) -> bool {
    version.major == 1 && MINORS.contains(&version.minor)
}

/// All facts of a supported release.
pub(super) fn release(version: KubernetesVersion) -> Release {
    Release {
        version,
        image_repository: at(IMAGE_REPOSITORY, version),
        etcd_tag: at(ETCD_TAG, version),
        core_dns_tag: at(CORE_DNS_TAG, version),
        pause_tag: at(PAUSE_TAG, version),
        core_dns_path: at(CORE_DNS_PATH, version),
        pods: pods(version),
        etcd: EtcdFacts {
            flags: at(ETCD_FLAGS, version),
            probes: at(ETCD_PROBES, version),
            ephemeral_storage: at(ETCD_EPHEMERAL_STORAGE, version),
        },
        kubelet: KubeletFacts {
            container_runtime_flag: at(CONTAINER_RUNTIME_FLAG, version),
            endpoint_flag: at(ENDPOINT_FLAG, version),
            pause_flag: at(PAUSE_FLAG, version),
            refuses_cgroup_v1: at(REFUSES_CGROUP_V1, version),
            default_cgroup_driver: at(DEFAULT_CGROUP_DRIVER, version),
        },
        objects: objects(version),
        core_dns: CoreDnsFacts {
            service_label: at(CORE_DNS_SERVICE_LABEL, version),
            drop_capabilities: at(CORE_DNS_DROP, version),
            tolerated_taints: at(CORE_DNS_TOLERATED, version),
            endpoint_slices: at(CORE_DNS_ENDPOINT_SLICES, version),
            anti_affinity: at(CORE_DNS_ANTI_AFFINITY, version),
            named_probe_ports: at(CORE_DNS_NAMED_PORTS, version),
            cluster_names_uncached: at(CORE_DNS_UNCACHED, version),
        },
    }
}

fn pods(version: KubernetesVersion) -> PodFacts {
    PodFacts {
        numeric_priority: at(NUMERIC_PRIORITY, version),
        seccomp: at(SECCOMP, version),
        named_probe_port: at(NAMED_PROBE_PORT, version),
        api_server_flags: at(API_SERVER_FLAGS, version),
        controller_flags: at(CONTROLLER_FLAGS, version),
        authorization_config: at(AUTHORIZATION_CONFIG, version),
        scheduler_probes: at(SCHEDULER_PROBES, version),
        flex_volume: at(FLEX_VOLUME, version),
        ca_directories: at(CA_DIRECTORIES, version),
        flag_order: at(FLAG_ORDER, version),
        dual_stack_gate: at(DUAL_STACK_GATE, version),
    }
}

fn objects(version: KubernetesVersion) -> ObjectFacts {
    let kubelet_config_map = if at(VERSIONED_KUBELET_CONFIG_MAP, version) {
        format!("kubelet-config-{}", version.minor_release())
    } else {
        "kubelet-config".to_owned()
    };
    ObjectFacts {
        configuration_api: at(CONFIGURATION_API, version),
        kubelet_config_map,
        cluster_admins: at(CLUSTER_ADMINS, version),
        kubelet_client_by_name: at(KUBELET_CLIENT_BY_NAME, version),
        control_plane_labels: at(CONTROL_PLANE_LABELS, version),
        dropped_labels: at(DROPPED_LABELS, version),
        control_plane_taints: at(CONTROL_PLANE_TAINTS, version),
        cri_socket_annotation: at(CRI_SOCKET_ANNOTATION, version),
        kube_proxy_critical_toleration: at(KUBE_PROXY_CRITICAL_TOLERATION, version),
        kubeconfig_preferences: at(KUBECONFIG_PREFERENCES, version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row out of order would hide the rows before it.
    fn check_rising<T>(table: Table<T>) {
        assert_eq!(table[0].0, v(20, 0));
        assert!(table.windows(2).all(|rows| rows[0].0 < rows[1].0));
    }

    #[test]
    fn the_tables_with_patch_rows_rise() {
        check_rising(ETCD_TAG);
        check_rising(CORE_DNS_TAG);
        check_rising(PAUSE_TAG);
        check_rising(KUBELET_CLIENT_BY_NAME);
        check_rising(CONFIGURATION_API);
    }

    #[test]
    fn a_fix_carried_back_holds_from_its_patch_release_only() {
        for (version, expected) in [
            (v(32, 13), false),
            (v(33, 11), false),
            (v(33, 12), true),
            (v(34, 7), false),
            (v(34, 8), true),
            (v(36, 0), false),
        ] {
            assert_eq!(at(KUBELET_CLIENT_BY_NAME, version), expected, "{version}");
        }
    }
}
