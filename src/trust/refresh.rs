//! Every byte of keys and certificates that every host shall have: what is kept, what is copied and
//! what is made now. Not pure, because it draws keys; what it draws is decided by `decide`.
//!
//! Everything is in memory before the first host is touched, so no step waits for what another
//! step made. What a reviewer reads of it (`Content::review`) is the same in every run over the
//! same hosts and plan, although the keys are not.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::authorities::AuthoritySurvey;
use super::decide::{self, Decision, Reason, Requested};
use super::issue::{self, Key};
use super::problem::TrustProblem;
use super::rotation::Wishes;
use super::specification::{Authority, ClusterPair, Leaf, external_etcd_place};
use crate::artifact::{Content, Secret};
use crate::facts::Facts;
use crate::names::{HostName, KubernetesVersion, Mode, RemotePath};
use crate::parallel;
use crate::phase::Phase;
use crate::plan::Plan;

pub mod credentials;
mod leaf_files;
mod pairs;

pub use credentials::ClientCredentials;
use pairs::ReadyPair;

const PUBLIC: Mode = Mode(0o644);
const PRIVATE: Mode = Mode(0o600);

/// What planning material needs to know.
#[derive(Clone, Copy)]
pub struct TrustInputs<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The Kubernetes version whose certificates are wanted.
    pub version: KubernetesVersion,
    /// What was seen; hosts that are not in it get nothing.
    pub facts: &'a BTreeMap<HostName, Facts>,
    /// Which CAs there are.
    pub survey: &'a AuthoritySurvey,
    /// The keys that `authorities::needed_keys` asked for.
    pub keys: &'a BTreeMap<ClusterPair, Secret>,
    /// The user's files, if the plan names external etcd.
    pub external_etcd: Option<&'a ExternalEtcdFiles>,
    /// Leaves to be made anew although they are good.
    pub requested: &'a Requested,
    /// The time.
    pub now: Timestamp,
}

/// The user's files for an etcd that somebody else runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalEtcdFiles {
    /// The CA of the members, PEM.
    pub ca: String,
    /// The API servers' client certificate, PEM.
    pub certificate: String,
    /// Its key, PEM.
    pub key: Secret,
}

/// All keys and certificates of a cluster.
#[derive(Debug, Clone)]
pub struct Material {
    /// What each host shall have.
    pub hosts: BTreeMap<HostName, HostMaterial>,
    /// What is made in this run, for people.
    pub events: Vec<Issued>,
    /// How the engine itself speaks to API servers.
    pub api: ClientCredentials,
    /// How the engine itself speaks to etcd.
    pub etcd: ClientCredentials,
    /// What the walks of pairs that are being replaced ask for besides.
    pub wishes: Wishes,
}

/// What one host shall have. The order matters: a run that is cut off between two files must leave
/// a CA's key without its certificate rather than the reverse, so keys come first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostMaterial {
    /// Files. CA keys and sa.key are among them only when they are to be written; the probe does
    /// not see their content, so units must not count them as inputs (their public parts do).
    pub files: Vec<TrustFile>,
    /// Links, to be made after the files.
    pub links: Vec<TrustLink>,
}

/// A file with a key, a certificate or both.
#[derive(Debug, Clone, PartialEq)]
pub struct TrustFile {
    /// Where.
    pub path: RemotePath,
    /// Permission bits.
    pub mode: Mode,
    /// What it holds.
    pub content: Content,
    /// `Authority` or `Certificates`.
    pub phase: Phase,
}

/// The link to a kubelet's certificate. It is wanted only in the run that makes the certificate;
/// later it is the kubelet's to move.
#[derive(Debug, Clone, PartialEq)]
pub struct TrustLink {
    /// Where.
    pub path: RemotePath,
    /// Where it points.
    pub target: RemotePath,
    /// That of the certificate's file.
    pub phase: Phase,
}

/// Something that is made in this run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// For which host; `None` for what the cluster shares.
    pub host: Option<HostName>,
    /// `apiserver`, `admin.conf`, `CA kubernetes`, …
    pub name: String,
    /// Why.
    pub reason: Reason,
    /// Whether there is a new key (else only a kubeconfig was written anew).
    pub new_key: bool,
}

