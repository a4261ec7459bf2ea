//! How the engine itself speaks to the cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::leaf_files::SettledLeaf;
use super::pairs::ReadyPair;
use super::{TrustInputs, pair_of};
use crate::artifact::Secret;
use crate::plan::KeyAlgorithm;
use crate::trust::issue::{self, IssueError, Signer, Validity};
use crate::trust::problem::TrustProblem;
use crate::trust::specification::{Authority, ClusterPair, Subject};

/// The engine's own certificate lives for one run, with room for a slow one.
const RUN: Duration = Duration::from_secs(24 * 3600);

/// A client certificate and the CA its servers are signed by.
#[derive(Debug, Clone)]
pub struct ClientCredentials {
    /// CA certificates, PEM.
    pub ca_pem: String,
    /// The client's certificate, PEM.
    pub certificate_pem: String,
    /// Its key, PEM.
    pub key: Secret,
}

/// Full rights on the API server: a certificate made for this run if the CA's key is at hand, else
/// an admin's from a control plane.
pub fn for_api(
    pairs: &BTreeMap<ClusterPair, ReadyPair>,
    settled: &[SettledLeaf],
    now: Timestamp,
) -> Result<ClientCredentials, TrustProblem> {
    let authority = pair_of(pairs, Authority::Kubernetes).ok_or(TrustProblem::NoCredentials("CA"))?;
    if let Some(signer) = &authority.signer {
        return for_this_run(signer, &authority.text, now)
            .map_err(|problem| TrustProblem::Issue { what: "slipway's own certificate".to_owned(), problem });
    }
    // super-admin.conf first: admin.conf has no rights before its ClusterRoleBinding is there, which
    // a bootstrap that was cut off may have left undone.
    ["super-admin.conf", "admin.conf"]
        .into_iter()
        .find_map(|name| settled.iter().find(|settled| settled.leaf.name == name))
        .map(|settled| of_leaf(settled, &authority.text))
        .ok_or(TrustProblem::NoCredentials("admin.conf"))
}

fn for_this_run(signer: &Signer, ca: &str, now: Timestamp) -> Result<ClientCredentials, IssueError> {
    let key = issue::generate_key(KeyAlgorithm::EcdsaP256)?;
    let subject = Subject { common_name: "slipway".to_owned(), organizations: ["system:masters".to_owned()].into() };
    let certificate_pem = signer.sign_client(&subject, &key, Validity { now, length: RUN })?;
    Ok(ClientCredentials { ca_pem: ca.to_owned(), certificate_pem, key: key.private })
}

/// Any client certificate of etcd: a member's health check, an API server's, or the user's.
pub fn for_etcd(
    inputs: TrustInputs<'_>,
    pairs: &BTreeMap<ClusterPair, ReadyPair>,
    settled: &[SettledLeaf],
) -> Result<ClientCredentials, TrustProblem> {
    if inputs.plan.etcd.external.is_some() {
        let files = inputs.external_etcd.ok_or(TrustProblem::NoExternalEtcd)?;
        return Ok(ClientCredentials {
            ca_pem: files.ca.clone(),
            certificate_pem: files.certificate.clone(),
            key: files.key.clone(),
        });
    }
    let authority = pair_of(pairs, Authority::Etcd).ok_or(TrustProblem::NoCredentials("etcd CA"))?;
    ["etcd/healthcheck-client", "apiserver-etcd-client"]
        .into_iter()
        .find_map(|name| settled.iter().find(|settled| settled.leaf.name == name))
        .map(|settled| of_leaf(settled, &authority.text))
        .ok_or(TrustProblem::NoCredentials("client certificate for etcd"))
}

fn of_leaf(settled: &SettledLeaf, ca: &str) -> ClientCredentials {
    ClientCredentials {
        ca_pem: ca.to_owned(),
        certificate_pem: String::from_utf8_lossy(&settled.certificate).into_owned(),
        key: settled.key.clone(),
    }
}
