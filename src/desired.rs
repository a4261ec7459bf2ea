//! What is wanted: for each phase and target the artifacts that shall be there. A pure function of
//! the plan, of what the hosts *are*, of how things stand, and of the keys and certificates. It
//! never sees what was found of slipway's own things; comparing is `diff`'s work.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use crate::artifact::Artifact;
use crate::facts::System;
use crate::graph::Gate;
use crate::graph::waves::is_disruptive;
use crate::names::{Digest, HostName};
use crate::patch::PatchError;
use crate::phase::{OCCASIONAL_RULES, Phase, RULES, Stage};
use crate::plan::{Cni, Endpoint, Host, Plan};
use crate::release::Release;
use crate::trust::authorities::Given;
use crate::trust::refresh::{ExternalEtcdFiles, HostMaterial, Material};

pub mod certificates;
pub mod cluster;
pub mod formed;
pub mod images;
pub mod kubelet;
pub mod local_proxy;
pub mod packages;
pub mod pod_network;
pub mod programs;
pub mod runtime;
pub mod static_pods;
pub mod system;
pub mod vip;

pub use crate::standing::Standing;

/// Everything that decides what is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The facts of its Kubernetes version.
    pub release: &'a Release,
    /// What each host is; a host that is not here was not reached and gets nothing.
    pub systems: &'a BTreeMap<HostName, &'a System>,
    /// How things stand.
    pub standing: &'a Standing,
    /// Keys and certificates.
    pub material: &'a Material,
    /// What was read from local files.
    pub local: &'a LocalFiles,
}

impl Inputs<'_> {
    /// What that host is.
    fn system(&self, host: &HostName) -> &System {
        self.systems[host]
    }

    /// That host's keys, certificates and kubeconfigs.
    fn trust(&self, host: &HostName) -> &HostMaterial {
        &self.material.hosts[host]
    }
}

