//! Where each CA (and the service-account key) stands on its way from an old pair to a new one.
//! Read off the hosts' own files, so that a walk that was cut off goes on where it stands. Pure.
//!
//! The way has four states, and each host that has the public file is in one of them:
//!
//! | state | `ca.crt` holds | who signs |
//! |---|---|---|
//! | 0, trust old | old | old |
//! | 1, trust both | old, new | old |
//! | 2, sign new | new, old | new |
//! | 3, trust new | new | new |
//!
//! Whatever has state N trusts whatever was signed in the states N-1 and N+1, so hosts may be
//! changed one after another. The new pair is kept beside the old one (`ca-next.crt`, `ca-next.key`)
//! on every keeper before anything trusts it; the old key stays where it is until a host trusts only
//! the new CA, so until then the walk can turn back.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::authorities::Given;
use super::inspect::{self, Certificate, InspectError};
use super::problem::TrustProblem;
use super::specification::{Authority, ClusterPair};
use crate::facts::{Facts, FoundKind, State};
use crate::names::{Digest, HostName, RemotePath};
use crate::plan::{Host, Plan};

/// A state of the walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Step {
    /// 0: only the old one is trusted and signs.
    TrustOld,
    /// 1: both are trusted, the old one signs.
    TrustBoth,
    /// 2: both are trusted, the new one signs.
    SignNew,
    /// 3: only the new one is trusted and signs.
    TrustNew,
}

impl Step {
    /// All of them in order.
    pub const ALL: [Self; 4] = [Self::TrustOld, Self::TrustBoth, Self::SignNew, Self::TrustNew];

    /// The next one.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        Self::ALL.get(self as usize + 1).copied()
    }

    /// Whether the new pair signs.
    #[must_use]
    pub fn signs_new(self) -> bool {
        self >= Self::SignNew
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::TrustOld => "trust the old one",
            Self::TrustBoth => "trust both, sign with the old one",
            Self::SignNew => "trust both, sign with the new one",
            Self::TrustNew => "trust the new one",
        };
        write!(f, "{} ({text})", *self as usize)
    }
}

/// Where a run shall bring a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aim {
    /// The state.
    pub step: Step,
    /// Take away what the walk needed: the new pair's own files. Only in the first and last state.
    pub retire: bool,
}

/// Where a run shall bring each pair; one that is not named stays in the furthest state found.
pub type Aims = BTreeMap<ClusterPair, Aim>;

/// One certificate or public key of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What tells it from others.
    pub identity: Digest,
    /// The certificate; `None` for a public key.
    pub certificate: Option<Certificate>,
    /// Its PEM block.
    pub pem: String,
}

/// The certificates or public keys of a pair's public file.
///
/// # Errors
/// There is none, or one is damaged.
pub fn items(pair: ClusterPair, text: &str) -> Result<Vec<Item>, InspectError> {
    if pair.authority().is_some() {
        let all = inspect::certificates(text.as_bytes())?;
        let item = |certificate: Certificate| Item {
            identity: certificate.fingerprint(),
            pem: certificate.pem(),
            certificate: Some(certificate),
        };
        Ok(all.into_iter().map(item).collect())
    } else {
        let all = inspect::public_keys(text.as_bytes())?;
        let item =
            |der: Vec<u8>| Item { identity: Digest::of(&der), pem: inspect::pem_block("PUBLIC KEY", &der), certificate: None };
        Ok(all.into_iter().map(item).collect())
    }
}

/// A pair on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The state of each host that has the public file.
    pub hosts: BTreeMap<HostName, Step>,
    /// What was trusted before the walk; empty if no host has it any more.
    pub old: Vec<Item>,
    /// What is trusted after it.
    pub new: Item,
}

impl Position {
    /// The state of the host that is furthest behind.
    #[must_use]
    pub fn slowest(&self) -> Step {
        self.hosts.values().min().copied().unwrap_or(Step::TrustOld)
    }

    /// The state of the host that is furthest ahead.
    #[must_use]
    pub fn furthest(&self) -> Step {
        self.hosts.values().max().copied().unwrap_or(Step::TrustOld)
    }

    /// What the public file holds in a state. The first one signs.
    #[must_use]
    pub fn trusted(&self, step: Step) -> Vec<&Item> {
        let new = std::iter::once(&self.new);
        match step {
            Step::TrustOld => self.old.iter().collect(),
            Step::TrustBoth => self.old.iter().chain(new).collect(),
            Step::SignNew => new.chain(&self.old).collect(),
            Step::TrustNew => new.collect(),
        }
    }

    /// The public file in a state.
    #[must_use]
    pub fn text(&self, step: Step) -> String {
        self.trusted(step).into_iter().map(|item| item.pem.as_str()).collect()
    }
}

