//! A CA whose key is on no host: its certificate is given, and the hosts must agree with it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{FoundPair, KeySource, PairState, is_strange};
use crate::facts::Facts;
use crate::names::HostName;
use crate::plan::Plan;
use crate::trust::inspect;
use crate::trust::problem::TrustProblem;
use crate::trust::rotation::is_file;
use crate::trust::specification::ClusterPair;

/// What there is of a pair whose certificate is given.
pub fn survey(
    plan: &Plan,
    facts: &BTreeMap<HostName, Facts>,
    pair: ClusterPair,
    text: &str,
) -> Result<PairState, Vec<TrustProblem>> {
    let certificate = inspect::certificate(text.as_bytes()).map_err(|problem| vec![TrustProblem::Given { pair, problem }])?;
    let mut problems = Vec::new();
    for (host, Facts { state, .. }) in facts {
        if is_file(state, &pair.key_path()) {
            problems.push(TrustProblem::KeyOnHost { host: host.clone(), path: pair.key_path() });
        }
        if state.content(&pair.public_path()).is_some_and(|bytes| is_strange(Some(&certificate), bytes)) {
            problems.push(TrustProblem::NotTheGiven { host: host.clone(), path: pair.public_path(), pair });
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(PairState::Found(Box::new(FoundPair {
        text: text.to_owned(),
        certificate: Some(certificate),
        key_source: plan.pki.authority.store().map(|_| KeySource::Store),
        // No host shall have the key, and the certificate is written like any other file.
        incomplete: BTreeSet::new(),
        key_file: pair.key_path(),
        walk: None,
    })))
}
