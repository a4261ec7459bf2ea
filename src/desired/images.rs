//! Phase `images`: archives of the operator's machine loaded into the runtime, and images pulled
//! ahead, so that nothing waits for a registry while components start.

use super::LocalFiles;
use crate::artifact::Artifact;
use crate::plan::{Endpoint, Host, Plan};
use crate::release::Images;

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

/// The images this host's own components use.
#[must_use]
pub fn needed(plan: &Plan, host: &Host, images: &Images) -> Vec<String> {
    let mut needed = vec![images.pause.clone()];
    if plan.has_etcd(host) {
        needed.push(images.etcd.clone());
    }
    if host.is_control_plane() {
        needed.extend([images.api_server.clone(), images.controller_manager.clone(), images.scheduler.clone()]);
        if let Some(Endpoint::Vip(vip)) = &plan.endpoint {
            needed.extend([vip.keepalived_image.clone(), vip.haproxy_image.clone()]);
        }
    } else if host.is_node() && let Some(Endpoint::LocalProxy { image, .. }) = &plan.endpoint {
        needed.push(image.clone());
    }
    if plan.kube_proxy.enabled && host.is_node() {
        needed.push(images.proxy.clone());
    }
    needed
}
