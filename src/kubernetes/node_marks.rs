//! Labels, taints and annotations of Nodes: kubeadm's of that release, the plan's, and where slipway
//! reaches the host.

use ipnet::IpNet;

use super::kubelet::runtime_endpoint;
use crate::artifact::NodeMarks;
use crate::departed::{self, HOST_ANNOTATION};
use crate::plan::{Effect, Host, Plan, Role, Taint};
use crate::release::Release;

/// The annotation in which older releases keep a node's CRI socket.
const CRI_SOCKET_ANNOTATION: &str = "kubeadm.alpha.kubernetes.io/cri-socket";

/// What the host's Node shall have. `pod_cidrs` are the node's pod networks, if slipway gives them.
#[must_use]
pub fn node_marks(plan: &Plan, host: &Host, release: &Release, pod_cidrs: &[IpNet]) -> NodeMarks {
    let facts = &release.objects;
    let mut marks = NodeMarks {
        node: host.name.clone(),
        labels: host.labels.clone(),
        absent_labels: Vec::new(),
        annotations: [(HOST_ANNOTATION.to_owned(), departed::mark(plan, host))].into(),
        taints: taints(host, release),
        absent_taints: Vec::new(),
        pod_cidrs: pod_cidrs.to_vec(),
    };
    if facts.cri_socket_annotation {
        marks.annotations.insert(CRI_SOCKET_ANNOTATION.to_owned(), runtime_endpoint(plan));
    }
    if host.is_control_plane() {
        for label in facts.control_plane_labels {
            marks.labels.entry((*label).to_owned()).or_default();
        }
        let dropped = facts.dropped_labels.iter().filter(|label| !host.labels.contains_key(**label));
        marks.absent_labels = dropped.map(|label| (*label).to_owned()).collect();
    }
    marks
}

/// The plan's taints; left out, those of a control plane that is not also a worker.
fn taints(host: &Host, release: &Release) -> Vec<Taint> {
    if let Some(taints) = &host.taints {
        return taints.clone();
    }
    if !host.is_control_plane() || host.roles.contains(&Role::Worker) {
        return Vec::new();
    }
    let keys = release.objects.control_plane_taints.iter();
    keys.map(|key| Taint { key: (*key).to_owned(), value: String::new(), effect: Effect::NoSchedule }).collect()
}
