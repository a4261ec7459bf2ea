//! Keep, rewrite or issue: what happens to each leaf certificate, and why. Pure: the clock is an
//! argument, so tests travel in time. What is valid is kept, whoever made it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::authorities::AuthoritySurvey;
use super::inspect::{self, Certificate};
use super::kubeconfig::{self, Credentials};
use super::rotation::Walk;
use super::specification::{self, KubeconfigPlace, Leaf, Storage, Subject, SubjectName, Usage};
use crate::artifact::Secret;
use crate::facts::{Facts, FoundKind, State};
use crate::names::{HostName, KubernetesVersion, RemotePath, Span};
use crate::phase::Stage;
use crate::plan::Plan;

/// What happens to a leaf certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It stays as it is.
    Keep(FoundLeaf),
    /// The kubeconfig is written anew around the same certificate and key.
    Rewrite(FoundLeaf, Reason),
    /// A new key and certificate are made.
    Issue(Reason),
    /// A certificate that somebody else signed is brought in with its key.
    Bring(FoundLeaf, Reason),
}

/// A certificate and key that were found and are good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundLeaf {
    /// What the certificate says.
    pub certificate: Certificate,
    /// The certificate's PEM as it was found, perhaps with intermediate certificates.
    pub certificate_pem: Vec<u8>,
    /// The key's PEM as it was found.
    pub key: Secret,
}

/// Why a certificate is made, or a kubeconfig written, anew. The text is the same in every run over
/// the same hosts and plan, whenever that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It is not there.
    Missing,
    /// It cannot be read.
    Unreadable(String),
    /// The key beside it is that of another certificate.
    KeyMismatch,
    /// This cluster's CA did not sign it.
    WrongIssuer {
        /// Who says to have signed it.
        found: String,
    },
    /// Its CA is being replaced, and this is not the one that signs now.
    AuthorityReplaced,
    /// Its time is over.
    Expired {
        /// Since when.
        at: Timestamp,
    },
    /// Its time has not come.
    NotYetValid {
        /// When it will.
        from: Timestamp,
    },
    /// Its time is nearly over (`pki.renewBefore`).
    ExpiresSoon {
        /// When it will be.
        at: Timestamp,
    },
    /// It names somebody else.
    SubjectDiffers {
        /// Whom.
        found: Subject,
    },
    /// It may not be used for what it is used for.
    UsageDiffers {
        /// What for.
        missing: Vec<Usage>,
    },
    /// It does not cover all names and addresses.
    NamesDiffer {
        /// Those it does not.
        missing: Vec<SubjectName>,
    },
    /// The kubeconfig leads to another server.
    ServerDiffers {
        /// Which.
        found: String,
    },
    /// The kubeconfig trusts another CA.
    AuthorityDiffers,
    /// The kubeconfig does not refer to the kubelet's certificate.
    CredentialsDiffer,
    /// It is good, and somebody asked for a new one.
    Requested,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("missing"),
            Self::Unreadable(why) => write!(f, "unreadable: {why}"),
            Self::KeyMismatch => f.write_str("the key does not belong to the certificate"),
            Self::WrongIssuer { found } => write!(f, "not signed by this cluster's CA but by `{found}`"),
            Self::AuthorityReplaced => f.write_str("its CA is being replaced"),
            Self::Expired { at } => write!(f, "expired at {at}"),
            Self::NotYetValid { from } => write!(f, "not valid before {from}"),
            Self::ExpiresSoon { at } => write!(f, "expires at {at}"),
            Self::SubjectDiffers { found } => write!(f, "names `{found}`"),
            Self::UsageDiffers { missing } => write!(f, "not usable as {}", listed(missing)),
            Self::NamesDiffer { missing } => write!(f, "does not cover {}", listed(missing)),
            Self::ServerDiffers { found } => write!(f, "leads to {found}"),
            Self::AuthorityDiffers => f.write_str("trusts another CA"),
            Self::CredentialsDiffer => f.write_str("does not use the kubelet's certificate"),
            Self::Requested => f.write_str("asked for"),
        }
    }
}

