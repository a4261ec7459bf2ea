//! CA pairs and the service-account pair: made, fetched or only seen, and the files of them.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Issued, PRIVATE, PUBLIC, TrustFile, TrustInputs};
use crate::artifact::{Content, Secret};
use crate::names::Digest;
use crate::phase::Phase;
use crate::plan::Host;
use crate::trust::decide::{Decision, Reason};
use crate::trust::inspect::{self, Certificate};
use crate::trust::issue::{self, IssueError, Key, Signer, Validity};
use crate::trust::problem::TrustProblem;
use crate::trust::rotation::{self, Step, Walk};
use crate::trust::specification::{Authority, ClusterPair, Leaf};

/// A pair as far as this run needs it.
pub struct ReadyPair {
    /// The file with the certificate(s) or public key.
    pub text: String,
    /// The certificate that signs; `None` for the service-account pair.
    pub certificate: Option<Certificate>,
    /// Whether it is made in this run.
    pub is_new: bool,
    /// The key's file, if it was made or fetched.
    key: Option<Secret>,
    /// The CA, ready to sign, if its key was made or fetched.
    pub signer: Option<Signer>,
    /// Where it is on its way, if it is being replaced.
    pub walk: Option<Walk>,
}

impl ReadyPair {
    /// Whether the new key takes the place of the old one in this run.
    fn replaces_key(&self) -> bool {
        self.walk.as_ref().is_some_and(|walk| walk.aim.step == Step::TrustNew)
    }

    /// What a reviewer is shown of the public file.
    pub fn public_content(&self, pair: ClusterPair) -> Content {
        if self.is_new {
            Content::reviewed(self.text.clone(), format!("new {pair}\n"))
        } else {
            Content::plain(self.text.clone())
        }
    }
}

