//! A CA whose key is on no host: its certificate is given, and the hosts must agree with it. While it
//! is replaced the one that follows it is given, too, and a host may have either or both. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{FoundPair, Given, KeySource, PairState, is_strange};
use crate::facts::Facts;
use crate::names::{Digest, HostName};
use crate::plan::Plan;
use crate::trust::inspect;
use crate::trust::problem::TrustProblem;
use crate::trust::rotation::{self, Aim, Walk, is_file};
use crate::trust::specification::ClusterPair;

/// What there is of a pair whose certificate is given.
pub fn survey(
    plan: &Plan,
    facts: &BTreeMap<HostName, Facts>,
    pair: ClusterPair,
    (text, given): (&str, &Given),
    aim: Option<Aim>,
) -> Result<PairState, Vec<TrustProblem>> {
    let certificate = inspect::certificate(text.as_bytes()).map_err(|problem| vec![TrustProblem::Given { pair, problem }])?;
    let position = rotation::position_of_given(plan, facts, pair, given).map_err(|problem| vec![problem])?;
    let known: BTreeSet<Digest> = match &position {
        Some(position) => position.old.iter().chain([&position.new]).map(|item| item.identity).collect(),
        None => rotation::items(pair, text).into_iter().flatten().map(|item| item.identity).collect(),
    };
    let mut problems = Vec::new();
    for (host, Facts { state, .. }) in facts {
        if is_file(state, &pair.key_path()) {
            problems.push(TrustProblem::KeyOnHost { host: host.clone(), path: pair.key_path() });
        }
        let Some(bytes) = state.content(&pair.public_path()) else { continue };
        let trusts_new = |new| !is_strange(Some(new), bytes);
        let next = position.as_ref().and_then(|position| position.new.certificate.as_ref());
        if is_strange(Some(&certificate), bytes) && !next.is_some_and(trusts_new) {
            problems.push(TrustProblem::NotTheGiven { host: host.clone(), path: pair.public_path(), pair });
        } else if plan.pki.authority.store().is_some() && trusts_others(bytes, &known) {
            // Somebody replaces this CA with another copy of the store; going on would turn hosts back.
            problems.push(TrustProblem::NotInStore { host: host.clone(), path: pair.public_path(), pair });
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut found = FoundPair {
        text: text.to_owned(),
        certificate: Some(certificate),
        key_source: plan.pki.authority.store().map(|_| KeySource::Store(pair)),
        // No host shall have the key, and the certificate is written like any other file.
        incomplete: BTreeSet::new(),
        key_file: pair.key_path(),
        walk: None,
    };
    if let (Some(position), Some(next)) = (position, pair.next()) {
        let aim = aim.unwrap_or(Aim { step: position.furthest(), retire: false });
        let trusted: Vec<_> = position.trusted(aim.step).into_iter().cloned().collect();
        found.text = position.text(aim.step);
        found.certificate = trusted.first().and_then(|item| item.certificate.clone());
        found.key_source = Some(KeySource::Store(if aim.step.signs_new() { next } else { pair }));
        found.walk = Some(Walk { aim, trusted });
    }
    Ok(PairState::Found(Box::new(found)))
}

/// Whether a file holds a CA that is none of these. What cannot be read is written anew.
fn trusts_others(bytes: &[u8], known: &BTreeSet<Digest>) -> bool {
    inspect::certificates(bytes).is_ok_and(|found| found.iter().any(|found| !known.contains(&found.fingerprint())))
}
