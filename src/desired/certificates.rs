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
    // The first of the two phases that has something here makes the directories.
    let has = |phase| {
        material.files.iter().any(|file| file.phase == phase) || material.links.iter().any(|link| link.phase == phase)
    };
    let mut artifacts = Vec::new();
    if has(phase) && (phase == Phase::Authority || !has(Phase::Authority)) {
        artifacts.extend(
            [paths::kubernetes_directory(), paths::pki_directory()]
                .map(|path| Artifact::Directory { path, mode: Mode(0o755) }),
        );
    }
    artifacts.extend(files.map(|file| Artifact::File {
        path: file.path.clone(),
        mode: file.mode,
        content: file.content.clone(),
    }));
    artifacts.extend(links.map(|link| Artifact::Link { path: link.path.clone(), target: link.target.to_string() }));
    artifacts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::Content;
    use crate::trust::refresh::TrustFile;

    fn file(path: &str, phase: Phase) -> TrustFile {
        TrustFile { path: path.parse().unwrap(), mode: Mode(0o644), content: Content::plain("x"), phase }
    }

    /// The ids of what both phases want, in order.
    fn wanted(files: Vec<TrustFile>) -> Vec<String> {
        let material = HostMaterial { files, links: Vec::new() };
        let phases = [Phase::Authority, Phase::Certificates];
        phases.into_iter().flat_map(|phase| artifacts(phase, &material)).map(|artifact| artifact.id()).collect()
    }

    #[test]
    fn each_directory_is_made_once_and_first() {
        let (ca, leaf) = ("/etc/kubernetes/pki/ca.crt", "/etc/kubernetes/pki/apiserver.crt");
        let directories = ["/etc/kubernetes", "/etc/kubernetes/pki"];
        let both = wanted(vec![file(ca, Phase::Authority), file(leaf, Phase::Certificates)]);
        assert_eq!(both, [directories[0], directories[1], ca, leaf]);
        assert_eq!(wanted(vec![file(leaf, Phase::Certificates)]), [directories[0], directories[1], leaf]);
        assert!(wanted(Vec::new()).is_empty());
    }
}
