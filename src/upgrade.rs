//! Whether a living cluster may go to the plan's Kubernetes version. Pure: a function of the plan
//! and of what the probes saw.
//!
//! The rules are Kubernetes' version skew policy and those of `kubeadm upgrade`: one minor version
//! at a time, never back, and API servers that are at most one minor apart. A cluster that an
//! interrupted upgrade left between two versions may only go on to the newer one.

pub mod concerns;
pub mod fallback;
pub mod findings;
pub mod order;
pub mod snapshot;
pub mod turns;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::facts::Facts;
use crate::names::{HostName, KubernetesVersion, RemotePath};
use crate::phase::Stage;
use crate::plan::Plan;
use crate::release::Release;
use crate::standing::API_SERVER_MANIFEST;
use crate::yaml;

/// Why a cluster may not go to the plan's version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpgradeRefusal {
    /// The plan is older than an API server.
    #[error("host {host} runs an API server of {running}, and the plan says {wanted}: Kubernetes cannot go back to an older version")]
    Downgrade {
        /// The host with the newest API server.
        host: HostName,
        /// Its version.
        running: KubernetesVersion,
        /// The plan's.
        wanted: KubernetesVersion,
    },
    /// More than one minor version at once.
    #[error("host {host} runs an API server of {running}, and the plan says {wanted}: Kubernetes goes one minor version at a time")]
    TooFar {
        /// The host with the oldest API server.
        host: HostName,
        /// Its version.
        running: KubernetesVersion,
        /// The plan's.
        wanted: KubernetesVersion,
    },
}

impl UpgradeRefusal {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Downgrade { running, .. } => {
                format!("set `kubernetes.version` to {running} or a later patch release of v{}.{}", running.major, running.minor)
            }
            Self::TooFar { running, wanted, .. } => {
                let between = running.minor + 1..wanted.minor;
                let is_known = |minor| Release::of(KubernetesVersion { minor, patch: 0, ..*wanted }).is_ok();
                if let Some(unknown) = between.clone().find(|&minor| !is_known(minor)) {
                    return format!("slipway does not know v{}.{unknown}, which lies between: the way there needs another tool, or a new cluster", wanted.major);
                }
                let hops: Vec<String> = between
                    .map(|minor| format!("the latest v{}.{minor}", wanted.major))
                    .chain([wanted.to_string()])
                    .collect();
                format!("set `kubernetes.version` to one after the other and apply each: {}", hops.join(", then "))
            }
        }
    }
}

/// Compares the plan's version with the API servers that the hosts' manifests run.
///
/// Hosts without an API server, and images whose tag is no version (the user's own), say nothing.
///
/// # Errors
/// All reasons to refuse.
pub fn check(plan: &Plan, facts: &BTreeMap<HostName, Facts>, stage: Stage) -> Result<(), Vec<UpgradeRefusal>> {
    if stage == Stage::Fresh {
        return Ok(());
    }
    let wanted = plan.kubernetes.version;
    let running = facts.iter().filter_map(|(host, facts)| Some((api_server(facts)?, host)));
    let running: Vec<(KubernetesVersion, &HostName)> = running.collect();
    let mut refusals = Vec::new();
    if let Some(&(newest, host)) = running.iter().max()
        && newest > wanted
    {
        refusals.push(UpgradeRefusal::Downgrade { host: host.clone(), running: newest, wanted });
    }
    if let Some(&(oldest, host)) = running.iter().min()
        && (wanted.major, wanted.minor) > (oldest.major, oldest.minor + 1)
    {
        refusals.push(UpgradeRefusal::TooFar { host: host.clone(), running: oldest, wanted });
    }
    if refusals.is_empty() { Ok(()) } else { Err(refusals) }
}

