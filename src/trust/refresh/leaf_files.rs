//! A leaf certificate's files: kept as found, or signed now and described for review.

use std::fmt::Write as _;

use super::pairs::ReadyPair;
use super::{HostMaterial, Issued, PRIVATE, PUBLIC, TrustFile, TrustInputs, TrustLink};
use crate::artifact::{Content, Secret};
use crate::facts::State;
use crate::names::{Mode, RemotePath, Span};
use crate::phase::{On, Phase};
use crate::plan::Plan;
use crate::trust::decide::{self, Decision, FoundLeaf, Reason};
use crate::trust::inspect;
use crate::trust::issue::{Key, Validity};
use crate::trust::kubeconfig::{self, Credentials};
use crate::trust::problem::TrustProblem;
use crate::trust::specification::{ClusterPair, KubeconfigPlace, Leaf, Storage};

/// A leaf whose certificate and key are at hand.
pub struct SettledLeaf {
    /// What it is.
    pub leaf: Leaf,
    /// The certificate's PEM.
    pub certificate: Vec<u8>,
    /// The key's PEM.
    pub key: Secret,
    /// What happened to it.
    change: Change,
    /// For reviews of a new one: how long it lives.
    validity: Span,
    /// When its files are written.
    phase: Phase,
}

enum Change {
    None,
    Rewritten(Reason),
    Brought(Reason),
    Issued(Reason),
}

/// Signs what is to be signed.
pub fn settle(
    inputs: TrustInputs<'_>,
    leaf: Leaf,
    decision: Decision,
    authority: &ReadyPair,
    key: Option<&Key>,
) -> Result<SettledLeaf, TrustProblem> {
    let validity = inputs.plan.pki.validity;
    let phase = phase(inputs.plan, &leaf, &decision);
    let found = |leaf: Leaf, found: FoundLeaf, change: Change| SettledLeaf {
        leaf,
        certificate: found.certificate_pem,
        key: found.key,
        change,
        validity,
        phase,
    };
    match decision {
        Decision::Keep(kept) => Ok(found(leaf, kept, Change::None)),
        Decision::Rewrite(kept, reason) => Ok(found(leaf, kept, Change::Rewritten(reason))),
        Decision::Bring(brought, reason) => Ok(found(leaf, brought, Change::Brought(reason))),
        Decision::Issue(reason) => {
            let key = key.expect("a key was drawn for every leaf to be issued");
            let signer =
                authority.signer.as_ref().ok_or(TrustProblem::NotFetched(ClusterPair::Authority(leaf.authority)))?;
            let certificate = signer
                .sign(&leaf, key, Validity { now: inputs.now, length: validity.0 })
                .map_err(|problem| TrustProblem::Issue { what: format!("{} on {}", leaf.name, leaf.host), problem })?;
            let change = Change::Issued(reason);
            Ok(SettledLeaf { leaf, certificate: certificate.into_bytes(), key: key.private.clone(), change, validity, phase })
        }
    }
}

/// When the leaf's files are written: on the hosts that carry the cluster, those of an expired one
/// before anything restarts, and everywhere.
///
/// What has expired serves nobody, so its successor disturbs nobody; and where the certificates of
/// etcd's members have expired, no member comes back before others have new ones too. (etcd reads
/// its files again with every connection since v3.2, API servers reload theirs since v1.17.)
fn phase(plan: &Plan, leaf: &Leaf, decision: &Decision) -> Phase {
    let expired = matches!(decision, Decision::Issue(Reason::Expired { .. }) | Decision::Bring(_, Reason::Expired { .. }));
    let carries = || plan.host(&leaf.host).is_some_and(|host| On::Keepers.includes(plan, host));
    if expired && carries() { Phase::Authority } else { Phase::Certificates }
}

