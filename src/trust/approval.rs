//! May a kubelet have the certificate it asks for? For serving Kubernetes leaves that to people, because
//! only they know which names and addresses a node has. The plan knows. Client certificates come here
//! where the cluster has no CA key to sign them with. Pure.
//!
//! Whoever holds one kubelet's client certificate could otherwise get a certificate for any address of
//! the cluster's network, so a request is approved only if everything in it is that host's own.

use std::collections::BTreeSet;

use super::csr::{self, Request, RequestError};
use super::specification::{SubjectName, Usage};
use crate::names::HostName;
use crate::plan::{Host, Plan};

/// The signer of kubelets' serving certificates (Kubernetes, "Certificates and Certificate Signing
/// Requests", Kubernetes signers).
pub const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
/// The signer of kubelets' client certificates.
pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// The group every kubelet is in.
const NODES: &str = "system:nodes";
/// Names of kubelets begin with this.
const NODE: &str = "system:node:";

/// A CertificateSigningRequest object, as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked<'a> {
    /// Who sent it; set by the API server.
    pub username: &'a str,
    /// The groups of who sent it; set by the API server.
    pub groups: &'a [String],
    /// What the certificate may be used for.
    pub usages: &'a [String],
    /// The PKCS#10 request, PEM.
    pub request: &'a [u8],
}

/// Why a request is not approved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a kubelet asked.
    #[error("`{0}` is no kubelet")]
    NotAKubelet(String),
    /// The plan has no such Node.
    #[error("the plan has no node `{0}`")]
    NotInPlan(String),
    /// The request itself cannot be used.
    #[error("the request cannot be used: {0}")]
    Request(#[from] RequestError),
    /// It names somebody else than the one who asks.
    #[error("it names `{0}`")]
    Subject(String),
    /// It asks for a use that a serving certificate does not have, or not for serving.
    #[error("it asks for the use `{0}`")]
    Usage(String),
    /// It asks for names or addresses that are not the host's.
    #[error("it asks for {0}, which the plan does not give the host")]
    Foreign(String),
    /// It lacks the host's address.
    #[error("it does not ask for {0}, by which the host is reached")]
    Incomplete(String),
}

/// Whether a request for `KUBELET_SERVING` may be approved, and for which host.
///
/// # Errors
/// The first reason found against it.
pub fn judge(plan: &Plan, asked: &Asked<'_>) -> Result<HostName, Refusal> {
    let (host, request) = own_request(plan, asked, "server auth")?;
    if request.usages.contains(&Usage::Client) {
        return Err(Refusal::Usage(Usage::Client.to_string()));
    }
    let mine = own_names(host);
    let foreign: Vec<String> = request.names.iter().filter(|name| !mine.contains(name)).map(ToString::to_string).collect();
    if !foreign.is_empty() {
        return Err(Refusal::Foreign(foreign.join(", ")));
    }
    let address = SubjectName::Address(host.address);
    if !request.names.contains(&address) {
        return Err(Refusal::Incomplete(address.to_string()));
    }
    Ok(host.name.clone())
}

/// Whether a request for `KUBELET_CLIENT` may be approved, and for which host: a kubelet renews its own.
///
/// # Errors
/// The first reason found against it.
pub fn judge_client(plan: &Plan, asked: &Asked<'_>) -> Result<HostName, Refusal> {
    let (host, request) = own_request(plan, asked, "client auth")?;
    if request.usages.contains(&Usage::Server) {
        return Err(Refusal::Usage(Usage::Server.to_string()));
    }
    match request.names.first() {
        Some(name) => Err(Refusal::Foreign(name.to_string())),
        None => Ok(host.name.clone()),
    }
}

/// The request of a kubelet of the plan in its own name, for that use and nothing else.
fn own_request<'a>(plan: &'a Plan, asked: &Asked<'_>, purpose: &str) -> Result<(&'a Host, Request), Refusal> {
    let name = asked.username.strip_prefix(NODE).filter(|_| asked.groups.iter().any(|group| group == NODES));
    let name = name.ok_or_else(|| Refusal::NotAKubelet(asked.username.to_owned()))?;
    let host = plan.nodes().find(|host| host.name.as_str() == name).ok_or_else(|| Refusal::NotInPlan(name.to_owned()))?;
    let request = csr::read(asked.request)?;
    if request.subject.common_name != asked.username || request.subject.organizations != BTreeSet::from([NODES.to_owned()]) {
        return Err(Refusal::Subject(request.subject.to_string()));
    }
    if let Some(usage) = asked.usages.iter().find(|usage| !["digital signature", "key encipherment", purpose].contains(&usage.as_str())) {
        return Err(Refusal::Usage(usage.clone()));
    }
    if !asked.usages.iter().any(|usage| usage == purpose) {
        return Err(Refusal::Usage(format!("nothing with {purpose}")));
    }
    Ok((host, request))
}

fn own_names(host: &Host) -> Vec<SubjectName> {
    let addresses = host.addresses().map(SubjectName::Address);
    std::iter::once(SubjectName::Dns(host.name.to_string())).chain(addresses).collect()
}

#[cfg(test)]
mod tests;