/// Makes the pairs that are to be made, and readies those whose keys were fetched.
pub fn prepare(
    inputs: TrustInputs<'_>,
    decisions: &[(Leaf, Decision)],
    keys: &mut impl Iterator<Item = Key>,
    events: &mut Vec<Issued>,
) -> Result<BTreeMap<ClusterPair, ReadyPair>, Vec<TrustProblem>> {
    let mut pairs = BTreeMap::new();
    let mut problems = Vec::new();
    for pair in inputs.survey.pairs.keys().copied() {
        let must_sign = decisions.iter().any(|(leaf, decision)| {
            ClusterPair::Authority(leaf.authority) == pair && matches!(decision, Decision::Issue(_))
        });
        let ready = if inputs.survey.found(pair).is_some() {
            ready(inputs, pair, must_sign)
        } else {
            events.push(Issued { host: None, name: pair.to_string(), reason: Reason::Missing, new_key: true });
            make(inputs, pair, &keys.next().expect("a key was drawn for every new pair"))
        };
        match ready {
            Ok(ready) => _ = pairs.insert(pair, ready),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(pairs) } else { Err(problems) }
}

fn make(inputs: TrustInputs<'_>, pair: ClusterPair, key: &Key) -> Result<ReadyPair, TrustProblem> {
    let failed = |problem| TrustProblem::Issue { what: pair.to_string(), problem };
    let Some(authority) = pair.authority() else {
        let key_file = Some(key.private.clone());
        return Ok(ReadyPair { text: key.public_pem(), certificate: None, is_new: true, key: key_file, signer: None, walk: None });
    };
    let validity = Validity { now: inputs.now, length: inputs.plan.pki.ca_validity.0 };
    let text = issue::certify_authority(authority, inputs.version, key, validity).map_err(failed)?;
    let certificate =
        inspect::certificate(text.as_bytes()).map_err(|error| failed(IssueError::Encode(error.to_string())))?;
    let signer = Signer::load(&certificate, &key.private, inputs.now).map_err(failed)?;
    let certificate = Some(certificate);
    Ok(ReadyPair { text, certificate, is_new: true, key: Some(key.private.clone()), signer: Some(signer), walk: None })
}

fn ready(inputs: TrustInputs<'_>, pair: ClusterPair, must_sign: bool) -> Result<ReadyPair, TrustProblem> {
    let found = inputs.survey.found(pair).expect("the caller saw it");
    let key = inputs.keys.get(&pair);
    let mut ready = ReadyPair {
        text: found.text.clone(),
        certificate: found.certificate.clone(),
        is_new: false,
        key: key.cloned(),
        signer: None,
        walk: found.walk.clone(),
    };
    let Some(key) = key else {
        let needed = must_sign || !found.incomplete.is_empty();
        return if needed { Err(TrustProblem::NotFetched(pair)) } else { Ok(ready) };
    };
    let expected = match &found.certificate {
        Some(certificate) => Ok(certificate.public_key.clone()),
        None => inspect::public_key(found.text.as_bytes()),
    };
    if inspect::public_half(key) != expected {
        return Err(TrustProblem::KeyMismatch { pair });
    }
    if must_sign && let (ClusterPair::Authority(authority), Some(certificate)) = (pair, &found.certificate) {
        ready.signer = Some(
            Signer::load(certificate, key, inputs.now)
                .map_err(|problem| sign_problem(authority, problem, inputs.now))?,
        );
    }
    Ok(ready)
}

fn sign_problem(authority: Authority, problem: IssueError, now: Timestamp) -> TrustProblem {
    match problem {
        IssueError::AuthorityExpired { not_after, .. } if now > not_after => {
            TrustProblem::Expired { authority, at: not_after }
        }
        problem => TrustProblem::Issue { what: authority.to_string(), problem },
    }
}

/// The files of all pairs on that host: both halves on keepers, the certificate where it is
/// only trusted.
pub fn files(inputs: TrustInputs<'_>, pairs: &BTreeMap<ClusterPair, ReadyPair>, host: &Host) -> Vec<TrustFile> {
    pairs.iter().flat_map(|(pair, ready)| files_of(inputs, *pair, ready, host)).collect()
}

fn files_of(inputs: TrustInputs<'_>, pair: ClusterPair, ready: &ReadyPair, host: &Host) -> Vec<TrustFile> {
    if !pair.is_on(inputs.plan, host) {
        return Vec::new();
    }
    let keeper = pair.is_kept_by(inputs.plan, host);
    // A pair that is being replaced is read by what runs, so it changes host by host.
    let phase = if keeper && ready.walk.is_none() { Phase::Authority } else { Phase::Certificates };
    let public = TrustFile {
        path: pair.public_path(),
        mode: if pair.authority().is_none() { PRIVATE } else { PUBLIC },
        content: as_found(inputs, pair, host).unwrap_or_else(|| ready.public_content(pair)),
        phase,
    };
    let incomplete = inputs.survey.found(pair).is_none_or(|found| found.incomplete.contains(&host.name));
    // A CA whose key is not for hosts is signed with here and goes nowhere.
    let may_leave = pair.authority().is_none() || inputs.plan.pki.authority.are_on_hosts();
    let key = ready.key.as_ref().filter(|_| keeper && incomplete && may_leave).map(|key| {
        let content = if ready.is_new {
            Content::secret(key.clone(), format!("the key of the {pair}, new")).drawn()
        } else if ready.replaces_key() {
            Content::secret(key.clone(), format!("the key of the {pair}, from {}", key_source(pair)))
        } else {
            Content::secret(key.clone(), format!("the key of the {pair}, copied from another host"))
        };
        TrustFile { path: pair.key_path(), mode: PRIVATE, content, phase }
    });
    let signing = ready.walk.as_ref().filter(|walk| {
        keeper && may_leave && walk.aim.step == Step::TrustBoth && pair == ClusterPair::Authority(Authority::Kubernetes)
    });
    let signing = signing.and_then(|walk| walk.trusted.first()).map(|signer| TrustFile {
        path: rotation::signing_certificate(),
        mode: PUBLIC,
        content: Content::plain(&signer.pem),
        phase,
    });
    if ready.replaces_key() {
        // The old key goes only where the public file no longer needs it, and the file tells so.
        std::iter::once(public).chain(key).collect()
    } else {
        key.into_iter().chain(signing).chain([public]).collect()
    }
}

/// Where the key that takes the old one's place comes from.
fn key_source(pair: ClusterPair) -> String {
    pair.next().map_or_else(String::new, |next| next.key_path().to_string())
}

/// The host's own file, if it means the same: other white space or comments are no difference.
fn as_found(inputs: TrustInputs<'_>, pair: ClusterPair, host: &Host) -> Option<Content> {
    let text = inputs.facts.get(&host.name)?.state.text(&pair.public_path())?;
    let ours = &inputs.survey.found(pair)?.text;
    let identity = |text: &str| -> Option<Vec<Digest>> {
        Some(rotation::items(pair, text).ok()?.into_iter().map(|item| item.identity).collect())
    };
    (identity(text)? == identity(ours)?).then(|| Content::plain(text))
}