/// Reads where a pair stands. `None`: no host keeps a new pair, so there is no walk.
///
/// # Errors
/// Files that cannot be read, or that belong to no one walk.
pub fn position(plan: &Plan, facts: &BTreeMap<HostName, Facts>, pair: ClusterPair) -> Result<Option<Position>, TrustProblem> {
    let Some(next) = pair.next() else { return Ok(None) };
    let seen: Vec<(&Host, &State)> =
        plan.hosts.iter().filter_map(|host| Some((host, &facts.get(&host.name)?.state))).collect();
    let read = |host: &Host, state: &State, pair: ClusterPair| match state.text(&pair.public_path()) {
        None => Ok(None),
        Some(text) => items(pair, text)
            .map(Some)
            .map_err(|problem| TrustProblem::Unreadable { host: host.name.clone(), path: pair.public_path(), problem }),
    };
    let mut kept: BTreeMap<HostName, Item> = BTreeMap::new();
    for (host, state) in seen.iter().filter(|(host, _)| pair.is_kept_by(plan, host)) {
        if let Some(first) = read(host, state, next)?.and_then(|items| items.into_iter().next()) {
            kept.insert(host.name.clone(), first);
        }
    }
    let identities: BTreeSet<Digest> = kept.values().map(|item| item.identity).collect();
    if identities.len() > 1 {
        let seen = kept.into_iter().map(|(host, item)| (host, item.identity)).collect();
        return Err(TrustProblem::Different { pair: next, seen });
    }
    let Some(new) = kept.into_values().next() else { return Ok(None) };

    let mut hosts = BTreeMap::new();
    let mut olds: BTreeMap<HostName, Vec<Item>> = BTreeMap::new();
    for (host, state) in seen.iter().filter(|(host, _)| pair.is_on(plan, host)) {
        // A reader's damaged file is written anew; a keeper's could hide what the cluster trusts.
        let found = match read(host, state, pair) {
            Err(problem) if pair.is_kept_by(plan, host) => return Err(problem),
            Err(_) | Ok(None) => continue,
            Ok(Some(found)) => found,
        };
        let place = found.iter().position(|item| item.identity == new.identity);
        hosts.insert(host.name.clone(), step_of(place, found.len()));
        let old: Vec<Item> = found.into_iter().filter(|item| item.identity != new.identity).collect();
        if !old.is_empty() && pair.is_kept_by(plan, host) {
            olds.insert(host.name.clone(), old);
        }
    }
    let mut distinct: Vec<&Vec<Item>> = olds.values().collect();
    distinct.dedup();
    if distinct.len() > 1 {
        let seen = olds.iter().map(|(host, old)| (host.clone(), old[0].identity)).collect();
        return Err(TrustProblem::Different { pair, seen });
    }
    let old = olds.into_values().next().unwrap_or_default();
    let position = Position { hosts, old, new };
    // A new pair whose key never arrived anywhere, or is gone again, was trusted by nobody or needs no
    // key any more: the first is no walk, the second only has leftovers.
    let has_key = seen.iter().any(|(host, state)| pair.is_kept_by(plan, host) && is_file(state, &next.key_path()));
    if !has_key && position.furthest() == Step::TrustOld {
        return Ok(None);
    }
    Ok(Some(position))
}

/// Reads where a CA stands whose certificates are given (`authorities::Given`). `None`: none follows
/// it, so there is no walk.
///
/// # Errors
/// A given certificate cannot be read.
pub fn position_of_given(
    plan: &Plan,
    facts: &BTreeMap<HostName, Facts>,
    pair: ClusterPair,
    given: &Given,
) -> Result<Option<Position>, TrustProblem> {
    let read = |pair: ClusterPair| {
        let items = given.get(&pair).map(|text| items(pair, text)).transpose();
        items.map_err(|problem| TrustProblem::Given { pair, problem })
    };
    let (Some(old), Some(new)) = (read(pair)?, pair.next().map(read).transpose()?.flatten().and_then(|items| items.into_iter().next())) else {
        return Ok(None);
    };
    let state_of = |host: &Host| {
        let text = facts.get(&host.name)?.state.text(&pair.public_path())?;
        // What cannot be read is written anew.
        let found = items(pair, text).ok()?;
        let place = found.iter().position(|item| item.identity == new.identity);
        Some((host.name.clone(), step_of(place, found.len())))
    };
    let hosts = plan.hosts.iter().filter(|host| pair.is_on(plan, host)).filter_map(state_of).collect();
    Ok(Some(Position { hosts, old, new }))
}

/// The state of a file from the place of the new one in it.
fn step_of(place: Option<usize>, length: usize) -> Step {
    match place {
        None => Step::TrustOld,
        Some(0) if length == 1 => Step::TrustNew,
        Some(0) => Step::SignNew,
        Some(_) => Step::TrustBoth,
    }
}

/// Whether there is a file at that path.
#[must_use]
pub fn is_file(state: &State, path: &RemotePath) -> bool {
    state.files.get(path).is_some_and(|file| matches!(file.kind, FoundKind::File { .. }))
}