/// Plans everything each host shall have, and makes what is missing.
///
/// # Errors
/// Every reason found for which something that is needed cannot be made.
pub fn plan_material(inputs: TrustInputs<'_>) -> Result<Material, Vec<TrustProblem>> {
    let TrustInputs { plan, version, facts, survey, requested, now, .. } = inputs;
    let decisions = decide::decide_all(plan, version, facts, survey, requested, now);
    let mut keys = draw_keys(inputs, &decisions)?.into_iter();

    let mut hosts: BTreeMap<HostName, HostMaterial> = plan
        .hosts
        .iter()
        .filter(|host| facts.contains_key(&host.name))
        .map(|host| (host.name.clone(), HostMaterial::default()))
        .collect();
    let mut events = Vec::new();
    let pairs = pairs::prepare(inputs, &decisions, &mut keys, &mut events)?;
    for host in &plan.hosts {
        if let Some(material) = hosts.get_mut(&host.name) {
            material.files.extend(pairs::files(inputs, &pairs, host));
        }
    }

    let mut ready = Vec::new();
    let mut problems = Vec::new();
    // Each leaf that is signed anew has a key of its own by now, so all of them can be signed at once.
    let leaves: Vec<(Leaf, Decision, Option<Key>)> = decisions
        .into_iter()
        .map(|(leaf, decision)| {
            let key = if matches!(decision, Decision::Issue(_)) { keys.next() } else { None };
            (leaf, decision, key)
        })
        .collect();
    let all = parallel::map(&leaves, |(leaf, decision, key)| {
        let authority = &pairs[&ClusterPair::Authority(leaf.authority)];
        let settled = leaf_files::settle(inputs, leaf.clone(), decision.clone(), authority, key.as_ref())?;
        let (mut material, mut events) = (HostMaterial::default(), Vec::new());
        leaf_files::add(&mut material, &mut events, &settled, authority, &facts[&leaf.host].state);
        Ok((settled, material, events))
    });
    for leaf in all {
        match leaf {
            Ok(leaf) => ready.push(leaf),
            Err(problem) => problems.push(problem),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut settled = Vec::with_capacity(ready.len());
    for (leaf, of_leaf, reasons) in ready {
        let material = hosts.entry(leaf.leaf.host.clone()).or_default();
        material.files.extend(of_leaf.files);
        material.links.extend(of_leaf.links);
        events.extend(reasons);
        settled.push(leaf);
    }
    if let Some(files) = external_etcd(inputs)? {
        for host in plan.control_planes() {
            if let Some(material) = hosts.get_mut(&host.name) {
                material.files.extend(files.iter().cloned());
            }
        }
    }
    let api = credentials::for_api(&pairs, &settled, now).map_err(|problem| vec![problem])?;
    let etcd = credentials::for_etcd(inputs, &pairs, &settled).map_err(|problem| vec![problem])?;
    Ok(Material { hosts, events, api, etcd, wishes: survey.wishes() })
}

/// Plans a whole new cluster's material without having seen any host: for `render`.
///
/// # Errors
/// As for `plan_material`.
pub fn fresh_material(
    plan: &Plan,
    external_etcd: Option<&ExternalEtcdFiles>,
    now: Timestamp,
) -> Result<Material, Vec<TrustProblem>> {
    let facts = plan.hosts.iter().map(|host| (host.name.clone(), Facts::default())).collect();
    plan_material(TrustInputs {
        plan,
        version: plan.kubernetes.version,
        facts: &facts,
        survey: &AuthoritySurvey::fresh(plan),
        keys: &BTreeMap::new(),
        external_etcd,
        requested: &Requested::NONE,
        now,
    })
}

/// Draws all keys of this run at once, so that every processor works.
fn draw_keys(inputs: TrustInputs<'_>, decisions: &[(Leaf, Decision)]) -> Result<Vec<Key>, Vec<TrustProblem>> {
    let new_pairs = inputs.survey.pairs.keys().filter(|pair| inputs.survey.found(**pair).is_none()).count();
    let new_leaves = decisions.iter().filter(|(_, decision)| matches!(decision, Decision::Issue(_))).count();
    issue::generate_keys(inputs.plan.pki.algorithm, new_pairs + new_leaves)
        .map_err(|problem| vec![TrustProblem::Issue { what: "keys".to_owned(), problem }])
}

/// The user's files for external etcd, as every control plane gets them.
fn external_etcd(inputs: TrustInputs<'_>) -> Result<Option<Vec<TrustFile>>, Vec<TrustProblem>> {
    if inputs.plan.etcd.external.is_none() {
        return Ok(None);
    }
    let files = inputs.external_etcd.ok_or_else(|| vec![TrustProblem::NoExternalEtcd])?;
    let place = external_etcd_place();
    let key = Content::secret(files.key.clone(), "the key of the plan's client certificate for etcd");
    Ok(Some(vec![
        TrustFile { path: place.ca, mode: PUBLIC, content: Content::plain(&files.ca), phase: Phase::Certificates },
        TrustFile { path: place.key, mode: PRIVATE, content: key, phase: Phase::Certificates },
        TrustFile {
            path: place.certificate,
            mode: PUBLIC,
            content: Content::plain(&files.certificate),
            phase: Phase::Certificates,
        },
    ]))
}

/// The CA that signs leaves of that authority.
fn pair_of(pairs: &BTreeMap<ClusterPair, ReadyPair>, authority: Authority) -> Option<&ReadyPair> {
    pairs.get(&ClusterPair::Authority(authority))
}

#[cfg(test)]
mod tests;