/// Why it cannot be said what is wanted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DesiredError {
    /// A program of the plan cannot be had.
    #[error(transparent)]
    Program(#[from] programs::ProgramError),
    /// A patch of the plan does not fit.
    #[error(transparent)]
    Patch(#[from] PatchError),
}

/// What is wanted of a host, by phase, in the order of the phases.
///
/// # Errors
/// A program cannot be had, or a patch does not fit.
pub fn of_host(inputs: &Inputs<'_>, host: &Host) -> Result<Vec<(Phase, Vec<Artifact>)>, DesiredError> {
    let Inputs { plan, release, standing, local, .. } = *inputs;
    let system = inputs.system(&host.name);
    let pictures = release.images(plan);
    let mut phases: Vec<(Phase, Vec<Artifact>)> = Vec::new();
    for rule in RULES.iter().chain(OCCASIONAL_RULES).filter(|rule| rule.on.includes(plan, host)) {
        let artifacts = match rule.phase {
            Phase::System => system::artifacts(plan),
            Phase::Programs => {
                let mut artifacts = programs::artifacts(plan, system, local)?;
                artifacts.extend(packages::artifacts(plan, system, local));
                artifacts
            }
            Phase::Runtime => runtime::artifacts(plan, system, &pictures.pause),
            Phase::Images => images::artifacts(plan, host, local, &images::needed(plan, host, &pictures)),
            Phase::PodNetwork => pod_network::artifacts(plan, host, system, standing),
            Phase::Authority | Phase::Certificates => certificates::artifacts(rule.phase, inputs.trust(&host.name)),
            Phase::Etcd => static_pods::etcd(inputs, host)?,
            Phase::ControlPlane => static_pods::control_plane(inputs, host)?,
            Phase::LocalProxy => local_proxy::artifacts(plan),
            Phase::Vip => vip::artifacts(plan, host, system),
            Phase::FormerEndpoint => vip::former(plan, host),
            Phase::Kubelet => {
                let earlier: Vec<Artifact> = phases.iter().flat_map(|(_, artifacts)| artifacts.clone()).collect();
                kubelet::artifacts(plan, host, system, release, &earlier)?
            }
            Phase::Formed => formed::artifacts(plan, &inputs.material.wishes.retired),
            Phase::Healthy | Phase::ClusterObjects | Phase::Nodes | Phase::Network | Phase::Addons | Phase::Ready | Phase::Prune => continue,
            // Nothing is wanted by them; `upgrade` makes the first of them and moves changes into the last two.
            Phase::Snapshot | Phase::Leave | Phase::Reset | Phase::Controllers | Phase::KubeletUpgrade => continue,
        };
        phases.push((rule.phase, artifacts));
    }
    Ok(phases)
}

/// What a step waits for after its changes.
#[must_use]
pub fn gates(phase: Phase, plan: &Plan, host: Option<&Host>, stage: Stage, local: &LocalFiles) -> Vec<Gate> {
    match (phase, host) {
        // In a fresh cluster nobody is served yet, and what comes next waits for what the kubelet
        // brings up: the API server or the Node. Its own endpoint can be seconds behind them.
        (Phase::Kubelet, Some(_)) if stage == Stage::Fresh => Vec::new(),
        (Phase::Kubelet, Some(host)) => vec![Gate::KubeletHealthy(host.name.clone())],
        (Phase::Healthy, Some(host)) => {
            let mut gates = Vec::new();
            if plan.has_etcd(host) {
                gates.push(Gate::EtcdHealthy(host.name.clone()));
            }
            if host.is_control_plane() {
                gates.push(Gate::ApiServerReady(host.name.clone()));
                gates.push(Gate::ControllersHealthy(host.name.clone()));
                // Whoever comes later may use it: in a fresh cluster the kubelets of other hosts.
                if matches!(plan.endpoint, Some(Endpoint::Vip(_))) {
                    gates.push(Gate::VipAnswers(host.name.clone()));
                }
            }
            gates
        }
        (Phase::Controllers, Some(host)) => vec![Gate::ControllersHealthy(host.name.clone())],
        (Phase::KubeletUpgrade, Some(host)) => kubelet_upgrade_gates(plan, host),
        (Phase::Network, None) => cluster::network_gates(plan, local),
        // Without a network no node becomes ready and no add-on that needs one starts.
        (Phase::Ready, None) if plan.network.cni != Cni::None => {
            let mut gates: Vec<Gate> = plan.nodes().map(|host| Gate::NodeReady(host.name.clone())).collect();
            gates.extend(cluster::addon_gates(plan));
            gates
        }
        _ => Vec::new(),
    }
}

/// A kubelet of a new version may start its static pods anew, so they are waited for too.
fn kubelet_upgrade_gates(plan: &Plan, host: &Host) -> Vec<Gate> {
    let mut gates = vec![Gate::KubeletHealthy(host.name.clone())];
    if host.is_node() && plan.network.cni != Cni::None {
        gates.push(Gate::NodeReady(host.name.clone()));
    }
    gates.extend(self::gates(Phase::Healthy, plan, Some(host), Stage::Living, &LocalFiles::default()));
    gates
}

/// What must hold before a step changes anything: in a living cluster the others carry on while
/// this host's etcd member or API server is down.
#[must_use]
pub fn preconditions(phase: Phase, plan: &Plan, host: &Host, standing: &Standing) -> Vec<Gate> {
    let mut gates = Vec::new();
    if standing.stage == Stage::Fresh || !is_disruptive(phase) {
        return gates;
    }
    if plan.has_etcd(host) && plan.etcd_hosts().count() > 1 {
        gates.push(Gate::QuorumWithout(host.name.clone()));
    }
    if host.is_control_plane() && has_other_api_server(host, standing) {
        gates.push(Gate::ApiServersWithout(host.name.clone()));
    }
    gates
}

/// Whether there is another API server. One that is only going to be made serves nobody yet.
#[must_use]
pub fn has_other_api_server(host: &Host, standing: &Standing) -> bool {
    standing.api_servers.iter().any(|other| *other != host.name)
}

/// What was read from files of the operator's machine that the plan names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LocalFiles {
    /// Digests of files to upload.
    pub digests: BTreeMap<PathBuf, Digest>,
    /// Image archives.
    pub archives: BTreeMap<PathBuf, ArchiveContent>,
    /// Objects of the network provider's manifests, in order.
    pub manifests: Vec<Value>,
    /// Files of an external etcd: CA, client certificate and key.
    pub external_etcd: Option<ExternalEtcdFiles>,
    /// The key that signs packages, as text.
    pub signing_key: Option<String>,
    /// Certificates of the CAs whose keys are not on hosts, PEM.
    pub authorities: Given,
}

/// What an image archive holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveContent {
    /// The images' names.
    pub names: Vec<String>,
    /// A digest that changes with the content (of the archive's own table of contents).
    pub digest: Digest,
}
