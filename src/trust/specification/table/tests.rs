//! The table as a person reads it, for three versions and the shapes of plans that change it.

use std::fmt::Write as _;

use super::*;
use crate::names::KubernetesVersion;
use crate::trust::specification::ClusterPair;
use crate::trust::testing::{plan, version};

/// One line per certificate.
fn listed(plan: &Plan, version: KubernetesVersion) -> String {
    let mut text = String::new();
    for leaf in leaves(plan, version) {
        let usages: Vec<String> = leaf.usages.iter().map(ToString::to_string).collect();
        write!(text, "{} {} | {} | {} | {}", leaf.host, leaf.name, leaf.authority, leaf.subject, usages.join("+"))
            .unwrap();
        if let Storage::Kubeconfig(place) | Storage::KubeletClient { kubeconfig: place, .. } = &leaf.storage {
            write!(text, " | {} -> {}", place.path.file_name(), place.server).unwrap();
        }
        if !leaf.names.is_empty() {
            let names: Vec<String> = leaf.names.iter().map(ToString::to_string).collect();
            write!(text, " | {}", names.join(" ")).unwrap();
        }
        text.push('\n');
    }
    text
}

#[test]
fn a_highly_available_cluster_has_these_certificates() {
    for (name, version) in [("v1_20", version(20)), ("v1_32", version(32)), ("v1_36", version(36))] {
        insta::assert_snapshot!(format!("external_endpoint_{name}"), listed(&plan("external"), version));
    }
}

#[test]
fn a_local_proxy_adds_the_loopback_and_keeps_control_planes_on_their_own_server() {
    insta::assert_snapshot!(listed(&plan("local-proxy"), version(32)));
}

#[test]
fn dedicated_etcd_hosts_have_only_what_etcd_needs() {
    insta::assert_snapshot!(listed(&plan("dedicated-etcd"), version(36)));
}

#[test]
fn external_etcd_leaves_the_etcd_authority_out() {
    let plan = plan("external-etcd");
    assert!(leaves(&plan, version(36)).iter().all(|leaf| leaf.authority != Authority::Etcd));
    let pairs: Vec<ClusterPair> = ClusterPair::of(&plan).collect();
    assert!(!pairs.contains(&ClusterPair::Authority(Authority::Etcd)), "{pairs:?}");
}

#[test]
fn authorities_are_kept_where_they_sign_and_read_where_they_are_trusted() {
    let plan = plan("dedicated-etcd");
    let host = |name: &str| plan.host(&name.parse().unwrap()).unwrap();
    let etcd = ClusterPair::Authority(Authority::Etcd);
    assert!(etcd.is_kept_by(&plan, host("etcd-1")) && !etcd.is_kept_by(&plan, host("cp-1")));
    assert!(Authority::Etcd.is_read_by(&plan, host("cp-1")) && !Authority::Etcd.is_read_by(&plan, host("worker-1")));
    assert!(Authority::Kubernetes.is_read_by(&plan, host("worker-1")));
    assert!(!Authority::Kubernetes.is_read_by(&plan, host("cp-1")), "it keeps the pair");
    assert!(!Authority::Kubernetes.is_read_by(&plan, host("etcd-1")), "it registers no Node");
}

#[test]
fn the_kubelet_clients_group_goes_with_the_patch_release_that_dropped_it() {
    let group = |minor, patch| {
        let leaves = leaves(&plan("single"), KubernetesVersion::new(1, minor, patch));
        let leaf = leaves.into_iter().find(|leaf| leaf.name == "apiserver-kubelet-client").unwrap();
        leaf.subject.organizations.into_iter().next().unwrap_or_default()
    };
    for (minor, patch, expected) in [
        (20, 2, "system:masters"),
        (32, 13, "kubeadm:cluster-admins"),
        (34, 7, "kubeadm:cluster-admins"),
        (34, 8, ""),
        (35, 0, "kubeadm:cluster-admins"),
        (36, 2, ""),
    ] {
        assert_eq!(group(minor, patch), expected, "v1.{minor}.{patch}");
    }
}
