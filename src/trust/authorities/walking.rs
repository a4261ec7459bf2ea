//! A pair that is being replaced, as the survey has it: what its public file shall hold, who signs
//! and where that key is, and the new pair beside it. Pure.
//!
//! The old key is never overwritten on a host that could still go back: only after a host's public
//! file holds the new one alone does the new key take the old one's place there.

use std::collections::{BTreeMap, BTreeSet};

use super::{FoundPair, KeySource, PairState, survey_pair};
use crate::facts::Facts;
use crate::names::{HostName, RemotePath};
use crate::phase::Stage;
use crate::plan::Plan;
use crate::trust::problem::TrustProblem;
use crate::trust::rotation::{self, Aim, Position, Step, Walk, is_file};
use crate::trust::specification::ClusterPair;

/// What the hosts have of a pair and, if it is being replaced, of the one that follows it.
pub fn survey(
    plan: &Plan,
    facts: &BTreeMap<HostName, Facts>,
    stage: Stage,
    pair: ClusterPair,
    aim: Option<Aim>,
) -> Result<Vec<(ClusterPair, PairState)>, Vec<TrustProblem>> {
    let usual = || survey_pair(plan, facts, stage, pair);
    let Some(next) = pair.next().filter(|_| stage == Stage::Living) else { return Ok(vec![(pair, usual()?)]) };
    let Some(position) = rotation::position(plan, facts, pair).map_err(|problem| vec![problem])? else {
        let mut pairs = vec![(pair, usual()?)];
        // A walk that has just ended, or turned back to its beginning, does not begin another one.
        if aim == Some(Aim { step: Step::TrustOld, retire: false }) {
            pairs.push((next, PairState::Make));
        }
        return Ok(pairs);
    };
    let held = Aim { step: position.furthest(), retire: false };
    let mut aim = aim.unwrap_or(held);
    if position.old.is_empty() {
        // Nobody has the old one any more.
        aim.step = Step::TrustNew;
    }
    let found = found(plan, facts, pair, next, &position, aim);
    let mut pairs = vec![(pair, PairState::Found(Box::new(found)))];
    // Copies of the new pair are no longer mended when it has taken its place.
    if aim.step != Step::TrustNew && !aim.retire {
        pairs.push((next, survey_pair(plan, facts, stage, next)?));
    }
    Ok(pairs)
}

fn found(
    plan: &Plan,
    facts: &BTreeMap<HostName, Facts>,
    pair: ClusterPair,
    next: ClusterPair,
    position: &Position,
    aim: Aim,
) -> FoundPair {
    let keepers: Vec<&HostName> =
        pair.keepers(plan).map(|host| &host.name).filter(|host| facts.contains_key(*host)).collect();
    let has = |host: &HostName, path: &RemotePath| is_file(&facts[host].state, path);
    let (key, next_key) = (pair.key_path(), next.key_path());
    let with = |path: &RemotePath| keepers.iter().find(|host| has(host, path)).map(|host| (*host).clone());
    let incomplete: BTreeSet<HostName> = keepers
        .iter()
        .filter(|host| match aim.step {
            Step::TrustOld | Step::TrustBoth => !has(host, &key) || !has(host, &pair.public_path()),
            // The old key is not in use, and would be copied when the walk turned back.
            Step::SignNew => false,
            // Its content is not seen, so it is written as long as the new one is beside it.
            Step::TrustNew => has(host, &next_key) || !has(host, &key),
        })
        .map(|host| (*host).clone())
        .collect();
    let (key_file, key_host) = match with(&next_key).filter(|_| aim.step.signs_new()) {
        Some(host) => (next_key, Some(host)),
        // In state 2 nobody else has it; in state 3 it took its place everywhere.
        None if aim.step == Step::SignNew => (next_key, None),
        None => {
            let host = with(&key);
            (key, host)
        }
    };
    let trusted: Vec<_> = position.trusted(aim.step).into_iter().cloned().collect();
    FoundPair {
        text: position.text(aim.step),
        certificate: trusted.first().and_then(|item| item.certificate.clone()),
        key_source: key_host.map(KeySource::Host),
        incomplete,
        key_file,
        walk: Some(Walk { aim, trusted }),
    }
}
