//! Phases `etcd` and `control-plane`: the static pods. Each carries the digest of the certificates
//! and kubeconfigs it reads, so a new certificate restarts exactly the pods that use it.

use crate::artifact::{Artifact, Content};
use crate::kubernetes::static_pods::{self, EtcdMember};
use crate::kubernetes::PodInputs;
use crate::names::{Digest, Mode, RemotePath};
use crate::patch::PatchError;
use crate::paths;
use crate::plan::Host;
use crate::trust::refresh::TrustFile;
use crate::yaml;

use super::Inputs;

/// Stands in reviews where the digest of new certificates would be, which differs in every run.
const NEW: &str = "<digest of new certificates>";

/// What etcd reads.
fn etcd_inputs() -> Vec<RemotePath> {
    vec![
        paths::etcd_ca_certificate(),
        paths::etcd_server_certificate(),
        paths::etcd_peer_certificate(),
    ]
}

/// What the API server reads.
fn api_server_inputs() -> Vec<RemotePath> {
    vec![
        paths::ca_certificate(),
        paths::api_server_certificate(),
        paths::kubelet_client_certificate(),
        paths::front_proxy_ca_certificate(),
        paths::front_proxy_client_certificate(),
        paths::etcd_ca_certificate(),
        paths::etcd_client_certificate(),
        paths::service_account_public_key(),
        paths::external_etcd_ca_certificate(),
        paths::external_etcd_client_certificate(),
    ]
}

fn controller_manager_inputs() -> Vec<RemotePath> {
    vec![
        paths::ca_certificate(),
        paths::front_proxy_ca_certificate(),
        paths::service_account_public_key(),
        paths::controller_manager_kubeconfig(),
    ]
}

fn scheduler_inputs() -> Vec<RemotePath> {
    vec![paths::scheduler_kubeconfig()]
}

/// The digest over these files as they shall be, and whether one of them is made in this run.
fn digest_of(inputs: &[RemotePath], files: &[TrustFile]) -> (String, bool) {
    let mut text = String::new();
    let mut new = false;
    for file in files.iter().filter(|file| inputs.contains(&file.path)) {
        text.push_str(&format!("{}={}\n", file.path, file.content.digest()));
        new |= file.content.is_drawn();
    }
    (Digest::of(text).to_string(), new)
}

/// What phase `etcd` wants on a host.
///
/// # Errors
/// A patch of the plan does not fit.
pub fn etcd(inputs: &Inputs<'_>, host: &Host) -> Result<Vec<Artifact>, PatchError> {
    let Some(initial) = inputs.standing.etcd.get(&host.name) else { return Ok(Vec::new()) };
    let member = EtcdMember { initial_cluster: initial.members.clone(), state: initial.state };
    let manifest = manifest(inputs, host, paths::etcd_manifest(), &etcd_inputs(), |pod| static_pods::etcd(pod, &member))?;
    let directory = Artifact::Directory { path: inputs.plan.etcd.data_directory.clone(), mode: Mode(0o700) };
    Ok(vec![directory, manifest])
}

/// What phase `control-plane` wants on a host.
///
/// # Errors
/// A patch of the plan does not fit.
pub fn control_plane(inputs: &Inputs<'_>, host: &Host) -> Result<Vec<Artifact>, PatchError> {
    Ok(vec![
        // Of a worker that becomes a control plane: it is in the way of the API server's port.
        Artifact::Absent { path: RemotePath::fixed(super::local_proxy::MANIFEST_FILE) },
        manifest(inputs, host, paths::api_server_manifest(), &api_server_inputs(), static_pods::api_server)?,
        manifest(
            inputs,
            host,
            paths::controller_manager_manifest(),
            &controller_manager_inputs(),
            static_pods::controller_manager,
        )?,
        manifest(inputs, host, paths::scheduler_manifest(), &scheduler_inputs(), static_pods::scheduler)?,
    ])
}

fn manifest(
    inputs: &Inputs<'_>,
    host: &Host,
    path: RemotePath,
    reads: &[RemotePath],
    pod: impl Fn(&PodInputs<'_>) -> Result<serde_json::Value, PatchError>,
) -> Result<Artifact, PatchError> {
    let files = &inputs.trust(&host.name).files;
    let (digest, new) = digest_of(reads, files);
    let signing = &inputs.material.wishes.signing;
    let text = |digest: &str| {
        let inputs = PodInputs {
            plan: inputs.plan,
            host,
            system: inputs.system(&host.name),
            release: inputs.release,
            inputs_digest: Some(digest),
            signing,
        };
        pod(&inputs).map(|pod| yaml::write(&pod))
    };
    let content = if new { Content::reviewed(text(&digest)?, text(NEW)?) } else { Content::plain(text(&digest)?) };
    Ok(Artifact::File { path, mode: Mode(0o600), content })
}