fn listed(items: &[impl fmt::Display]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Leaves that are made anew although nothing is wrong with them, because somebody asked for it, and
/// those that somebody else signed and an operator brings in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requested {
    anew: BTreeSet<(HostName, &'static str)>,
    brought: BTreeMap<(HostName, &'static str), FoundLeaf>,
}

impl Requested {
    /// None.
    pub const NONE: Self = Self { anew: BTreeSet::new(), brought: BTreeMap::new() };

    /// These leaves.
    pub fn of<'a>(leaves: impl IntoIterator<Item = &'a Leaf>) -> Self {
        Self { anew: leaves.into_iter().map(|leaf| (leaf.host.clone(), leaf.name)).collect(), ..Self::NONE }
    }

    /// These leaves, judged and signed (see `import`).
    pub fn brought(leaves: impl IntoIterator<Item = (Leaf, FoundLeaf)>) -> Self {
        Self { brought: leaves.into_iter().map(|(leaf, found)| ((leaf.host, leaf.name), found)).collect(), ..Self::NONE }
    }

    /// Whether that leaf is one of them.
    #[must_use]
    pub fn includes(&self, leaf: &Leaf) -> bool {
        self.anew.contains(&(leaf.host.clone(), leaf.name))
    }

    /// What is decided about a leaf, in view of what is asked for.
    fn settle(&self, leaf: &Leaf, decision: Decision) -> Decision {
        let brought = self.brought.get(&(leaf.host.clone(), leaf.name));
        match (decision, brought) {
            (Decision::Keep(found), Some(brought)) if found.certificate == brought.certificate => Decision::Keep(found),
            (Decision::Rewrite(found, reason), Some(brought)) if found.certificate == brought.certificate => Decision::Rewrite(found, reason),
            (Decision::Issue(reason), Some(brought)) => Decision::Bring(brought.clone(), reason),
            (_, Some(brought)) => Decision::Bring(brought.clone(), Reason::Requested),
            (Decision::Keep(_) | Decision::Rewrite(..), None) if self.includes(leaf) => Decision::Issue(Reason::Requested),
            (decided, None) => decided,
        }
    }
}

/// Decides about every leaf of every host that was probed.
#[must_use]
pub fn decide_all(
    plan: &Plan,
    version: KubernetesVersion,
    facts: &BTreeMap<HostName, Facts>,
    survey: &AuthoritySurvey,
    requested: &Requested,
    now: Timestamp,
) -> Vec<(Leaf, Decision)> {
    let decide = |leaf: Leaf| {
        let state = &facts.get(&leaf.host)?.state;
        if leaf.once && survey.stage == Stage::Living && !is_there(&leaf, state) {
            return None;
        }
        let decision = decide(&leaf, state, survey.certificate(leaf.authority), plan.pki.renew_before, now);
        let decision = match survey.walk(leaf.authority) {
            Some(walk) => while_replaced(&leaf, state, walk, decision),
            None => decision,
        };
        let decision = requested.settle(&leaf, decision);
        Some((leaf, decision))
    };
    specification::leaves(plan, version).into_iter().filter_map(decide).collect()
}

/// Whether the file of the certificate is there, whatever it holds.
fn is_there(leaf: &Leaf, state: &State) -> bool {
    state.files.contains_key(match &leaf.storage {
        Storage::FilePair { certificate, .. } => certificate,
        Storage::Kubeconfig(place) => &place.path,
        Storage::KubeletClient { current, .. } => current,
    })
}

/// Decides about one leaf. `authority` is `None` if its CA is yet to be made.
#[must_use]
pub fn decide(
    leaf: &Leaf,
    state: &State,
    authority: Option<&Certificate>,
    renew_before: Span,
    now: Timestamp,
) -> Decision {
    let found = match find(leaf, state) {
        Ok(found) => found,
        Err(reason) => return Decision::Issue(reason),
    };
    // The kubelet renews its certificate by itself, at a moment of its own choice.
    let renew_before = if leaf.self_renewing { Span::seconds(0) } else { renew_before };
    let problem = unfit(leaf, &found, authority, now).or_else(|| expires_soon(&found.certificate, renew_before, now));
    if let Some(reason) = problem {
        return Decision::Issue(reason);
    }
    match (&leaf.storage, authority) {
        (Storage::Kubeconfig(place), Some(authority)) => match kubeconfig_differs(place, state, authority, None) {
            Some(reason) => Decision::Rewrite(found, reason),
            None => Decision::Keep(found),
        },
        _ => Decision::Keep(found),
    }
}

/// Reads certificate and key from where the leaf is stored.
fn find(leaf: &Leaf, state: &State) -> Result<FoundLeaf, Reason> {
    let content = |path: &RemotePath| state.content(path).map(<[u8]>::to_vec).ok_or(Reason::Missing);
    let (certificate_pem, key) = match &leaf.storage {
        Storage::FilePair { certificate, key } => (content(certificate)?, content(key)?),
        Storage::Kubeconfig(place) => {
            let text = String::from_utf8(content(&place.path)?).map_err(|_| unreadable("it is not text"))?;
            match kubeconfig::read(&text).map_err(unreadable)?.credentials {
                Credentials::Embedded { certificate, key } => (certificate, key.expose().to_vec()),
                _ => return Err(unreadable("it embeds no certificate")),
            }
        }
        Storage::KubeletClient { current, .. } => {
            let both = content(&target(state, current))?;
            (both.clone(), both)
        }
    };
    let key = Secret::new(key);
    let certificate = inspect::certificate(&certificate_pem).map_err(unreadable)?;
    if inspect::public_half(&key).map_err(unreadable)? != certificate.public_key {
        return Err(Reason::KeyMismatch);
    }
    Ok(FoundLeaf { certificate, certificate_pem, key })
}

fn unreadable(why: impl ToString) -> Reason {
    Reason::Unreadable(why.to_string())
}

/// The path a link leads to, if it is one. The kubelet writes absolute targets.
#[must_use]
pub fn target(state: &State, path: &RemotePath) -> RemotePath {
    match state.files.get(path).map(|file| &file.kind) {
        Some(FoundKind::Link(target)) => {
            let absolute = target.parse().or_else(|_| path.parent().join(target));
            absolute.unwrap_or_else(|_| path.clone())
        }
        _ => path.clone(),
    }
}

/// What makes a certificate useless now.
fn unfit(leaf: &Leaf, found: &FoundLeaf, authority: Option<&Certificate>, now: Timestamp) -> Option<Reason> {
    let certificate = &found.certificate;
    if !authority.is_some_and(|authority| certificate.is_signed_by(authority)) {
        return Some(Reason::WrongIssuer { found: certificate.issuer.clone() });
    }
    if now > certificate.not_after {
        return Some(Reason::Expired { at: certificate.not_after });
    }
    if now < certificate.not_before {
        return Some(Reason::NotYetValid { from: certificate.not_before });
    }
    if certificate.subject != leaf.subject {
        return Some(Reason::SubjectDiffers { found: certificate.subject.clone() });
    }
    let missing: Vec<Usage> = leaf.usages.difference(&certificate.usages).copied().collect();
    if !missing.is_empty() || !certificate.may_sign {
        let missing = if missing.is_empty() { leaf.usages.iter().copied().collect() } else { missing };
        return Some(Reason::UsageDiffers { missing });
    }
    // More names than wanted are kept: kubeadm's own configuration may have asked for them.
    let names: BTreeSet<&SubjectName> = certificate.names.iter().collect();
    let missing: Vec<SubjectName> = leaf.names.iter().filter(|name| !names.contains(name)).cloned().collect();
    (!missing.is_empty()).then_some(Reason::NamesDiffer { missing })
}

fn expires_soon(certificate: &Certificate, renew_before: Span, now: Timestamp) -> Option<Reason> {
    let remaining = certificate.not_after.duration_since(now);
    let renew_before = SignedDuration::try_from(renew_before.0).unwrap_or(SignedDuration::MAX);
    (remaining < renew_before).then_some(Reason::ExpiresSoon { at: certificate.not_after })
}

/// While a CA is being replaced, kubeconfigs trust exactly those that the state of the walk says.
fn while_replaced(leaf: &Leaf, state: &State, walk: &Walk, decision: Decision) -> Decision {
    match (decision, &leaf.storage) {
        (Decision::Issue(Reason::WrongIssuer { .. }), _) => Decision::Issue(Reason::AuthorityReplaced),
        (Decision::Keep(found), Storage::Kubeconfig(place)) if trust_differs(place, state, walk) => {
            Decision::Rewrite(found, Reason::AuthorityDiffers)
        }
        (decision, _) => decision,
    }
}

/// Whether a kubeconfig trusts others than the walk of its CA says, or not all of them.
#[must_use]
pub fn trust_differs(place: &KubeconfigPlace, state: &State, walk: &Walk) -> bool {
    let trusted = state.text(&place.path).and_then(|text| kubeconfig::read(text).ok()?.authority);
    !trusted.and_then(|bytes| inspect::certificates(&bytes).ok()).is_some_and(|found| walk.trusts_exactly(&found))
}

/// Why the kubelet's kubeconfig must be written, if it must.
#[must_use]
pub fn kubelet_kubeconfig(
    place: &KubeconfigPlace,
    credentials: &RemotePath,
    state: &State,
    authority: Option<&Certificate>,
) -> Option<Reason> {
    match authority {
        Some(authority) => kubeconfig_differs(place, state, authority, Some(credentials)),
        None => Some(Reason::Missing),
    }
}

fn kubeconfig_differs(
    place: &KubeconfigPlace,
    state: &State,
    authority: &Certificate,
    credentials: Option<&RemotePath>,
) -> Option<Reason> {
    let Some(text) = state.text(&place.path) else { return Some(Reason::Missing) };
    let found = match kubeconfig::read(text) {
        Ok(found) => found,
        Err(error) => return Some(unreadable(error)),
    };
    let trusted = found.authority.and_then(|bytes| inspect::certificates(&bytes).ok()).unwrap_or_default();
    if found.server != place.server {
        Some(Reason::ServerDiffers { found: found.server })
    } else if !trusted.contains(authority) {
        Some(Reason::AuthorityDiffers)
    } else if credentials.is_some_and(|path| found.credentials != Credentials::File(path.clone())) {
        Some(Reason::CredentialsDiffer)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
