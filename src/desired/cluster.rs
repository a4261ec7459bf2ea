//! Phases of the cluster itself: in-cluster objects, Nodes, the network provider and add-ons.

use serde_json::Value;

use crate::artifact::{Artifact, Object};
use crate::graph::Gate;
use crate::kubernetes::coredns::coredns;
use crate::kubernetes::flannel::flannel;
use crate::kubernetes::kube_proxy::kube_proxy;
use crate::kubernetes::node_marks::node_marks;
use crate::kubernetes::objects::{ObjectInputs, cluster_objects};
use crate::patch::PatchError;
use crate::phase::Phase;
use crate::plan::{Cni, Plan};

use super::{Inputs, LocalFiles};

/// What is wanted of the cluster, by phase.
///
/// # Errors
/// A patch of the plan does not fit.
pub fn artifacts(inputs: &Inputs<'_>, objects: &ObjectInputs<'_>) -> Result<Vec<(Phase, Vec<Artifact>)>, PatchError> {
    let Inputs { plan, release, standing, local, .. } = *inputs;
    let wrap = |objects: Vec<Object>| objects.into_iter().map(Artifact::Object).collect::<Vec<_>>();
    let mut addons = Vec::new();
    if plan.core_dns.enabled {
        addons.extend(coredns(plan, release)?);
    }
    if plan.kube_proxy.enabled {
        addons.extend(kube_proxy(plan, release)?);
    }
    let network = match &plan.network.cni {
        Cni::Flannel { .. } => flannel(plan),
        Cni::Manifest { .. } => local.manifests.iter().cloned().map(Object::new).collect(),
        Cni::Bridge { .. } | Cni::None => Vec::new(),
    };
    let nodes = plan.nodes().map(|host| {
        let networks = standing.pod_cidrs.get(&host.name).map_or(&[][..], Vec::as_slice);
        Artifact::NodeMarks(node_marks(plan, host, release, networks))
    });
    Ok(vec![
        (Phase::ClusterObjects, wrap(cluster_objects(objects))),
        (Phase::Network, wrap(network)),
        (Phase::Addons, wrap(addons)),
        (Phase::Nodes, nodes.collect()),
    ])
}

fn rolled_out(kind: &str, namespace: &str, name: &str) -> Gate {
    Gate::RolledOut { kind: kind.into(), namespace: namespace.into(), name: name.into() }
}

/// The network provider's workloads are waited for.
#[must_use]
pub fn network_gates(plan: &Plan, local: &LocalFiles) -> Vec<Gate> {
    match &plan.network.cni {
        Cni::Flannel { .. } => vec![rolled_out("DaemonSet", "kube-flannel", "kube-flannel-ds")],
        Cni::Manifest { .. } => local.manifests.iter().filter_map(workload).collect(),
        Cni::Bridge { .. } | Cni::None => Vec::new(),
    }
}

fn workload(object: &Value) -> Option<Gate> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let kind = text("/kind").filter(|kind| matches!(*kind, "DaemonSet" | "Deployment"))?;
    Some(rolled_out(kind, text("/metadata/namespace").unwrap_or("default"), text("/metadata/name")?))
}

/// The add-ons are waited for.
#[must_use]
pub fn addon_gates(plan: &Plan) -> Vec<Gate> {
    let mut gates = Vec::new();
    if plan.kube_proxy.enabled {
        gates.push(rolled_out("DaemonSet", "kube-system", "kube-proxy"));
    }
    if plan.core_dns.enabled {
        gates.push(rolled_out("Deployment", "kube-system", "coredns"));
    }
    gates
}