/// Adds the leaf's files to those of its host.
pub fn add(
    material: &mut HostMaterial,
    events: &mut Vec<Issued>,
    settled: &SettledLeaf,
    authority: &ReadyPair,
    state: &State,
) {
    let leaf = &settled.leaf;
    let (reason, new_key) = match &settled.change {
        Change::None => (None, false),
        Change::Rewritten(reason) => (Some(reason), false),
        Change::Brought(reason) | Change::Issued(reason) => (Some(reason), true),
    };
    let drawn = |content: Content| if matches!(settled.change, Change::Issued(_)) { content.drawn() } else { content };
    let mut announce = |name: &str, reason: &Reason, new_key: bool| {
        events.push(Issued { host: Some(leaf.host.clone()), name: name.to_owned(), reason: reason.clone(), new_key });
    };
    if let Some(reason) = reason {
        announce(leaf.name, reason, new_key);
    }
    match &leaf.storage {
        Storage::FilePair { certificate, key } => {
            material.files.push(settled.file(key, PRIVATE, settled.key_content()));
            material.files.push(settled.file(certificate, PUBLIC, settled.certificate_content()));
        }
        Storage::Kubeconfig(place) => {
            let description = format!("kubeconfig to {}\n{}", place.server, settled.review());
            let content = match (&settled.change, state.content(&place.path)) {
                (Change::None, Some(found)) => Secret::new(found),
                _ => Secret::new(kubeconfig::write(place, &authority.text, &settled.credentials())),
            };
            let content = Content::secret(content, description);
            material.files.push(settled.file(&place.path, PRIVATE, drawn(content)));
        }
        Storage::KubeletClient { current, issued, kubeconfig } => {
            if new_key {
                let both = Secret::new([&settled.certificate, settled.key.expose()].concat());
                let content = drawn(Content::secret(both, settled.review()));
                material.files.push(settled.file(issued, PRIVATE, content));
                material.links.push(TrustLink {
                    path: current.clone(),
                    target: issued.clone(),
                    phase: settled.phase,
                });
            }
            let known = authority.certificate.as_ref().filter(|_| !authority.is_new);
            let walk = authority.walk.as_ref();
            let differs = decide::kubelet_kubeconfig(kubeconfig, current, state, known)
                .or_else(|| decide::trust_differs(kubeconfig, state, walk?).then_some(Reason::AuthorityDiffers));
            if let Some(reason) = &differs {
                announce(kubeconfig.path.file_name(), reason, false);
            }
            let found = state.text(&kubeconfig.path).filter(|_| differs.is_none());
            let content =
                found.map_or_else(|| kubelet_kubeconfig(kubeconfig, current, leaf, authority), Content::plain);
            material.files.push(settled.file(&kubeconfig.path, PRIVATE, content));
        }
    }
}

/// The kubelet's kubeconfig: no secret, because the key is in another file.
fn kubelet_kubeconfig(place: &KubeconfigPlace, current: &RemotePath, leaf: &Leaf, authority: &ReadyPair) -> Content {
    let credentials = Credentials::File(current.clone());
    let text = kubeconfig::write(place, &authority.text, &credentials);
    if authority.is_new {
        let review = kubeconfig::write_review(place, &format!("<new {}>", leaf.authority), &credentials);
        Content::reviewed(text, review)
    } else {
        Content::plain(text)
    }
}

impl SettledLeaf {
    fn file(&self, path: &RemotePath, mode: Mode, content: Content) -> TrustFile {
        TrustFile { path: path.clone(), mode, content, phase: self.phase }
    }

    fn credentials(&self) -> Credentials {
        Credentials::Embedded { certificate: self.certificate.clone(), key: self.key.clone() }
    }

    fn certificate_content(&self) -> Content {
        let text = String::from_utf8_lossy(&self.certificate).into_owned();
        match self.change {
            Change::None | Change::Rewritten(_) => Content::plain(text),
            Change::Brought(_) | Change::Issued(_) => Content::reviewed(text, self.review()),
        }
    }

    fn key_content(&self) -> Content {
        let key = self.key.clone();
        match &self.change {
            Change::None | Change::Rewritten(_) => Content::secret(key, format!("the key of {}, kept", self.leaf.name)),
            Change::Brought(reason) => Content::secret(key, format!("the key of {}, brought in ({reason})", self.leaf.name)),
            Change::Issued(reason) => {
                Content::secret(key, format!("the key of {}, new ({reason})", self.leaf.name)).drawn()
            }
        }
    }

    /// The certificate as a reviewer reads it: what was decided about it, nothing that was drawn.
    fn review(&self) -> String {
        let leaf = &self.leaf;
        let (state, reason) = match &self.change {
            Change::None => ("kept certificate", None),
            Change::Rewritten(reason) => ("kept certificate", Some(reason)),
            Change::Brought(reason) => ("certificate, signed elsewhere,", Some(reason)),
            Change::Issued(reason) => ("new certificate", Some(reason)),
        };
        let mut text = format!("{state} of {}", leaf.subject);
        if let Some(reason) = reason {
            write!(text, " ({reason})").expect("writing to a string");
        }
        text.push('\n');
        if matches!(self.change, Change::Brought(_) | Change::Issued(_)) {
            let usages: Vec<String> = leaf.usages.iter().map(ToString::to_string).collect();
            writeln!(text, "signed by {} for {}", leaf.authority, usages.join(" and ")).expect("writing to a string");
            for name in &leaf.names {
                writeln!(text, "valid as {name}").expect("writing to a string");
            }
            match (&self.change, inspect::certificate(&self.certificate)) {
                (Change::Brought(_), Ok(certificate)) => writeln!(text, "serial {}, valid until {}", certificate.serial, certificate.not_after),
                _ => writeln!(text, "valid for {}", self.validity),
            }
            .expect("writing to a string");
        }
        text
    }
}
