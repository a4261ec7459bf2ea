//! Which CA does this cluster have? Reads it off the hosts and refuses to go on wherever making one
//! could make a second one. Pure.
//!
//! The rule behind every check: whoever holds a CA's key owns the cluster, and two CAs of one name
//! are two clusters that cannot tell why they do not trust each other.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::decide::{self, Decision, Requested};
use super::inspect::{self, Certificate, InspectError};
use super::kubeconfig;
use super::problem::TrustProblem;
use super::rotation::{Aims, Walk, Wishes};
use super::specification::{Authority, ClusterPair, kubeconfig_paths};
use crate::facts::{Facts, FoundKind, State};
use crate::names::{Digest, HostName, KubernetesVersion, RemotePath};
use crate::phase::Stage;
use crate::plan::{AuthorityKeys, Plan};

mod given;
mod walking;

/// What the hosts have of each CA and of the service-account pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthoritySurvey {
    /// Whether the cluster lives.
    pub stage: Stage,
    /// Every pair of the plan.
    pub pairs: BTreeMap<ClusterPair, PairState>,
}

/// What the hosts have of one pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PairState {
    /// Nothing: it is to be made.
    Make,
    /// It is there and is used.
    Found(Box<FoundPair>),
}

/// A pair that is on at least one of its keepers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundPair {
    /// The file with the certificate(s) or the public key.
    pub text: String,
    /// The first certificate, which signs; `None` for the service-account key.
    pub certificate: Option<Certificate>,
    /// Where the key is, if anybody has it.
    pub key_source: Option<KeySource>,
    /// Keepers that have not both files.
    pub incomplete: BTreeSet<HostName>,
    /// Where the key is on that host: beside the certificate, but for a pair in a walk.
    pub key_file: RemotePath,
    /// Where the pair is brought, if it is on its way from an old one to a new one.
    pub walk: Option<Walk>,
}

/// Where a pair's key is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A host that keeps it.
    Host(HostName),
    /// The operator's store, where it is the key of that pair.
    Store(ClusterPair),
}

/// Certificates of CAs whose keys are not on hosts, PEM: the plan's or the store's. While a CA of a
/// store is replaced, the one that follows it is there, too.
pub type Given = BTreeMap<ClusterPair, String>;

/// A key file that must be fetched before material can be planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRequest {
    /// Which pair's.
    pub pair: ClusterPair,
    /// From where.
    pub from: KeySource,
    /// Which file, if it is on a host.
    pub path: RemotePath,
}

impl AuthoritySurvey {
    /// As if no host had anything: for `render`.
    #[must_use]
    pub fn fresh(plan: &Plan) -> Self {
        Self { stage: Stage::Fresh, pairs: ClusterPair::of(plan).map(|pair| (pair, PairState::Make)).collect() }
    }

    /// The certificate of a CA that is there.
    #[must_use]
    pub fn certificate(&self, authority: Authority) -> Option<&Certificate> {
        self.found(ClusterPair::Authority(authority))?.certificate.as_ref()
    }

    /// The walk a CA is in, if it is in one.
    #[must_use]
    pub fn walk(&self, authority: Authority) -> Option<&Walk> {
        self.found(ClusterPair::Authority(authority))?.walk.as_ref()
    }

    /// What the walks of this cluster ask of its hosts besides the pairs.
    #[must_use]
    pub fn wishes(&self) -> Wishes {
        Wishes::of(self.pairs.keys().filter_map(|pair| Some((*pair, self.found(*pair)?.walk.as_ref()?))))
    }

    /// What is there of a pair.
    #[must_use]
    pub fn found(&self, pair: ClusterPair) -> Option<&FoundPair> {
        match self.pairs.get(&pair)? {
            PairState::Make => None,
            PairState::Found(found) => Some(found),
        }
    }
}

/// Looks for every CA and the service-account pair on the hosts that keep them, and for signs of
/// another cluster on all of them.
///
/// # Errors
/// Every reason found for not going on.
pub fn survey(
    plan: &Plan,
    facts: &BTreeMap<HostName, Facts>,
    stage: Stage,
) -> Result<AuthoritySurvey, Vec<TrustProblem>> {
    survey_towards(plan, facts, stage, &Aims::new(), &Given::new())
}

