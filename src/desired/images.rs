//! Phase `images`: archives of the operator's machine loaded into the runtime, and images pulled
//! ahead, so that nothing waits for a registry while components start.

use super::LocalFiles;
use crate::artifact::Artifact;
use crate::plan::{Host, Plan};

/// What this phase wants on a host. `needed` are the images this host's own components use.
#[must_use]
pub fn artifacts(plan: &Plan, host: &Host, local: &LocalFiles, needed: &[String]) -> Vec<Artifact> {
    let mut artifacts = Vec::new();
    let mut loaded = Vec::new();
    for archive in &plan.images.archives {
        let meant = archive.roles.is_empty() || archive.roles.intersection(&host.roles).next().is_some();
        if let Some(content) = local.archives.get(&archive.file).filter(|_| meant) {
            loaded.extend(content.names.iter().cloned());
            artifacts.push(Artifact::Image {
                names: content.names.clone(),
                archive: archive.file.clone(),
                digest: content.digest,
            });
        }
    }
    if plan.images.pull {
        let missing = needed.iter().filter(|name| !loaded.contains(name));
        artifacts.extend(missing.map(|name| Artifact::Pulled { name: name.clone() }));
    }
    artifacts
}