/// Which pairs a run moves, and where to. Pairs move together: the ones that are furthest behind
/// first. Those that are in no walk begin one only while none of the others has left state 0, so a
/// walk that was cut off at its very end does not begin again.
#[must_use]
pub fn forward(positions: &BTreeMap<ClusterPair, Option<Position>>) -> Aims {
    let walking = || positions.iter().filter_map(|(pair, position)| Some((*pair, position.as_ref()?)));
    let Some(slowest) = walking().map(|(_, position)| position.slowest()).min() else {
        return positions.keys().map(|pair| (*pair, Aim { step: Step::TrustOld, retire: false })).collect();
    };
    let unbegun: Vec<ClusterPair> =
        positions.iter().filter(|(_, position)| position.is_none()).map(|(pair, _)| *pair).collect();
    if slowest == Step::TrustOld && !unbegun.is_empty() && walking().all(|(_, position)| position.furthest() == Step::TrustOld) {
        return unbegun.into_iter().map(|pair| (pair, Aim { step: Step::TrustOld, retire: false })).collect();
    }
    let aim = match slowest.next() {
        Some(step) => Aim { step, retire: false },
        None => Aim { step: Step::TrustNew, retire: true },
    };
    walking().filter(|(_, position)| position.slowest() == slowest).map(|(pair, _)| (pair, aim)).collect()
}

/// Where pairs are brought when the walk turns back by one state.
///
/// # Errors
/// The pairs for which it is too late: a host trusts only the new one.
pub fn back(positions: &BTreeMap<ClusterPair, Option<Position>>) -> Result<Aims, Vec<ClusterPair>> {
    let walking = || positions.iter().filter_map(|(pair, position)| Some((*pair, position.as_ref()?)));
    let late: Vec<ClusterPair> =
        walking().filter(|(_, position)| position.furthest() == Step::TrustNew).map(|(pair, _)| pair).collect();
    if !late.is_empty() {
        return Err(late);
    }
    let Some(furthest) = walking().map(|(_, position)| position.furthest()).max() else { return Ok(Aims::new()) };
    let aim = match furthest {
        Step::TrustOld => Aim { step: Step::TrustOld, retire: true },
        Step::TrustBoth => Aim { step: Step::TrustOld, retire: false },
        Step::SignNew | Step::TrustNew => Aim { step: Step::TrustBoth, retire: false },
    };
    Ok(walking().filter(|(_, position)| position.furthest() == furthest).map(|(pair, _)| (pair, aim)).collect())
}

/// A pair's walk as a run over the hosts has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    /// Where the run brings it.
    pub aim: Aim,
    /// What the public file then holds; the first one signs.
    pub trusted: Vec<Item>,
}

impl Walk {
    /// Whether these are the certificates that are trusted, in whatever order.
    #[must_use]
    pub fn trusts_exactly(&self, found: &[Certificate]) -> bool {
        let wanted: BTreeSet<Digest> = self.trusted.iter().map(|item| item.identity).collect();
        found.iter().map(Certificate::fingerprint).collect::<BTreeSet<_>>() == wanted
    }
}

/// Which files the components sign with: their usual ones, but for a cluster in a walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningFiles {
    /// The controller manager's CA certificate. It takes exactly one certificate, so while `ca.crt`
    /// holds two it is a file of its own.
    pub certificate: RemotePath,
    /// Its key.
    pub key: RemotePath,
    /// The key for service-account tokens.
    pub service_account_key: RemotePath,
}

impl Default for SigningFiles {
    fn default() -> Self {
        let cluster = ClusterPair::Authority(Authority::Kubernetes);
        Self {
            certificate: cluster.public_path(),
            key: cluster.key_path(),
            service_account_key: ClusterPair::ServiceAccount.key_path(),
        }
    }
}

/// What the walks of a cluster ask of its hosts besides the pairs themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Which files sign.
    pub signing: SigningFiles,
    /// Files that shall go from the keepers when all else is done, in this order.
    pub retired: Vec<RemotePath>,
}

impl Wishes {
    /// What these walks ask for.
    pub fn of<'a>(walks: impl Iterator<Item = (ClusterPair, &'a Walk)>) -> Self {
        let mut wishes = Self::default();
        for (pair, walk) in walks {
            let Some(next) = pair.next() else { continue };
            let cluster = pair == ClusterPair::Authority(Authority::Kubernetes);
            match walk.aim.step {
                Step::TrustBoth if cluster => wishes.signing.certificate = signing_certificate(),
                Step::SignNew if cluster => {
                    wishes.signing.certificate = next.public_path();
                    wishes.signing.key = next.key_path();
                }
                Step::SignNew if pair == ClusterPair::ServiceAccount => wishes.signing.service_account_key = next.key_path(),
                _ => {}
            }
            if walk.aim.retire {
                if cluster {
                    wishes.retired.push(signing_certificate());
                }
                // The certificate goes last: it tells that the key may still be there.
                wishes.retired.extend([next.key_path(), next.public_path()]);
            }
        }
        wishes
    }
}

/// The old CA's certificate alone, for the controller manager, while `ca.crt` holds both.
#[must_use]
pub fn signing_certificate() -> RemotePath {
    RemotePath::fixed("/etc/kubernetes/pki/ca-signing.crt")
}

#[cfg(test)]
mod tests;