/// The version of the API server that a host's manifest runs, by its image's tag.
pub(crate) fn api_server(facts: &Facts) -> Option<KubernetesVersion> {
    let manifest: Value = yaml::read(facts.state.text(&RemotePath::fixed(API_SERVER_MANIFEST))?).ok()?;
    let image = manifest.pointer("/spec/containers/0/image")?.as_str()?;
    let image = image.split('@').next().unwrap_or(image);
    let (_, tag) = image.rsplit_once(':')?;
    tag.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::Secret;
    use crate::facts::{FoundFile, FoundKind};
    use crate::names::{Digest, Mode};

    fn refusals(running: &[&str], wanted: &str, stage: Stage) -> Vec<String> {
        let text = format!(
            "version: 1\nkubernetes: {{version: {wanted}}}\nendpoint: {{localProxy: {{}}}}\nhosts:\n  - {{name: a, address: 192.0.2.1, roles: [control-plane]}}\n"
        );
        let plan: Plan = yaml::read(&text).unwrap();
        let mut facts = BTreeMap::new();
        for (index, image) in running.iter().enumerate() {
            let manifest = format!("{{spec: {{containers: [{{image: '{image}'}}]}}}}");
            let kind = FoundKind::File { digest: Some(Digest::of(&manifest)), content: Some(Secret::new(manifest)) };
            let file = FoundFile { mode: Mode(0o600), owner: 0, group: 0, kind };
            let mut host = Facts::default();
            host.state.files.insert(RemotePath::fixed(API_SERVER_MANIFEST), file);
            facts.insert(format!("host-{index}").parse().unwrap(), host);
        }
        let refusals = check(&plan, &facts, stage).err().unwrap_or_default();
        refusals.iter().map(|refusal| format!("{refusal}\n{}", refusal.hint())).collect()
    }

    #[test]
    fn one_minor_or_a_later_patch_is_allowed() {
        for (running, wanted) in [
            (&["r/kube-apiserver:v1.33.4"][..], "v1.33.4"),
            (&["r/kube-apiserver:v1.33.4"], "v1.33.9"),
            (&["r/kube-apiserver:v1.33.4"], "v1.34.0"),
            // Left between two versions by a run that was cut off.
            (&["r/kube-apiserver:v1.34.1", "r/kube-apiserver:v1.33.4"], "v1.34.1"),
            (&["host:5000/kube-apiserver:v1.33.4@sha256:00"], "v1.34.0"),
            // Nobody can tell.
            (&["r/kube-apiserver@sha256:00"], "v1.36.0"),
            (&["r/kube-apiserver:custom"], "v1.31.0"),
            (&[], "v1.31.0"),
        ] {
            assert_eq!(refusals(running, wanted, Stage::Living), [""; 0], "{running:?} to {wanted}");
        }
    }

    #[test]
    fn back_and_too_far_are_refused() {
        insta::assert_snapshot!(refusals(&["r/kube-apiserver:v1.33.4"], "v1.33.3", Stage::Living).join("\n"), @"
        host host-0 runs an API server of v1.33.4, and the plan says v1.33.3: Kubernetes cannot go back to an older version
        set `kubernetes.version` to v1.33.4 or a later patch release of v1.33
        ");
        insta::assert_snapshot!(refusals(&["r/kube-apiserver:v1.32.4", "r/kube-apiserver:v1.31.0"], "v1.34.2", Stage::Living).join("\n"), @"
        host host-1 runs an API server of v1.31.0, and the plan says v1.34.2: Kubernetes goes one minor version at a time
        set `kubernetes.version` to one after the other and apply each: the latest v1.32, then the latest v1.33, then v1.34.2
        ");
        insta::assert_snapshot!(refusals(&["r/kube-apiserver:v1.20.15"], "v1.31.0", Stage::Living).join("\n"), @"
        host host-0 runs an API server of v1.20.15, and the plan says v1.31.0: Kubernetes goes one minor version at a time
        slipway does not know v1.22, which lies between: the way there needs another tool, or a new cluster
        ");
        assert_eq!(refusals(&["r/kube-apiserver:v1.34.1", "r/kube-apiserver:v1.32.4"], "v1.33.0", Stage::Living).len(), 1);
        assert_eq!(refusals(&["r/kube-apiserver:v1.33.4"], "v1.31.0", Stage::Fresh), [""; 0], "nothing lives yet");
    }
}
