//! Phases `authority` and `certificates`: what `trust` decided, as artifacts.

use crate::artifact::Artifact;
use crate::names::Mode;
use crate::paths;
use crate::phase::Phase;
use crate::trust::refresh::HostMaterial;

/// What the phase wants on a host.
#[must_use]
pub fn artifacts(phase: Phase, material: &HostMaterial) -> Vec<Artifact> {
    let files = material.files.iter().filter(|file| file.phase == phase);
    let links = material.links.iter().filter(|link| link.phase == phase);
    let mut artifacts = vec![
        Artifact::Directory { path: paths::kubernetes_directory(), mode: Mode(0o755) },
        Artifact::Directory { path: paths::pki_directory(), mode: Mode(0o755) },
    ];
    artifacts.extend(files.map(|file| Artifact::File {
        path: file.path.clone(),
        mode: file.mode,
        content: file.content.clone(),
    }));
    artifacts.extend(links.map(|link| Artifact::Link { path: link.path.clone(), target: link.target.to_string() }));
    // A host without anything of this phase needs no directory for it.
    if artifacts.len() > 2 { artifacts } else { Vec::new() }
}