/// As `survey`, while pairs are replaced: what shall be there is what their next state asks for. A CA
/// that is given is never made here.
///
/// # Errors
/// Every reason found for not going on.
pub fn survey_towards(
    plan: &Plan,
    facts: &BTreeMap<HostName, Facts>,
    stage: Stage,
    aims: &Aims,
    given: &Given,
) -> Result<AuthoritySurvey, Vec<TrustProblem>> {
    let mut problems = Vec::new();
    let mut pairs = BTreeMap::new();
    for pair in ClusterPair::of(plan) {
        let of_pair = match given.get(&pair) {
            Some(text) => given::survey(plan, facts, pair, (text, given), aims.get(&pair).copied()).map(|found| vec![(pair, found)]),
            None => walking::survey(plan, facts, stage, pair, aims.get(&pair).copied()),
        };
        match of_pair {
            Ok(found) => pairs.extend(found),
            Err(more) => problems.extend(more),
        }
    }
    let survey = AuthoritySurvey { stage, pairs };
    if problems.is_empty() {
        problems = strangers(plan, facts, stage, &survey);
    }
    if problems.is_empty() { Ok(survey) } else { Err(problems) }
}

/// One keeper's files of a pair.
struct Seen<'a> {
    text: Option<&'a str>,
    /// What tells one pair from another: a digest of the certificate or public key.
    identity: Option<Digest>,
    has_key: bool,
}

