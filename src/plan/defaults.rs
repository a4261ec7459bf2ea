//! What a plan means where it says nothing: the defaults of its fields. The reference in
//! `docs/plan-file.md` takes them from here.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use ipnet::IpNet;

use super::{AuthorityKeys, CgroupDriver, Cni, CoreDns, Document, Etcd, KeyAlgorithm, KubeProxy, Limits, Network, Pki, Runtime, Unavailable};
use crate::names::{ClusterName, RemotePath, Span};

pub(super) fn yes() -> bool {
    true
}
pub(super) fn name() -> ClusterName {
    "kubernetes".parse().expect("a label")
}
pub(super) fn snapshots() -> u8 {
    3
}
pub(super) fn api_port() -> u16 {
    6443
}
pub(super) fn proxy_image() -> String {
    "docker.io/library/haproxy:3.2-alpine".into()
}
pub(super) fn vip_port() -> u16 {
    8443
}
pub(super) fn vip_health_port() -> u16 {
    8444
}
pub(super) fn keepalived_image() -> String {
    "docker.io/osixia/keepalived:2.0.20".into()
}
pub(super) fn package_repository() -> String {
    "https://pkgs.k8s.io/core:/stable:/v{minor}/{format}/".into()
}
pub(super) fn flannel_image() -> String {
    "ghcr.io/flannel-io/flannel:v0.27.4".into()
}
pub(super) fn flannel_plugin_image() -> String {
    "ghcr.io/flannel-io/flannel-cni-plugin:v1.8.0-flannel1".into()
}
pub(super) fn pod_cidrs() -> Vec<IpNet> {
    vec!["10.244.0.0/16".parse().expect("a network")]
}
pub(super) fn service_cidrs() -> Vec<IpNet> {
    vec!["10.96.0.0/12".parse().expect("a network")]
}
pub(super) fn dns_domain() -> String {
    "cluster.local".into()
}
pub(super) fn node_mask_v4() -> u8 {
    24
}
pub(super) fn node_mask_v6() -> u8 {
    64
}
pub(super) fn dns_replicas() -> u32 {
    2
}
pub(super) fn etcd_directory() -> RemotePath {
    RemotePath::fixed("/var/lib/etcd")
}
pub(super) fn validity() -> Span {
    Span::seconds(365 * 24 * 3600)
}
pub(super) fn ca_validity() -> Span {
    Span::seconds(3650 * 24 * 3600)
}
pub(super) fn renew_before() -> Span {
    Span::seconds(30 * 24 * 3600)
}
pub(super) fn socket() -> RemotePath {
    RemotePath::fixed("/run/containerd/containerd.sock")
}
pub(super) fn parallel_hosts() -> usize {
    50
}
pub(super) fn parallel_uploads() -> usize {
    5
}
pub(super) fn max_unavailable() -> Unavailable {
    Unavailable::Hosts(1)
}
pub(super) fn step_timeout() -> Span {
    Span::seconds(600)
}
pub(super) fn drain_timeout() -> Span {
    Span::seconds(600)
}
pub(super) fn gate_timeout() -> Span {
    Span::seconds(300)
}

impl Default for Network {
    fn default() -> Self {
        Self {
            pod_cidrs: pod_cidrs(),
            service_cidrs: service_cidrs(),
            dns_domain: dns_domain(),
            node_mask_v4: node_mask_v4(),
            node_mask_v6: node_mask_v6(),
            cni: Cni::default(),
        }
    }
}
impl Default for Cni {
    fn default() -> Self {
        Self::Bridge { mtu: None }
    }
}
impl Default for KubeProxy {
    fn default() -> Self {
        Self { enabled: true, mode: None, configuration: Document::new() }
    }
}
impl Default for CoreDns {
    fn default() -> Self {
        Self { enabled: true, replicas: dns_replicas(), image: None, corefile: None }
    }
}
impl Default for Etcd {
    fn default() -> Self {
        Self {
            external: None,
            data_directory: etcd_directory(),
            image: None,
            extra_args: IndexMap::new(),
            extra_env: BTreeMap::new(),
            extra_sans: Vec::new(),
        }
    }
}
impl Default for Pki {
    fn default() -> Self {
        Self {
            authority: AuthorityKeys::default(),
            algorithm: KeyAlgorithm::default(),
            validity: validity(),
            ca_validity: ca_validity(),
            renew_before: renew_before(),
            extra_sans: Vec::new(),
            adopted: None,
        }
    }
}
impl Default for Runtime {
    fn default() -> Self {
        Self {
            managed: true,
            socket: socket(),
            cgroup_driver: CgroupDriver::default(),
            pause_image: None,
            cni_directory: None,
            mirrors: BTreeMap::new(),
            settings: Document::new(),
        }
    }
}
impl Default for Limits {
    fn default() -> Self {
        Self {
            parallel_hosts: parallel_hosts(),
            parallel_uploads: parallel_uploads(),
            max_unavailable: max_unavailable(),
            step_timeout: step_timeout(),
            gate_timeout: gate_timeout(),
        }
    }
}
