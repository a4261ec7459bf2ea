//! Phases `authority` and `certificates`: what `trust` decided, as artifacts.

use crate::artifact::Artifact;
use crate::names::Mode;
use crate::phase::Phase;
use crate::trust::refresh::TrustFile;
use crate::{paths, trust::refresh::TrustContent};

/// What the phase wants on a host.
#[must_use]
pub fn artifacts(phase: Phase, files: &[TrustFile]) -> Vec<Artifact> {
    let files: Vec<&TrustFile> = files.iter().filter(|file| file.phase == phase).collect();
    if files.is_empty() {
        return Vec::new();
    }
    let mut artifacts = vec![
        Artifact::Directory { path: paths::kubernetes_directory(), mode: Mode(0o755) },
        Artifact::Directory { path: paths::pki_directory(), mode: Mode(0o755) },
    ];
    for file in files {
        artifacts.push(match &file.content {
            TrustContent::File(content) => Artifact::File { path: file.path.clone(), mode: file.mode, content: content.clone() },
            TrustContent::Link(target) => Artifact::Link { path: file.path.clone(), target: target.clone() },
        });
    }
    artifacts
}