fn survey_pair(
    plan: &Plan,
    facts: &BTreeMap<HostName, Facts>,
    stage: Stage,
    pair: ClusterPair,
) -> Result<PairState, Vec<TrustProblem>> {
    let mut seen: BTreeMap<&HostName, Seen<'_>> = BTreeMap::new();
    let mut problems = Vec::new();
    for keeper in pair.keepers(plan) {
        match facts.get(&keeper.name) {
            // Later, in a living cluster, a host that is down changes nothing: its CA is elsewhere too.
            None if stage == Stage::Living => {}
            None => problems.push(TrustProblem::NotProbed { host: keeper.name.clone(), pair }),
            Some(facts) => match see(&facts.state, pair) {
                Ok(files) => _ = seen.insert(&keeper.name, files),
                Err(problem) => {
                    let host = keeper.name.clone();
                    problems.push(TrustProblem::Unreadable { host, path: pair.public_path(), problem });
                }
            },
        }
    }
    let identities: BTreeMap<HostName, Digest> =
        seen.iter().filter_map(|(host, files)| Some(((*host).clone(), files.identity?))).collect();
    if identities.values().collect::<BTreeSet<_>>().len() > 1 {
        problems.push(TrustProblem::Different { pair, seen: identities });
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let Some(text) = seen.values().find_map(|files| files.text) else {
        return nothing_found(plan, facts, stage, pair, &seen);
    };
    // A host with both files is asked first; the key is compared with the certificate anyway.
    let has_both = |(_, files): &(&&HostName, &Seen<'_>)| files.has_key && files.text.is_some();
    let key_host = seen.iter().find(has_both).or_else(|| seen.iter().find(|(_, files)| files.has_key));
    Ok(PairState::Found(Box::new(FoundPair {
        text: text.to_owned(),
        certificate: match pair {
            ClusterPair::Authority(_) | ClusterPair::NextAuthority(_) => inspect::certificate(text.as_bytes()).ok(),
            ClusterPair::ServiceAccount | ClusterPair::NextServiceAccount => None,
        },
        key_source: key_host.map(|(host, _)| KeySource::Host((*host).clone())),
        incomplete: seen
            .iter()
            .filter(|(_, files)| !(files.has_key && files.text.is_some()))
            .map(|(host, _)| (*host).clone())
            .collect(),
        key_file: pair.key_path(),
        walk: None,
    })))
}

fn see(state: &State, pair: ClusterPair) -> Result<Seen<'_>, InspectError> {
    let is_file =
        |path: &RemotePath| state.files.get(path).is_some_and(|file| matches!(file.kind, FoundKind::File { .. }));
    let path = pair.public_path();
    let text = if is_file(&path) { Some(state.text(&path).ok_or(InspectError::NotPem)?) } else { None };
    let identity = text.map(|text| match pair {
        ClusterPair::Authority(_) | ClusterPair::NextAuthority(_) => {
            inspect::certificate(text.as_bytes()).map(|certificate| certificate.fingerprint())
        }
        ClusterPair::ServiceAccount | ClusterPair::NextServiceAccount => inspect::public_key(text.as_bytes()).map(Digest::of),
    });
    Ok(Seen { text, identity: identity.transpose()?, has_key: is_file(&pair.key_path()) })
}

/// No keeper has the certificate. In a fresh cluster it is made, even over keys that a run which was
/// cut off left behind: what no certificate names signed nothing. Unless another host trusts it.
fn nothing_found(
    plan: &Plan,
    facts: &BTreeMap<HostName, Facts>,
    stage: Stage,
    pair: ClusterPair,
    seen: &BTreeMap<&HostName, Seen<'_>>,
) -> Result<PairState, Vec<TrustProblem>> {
    let seen_paths = || {
        let paths = |files: &Seen<'_>| files.has_key.then(|| pair.key_path()).into_iter().collect();
        seen.iter().map(|(host, files)| ((*host).clone(), paths(files))).collect()
    };
    if stage == Stage::Living {
        return Err(vec![TrustProblem::Second { pair, seen: seen_paths() }]);
    }
    let has_public = |host: &&HostName| facts[*host].state.files.contains_key(&pair.public_path());
    let reader = plan.hosts.iter().map(|host| &host.name).filter(|host| facts.contains_key(*host)).find(has_public);
    match reader {
        Some(reader) if seen.values().any(|files| files.has_key) => Err(vec![TrustProblem::Orphaned {
            pair,
            reader: reader.clone(),
            path: pair.public_path(),
            seen: seen_paths(),
        }]),
        Some(reader) => Err(vec![TrustProblem::AnotherCluster { host: reader.clone(), path: pair.public_path() }]),
        None => Ok(PairState::Make),
    }
}

/// Hosts that trust a CA other than the keepers'.
fn strangers(
    plan: &Plan,
    facts: &BTreeMap<HostName, Facts>,
    stage: Stage,
    survey: &AuthoritySurvey,
) -> Vec<TrustProblem> {
    let mut problems = Vec::new();
    for host in plan.hosts.iter().filter(|host| facts.contains_key(&host.name)) {
        let state = &facts[&host.name].state;
        let mut suspects: Vec<(RemotePath, Authority, Vec<u8>)> = Vec::new();
        for pair in ClusterPair::of(plan).filter(|pair| !pair.is_kept_by(plan, host)) {
            if let ClusterPair::Authority(authority) = pair
                && let Some(bytes) = state.content(&pair.public_path())
            {
                suspects.push((pair.public_path(), authority, bytes.to_vec()));
            }
        }
        // In a living cluster a kubeconfig that went wrong is repaired like any other drift.
        if stage == Stage::Fresh {
            let trusted = |path: &RemotePath| kubeconfig::read(state.text(path)?).ok()?.authority;
            let kubeconfigs = kubeconfig_paths().into_iter().filter_map(|path| Some((path.clone(), trusted(&path)?)));
            suspects.extend(kubeconfigs.map(|(path, bytes)| (path, Authority::Kubernetes, bytes)));
        }
        let stranger =
            suspects.into_iter().find(|(_, authority, bytes)| is_strange(survey.certificate(*authority), bytes));
        problems.extend(stranger.map(|(path, ..)| TrustProblem::AnotherCluster { host: host.name.clone(), path }));
    }
    problems
}

/// Whether a file with CA certificates is without the cluster's. What cannot be read says nothing
/// about another cluster and is simply written anew.
fn is_strange(ours: Option<&Certificate>, bytes: &[u8]) -> bool {
    match (ours, inspect::certificates(bytes)) {
        (_, Err(_)) => false,
        (None, Ok(_)) => true,
        (Some(ours), Ok(theirs)) => theirs.iter().all(|theirs| theirs != ours),
    }
}

/// Which key files must be fetched: those of CAs that have something to sign, and those a keeper
/// does not have. An up-to-date cluster needs none.
///
/// # Errors
/// A key is needed that no host has.
pub fn needed_keys(
    plan: &Plan,
    version: KubernetesVersion,
    facts: &BTreeMap<HostName, Facts>,
    survey: &AuthoritySurvey,
    requested: &Requested,
    now: Timestamp,
) -> Result<Vec<KeyRequest>, Vec<TrustProblem>> {
    let mut uses: BTreeMap<ClusterPair, Vec<String>> = BTreeMap::new();
    for (leaf, decision) in decide::decide_all(plan, version, facts, survey, requested, now) {
        if let Decision::Issue(reason) = decision {
            let pair = ClusterPair::Authority(leaf.authority);
            uses.entry(pair).or_default().push(format!("{} on {} ({reason})", leaf.name, leaf.host));
        }
    }
    let mut requests = Vec::new();
    let mut problems = Vec::new();
    for pair in survey.pairs.keys().copied() {
        let Some(found) = survey.found(pair) else { continue };
        let mut needed_for = uses.remove(&pair).unwrap_or_default();
        needed_for.extend(found.incomplete.iter().map(|host| format!("the copy on {host}")));
        match &found.key_source {
            _ if needed_for.is_empty() => {}
            Some(from) => requests.push(KeyRequest { pair, from: from.clone(), path: found.key_file.clone() }),
            None if matches!(plan.pki.authority, AuthorityKeys::External { .. }) && pair.authority().is_some() => {
                problems.push(TrustProblem::SignedElsewhere { pair, needed_for });
            }
            None => problems.push(TrustProblem::NoKey { pair, needed_for }),
        }
    }
    if problems.is_empty() { Ok(requests) } else { Err(problems) }
}

#[cfg(test)]
mod tests;
