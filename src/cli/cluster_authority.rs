//! The cluster's CA for commands that sign a single certificate: `kubeconfig user` and
//! `certs approve`. While the CA is replaced, the one that signs is the first in the hosts' `ca.crt`,
//! and who gets a certificate must trust everything in it.

use crate::artifact::Secret;
use crate::failure::{Failure, Kind};
use crate::plan::{AuthorityKeys, KeyStore, Plan};
use crate::transport::Transport;
use crate::trust::inspect::{self, Certificate};
use crate::trust::specification::{Authority, ClusterPair};
use crate::{key_store, local_files};

const PAIR: ClusterPair = ClusterPair::Authority(Authority::Kubernetes);
const NEXT: ClusterPair = ClusterPair::NextAuthority(Authority::Kubernetes);

/// The cluster's CA, ready to sign.
pub(super) struct ClusterAuthority {
    /// The certificate that signs.
    pub certificate: Certificate,
    /// Its key.
    pub key: Secret,
    /// Everything that clients of the cluster must trust, PEM.
    pub trusted: String,
}

/// Fetches it: from the first control plane that has it, or from the operator's store.
///
/// # Errors
/// No host can be asked, nobody has the key, or somebody else keeps it.
pub(super) async fn fetch<T: Transport>(plan: &Plan, transport: &T) -> Result<ClusterAuthority, Failure> {
    match &plan.pki.authority {
        AuthorityKeys::Hosts => on_hosts(plan, transport).await,
        AuthorityKeys::Operator(store) => in_store(plan, store, transport).await,
        AuthorityKeys::External { .. } => {
            Err(Failure::new(Kind::Refused, "the cluster's CA is kept by somebody else (`pki.authority`), who alone can sign credentials"))
        }
    }
}

async fn on_hosts<T: Transport>(plan: &Plan, transport: &T) -> Result<ClusterAuthority, Failure> {
    let paths = [PAIR.public_path(), PAIR.key_path(), NEXT.key_path()];
    let mut reasons = Vec::new();
    for host in plan.control_planes() {
        let found = match transport.fetch(&host.name, &paths).await {
            Err(error) => Err(error.to_string()),
            Ok(mut files) => match files.remove(&paths[0]) {
                None => Err(format!("host {} has no {}", host.name, paths[0])),
                Some(text) => with_key(text.expose(), files.into_values())
                    .map_err(|reason| format!("host {}: {} {reason}", host.name, paths[0])),
            },
        };
        match found {
            Ok(authority) => return Ok(authority),
            Err(reason) => reasons.push(reason),
        }
    }
    Err(Failure::new(Kind::Cluster, reasons.join("\nerror: ")).hint("credentials are signed by the cluster's CA, so its key is needed"))
}

async fn in_store<T: Transport>(plan: &Plan, store: &KeyStore, transport: &T) -> Result<ClusterAuthority, Failure> {
    let local = |error: &dyn std::error::Error| Failure::new(Kind::LocalFile, error.to_string());
    let mut given = local_files::authorities(plan).map_err(|error| Failure::from_error(Kind::LocalFile, &error))?;
    let mut text = given.remove(&PAIR).unwrap_or_default();
    let mut pairs = vec![PAIR];
    if given.contains_key(&NEXT) {
        // Only the hosts know how far the walk has come.
        text = published(plan, transport).await?;
        pairs.push(NEXT);
    }
    let keys = key_store::open(store, &pairs).map_err(|error| local(&error))?;
    with_key(text.as_bytes(), keys.into_values()).map_err(|reason| Failure::new(Kind::LocalFile, format!("the cluster's CA {reason}")))
}

/// `ca.crt` of the first control plane that answers.
async fn published<T: Transport>(plan: &Plan, transport: &T) -> Result<String, Failure> {
    let path = PAIR.public_path();
    let mut reasons = Vec::new();
    for host in plan.control_planes() {
        match transport.fetch(&host.name, std::slice::from_ref(&path)).await {
            Err(error) => reasons.push(error.to_string()),
            Ok(mut files) => match files.remove(&path).map(|text| String::from_utf8_lossy(text.expose()).into_owned()) {
                Some(text) => return Ok(text),
                None => reasons.push(format!("host {} has no {path}", host.name)),
            },
        }
    }
    Err(Failure::new(Kind::Unreachable, reasons.join("\nerror: ")).hint("the CA is being replaced, so its state is read off a control plane"))
}

/// The first certificate with the key that belongs to it.
fn with_key(text: &[u8], keys: impl Iterator<Item = Secret>) -> Result<ClusterAuthority, String> {
    let certificate = inspect::certificate(text).map_err(|error| format!("cannot be used: {error}"))?;
    let fits = |key: &Secret| inspect::public_half(key).is_ok_and(|public| public == certificate.public_key);
    let key = keys.into_iter().find(fits).ok_or("has no key that belongs to its first certificate")?;
    let trusted = String::from_utf8_lossy(text).into_owned();
    Ok(ClusterAuthority { certificate, key, trusted })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::testing::{Hosts, plan};

    #[test]
    fn the_first_certificate_signs_with_the_key_that_is_its_own() {
        let (one, other) = (Hosts::bootstrapped(plan("single")), Hosts::bootstrapped(plan("single")));
        let certificate = |hosts: &Hosts| hosts.bytes("cp-1", PAIR.public_path().as_str());
        let key = |hosts: &Hosts| Secret::new(hosts.bytes("cp-1", PAIR.key_path().as_str()));
        let both = [certificate(&one), certificate(&other)].concat();
        for keys in [[key(&one), key(&other)], [key(&other), key(&one)]] {
            let found = with_key(&both, keys.into_iter()).unwrap();
            assert_eq!(found.certificate, inspect::certificate(&certificate(&one)).unwrap());
            assert_eq!(found.key.expose(), key(&one).expose());
            assert_eq!(found.trusted.as_bytes(), both, "who gets a certificate trusts both");
        }
        assert!(with_key(&both, [key(&other)].into_iter()).is_err());
        assert!(with_key(b"nothing", [key(&one)].into_iter()).is_err());
    }
}
