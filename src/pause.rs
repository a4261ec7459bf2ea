//! An API server talks only to the etcd member beside it, so requests stall while that member
//! restarts. In a living cluster with other API servers it is therefore stopped first: it finishes
//! what it has, refuses what is new, and the load balancer gives that to the others. It comes back
//! when the member is healthy. Pure.
//!
//! A run that dies in between leaves the API server's manifest missing, which the next run's
//! diff sees and mends like any other missing file.

use std::collections::BTreeMap;

use crate::artifact::Artifact;
use crate::change::{Change, Reason};
use crate::facts::State;
use crate::paths;
use crate::phase::Phase;

/// Adds the pause to a host's changes if its etcd member restarts while its API server runs.
/// `wanted` is what phase `control-plane` wants of the host. Returns whether it did.
pub fn around_etcd(changes: &mut BTreeMap<Phase, Vec<Change>>, wanted: &[Artifact], state: &State) -> bool {
    let api_server = paths::api_server_manifest();
    let is_at = |artifact: &Artifact, wanted| matches!(artifact, Artifact::File { path, .. } if path == wanted);
    let etcd = paths::etcd_manifest();
    let replaced = |change: &Change| is_at(&change.artifact, &etcd) && matches!(change.reason, Reason::Content { .. });
    if !changes.get(&Phase::Etcd).is_some_and(|changes| changes.iter().any(replaced)) || !state.files.contains_key(&api_server) {
        return false;
    }
    let Some(manifest) = wanted.iter().find(|artifact| is_at(artifact, &api_server)) else { return false };
    let stop = Change { artifact: Artifact::Absent { path: api_server.clone() }, reason: Reason::Paused, before: None };
    changes.entry(Phase::Etcd).or_default().insert(0, stop);
    let control_plane = changes.entry(Phase::ControlPlane).or_default();
    if !control_plane.iter().any(|change| is_at(&change.artifact, &api_server)) {
        control_plane.insert(0, Change { artifact: manifest.clone(), reason: Reason::Resumed, before: None });
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::Content;
    use crate::facts::{FoundFile, FoundKind};
    use crate::names::{Mode, RemotePath};

    fn file(path: RemotePath) -> Artifact {
        Artifact::File { path, mode: Mode(0o600), content: Content::plain("x") }
    }

    fn host_with_api_server() -> State {
        let found = FoundFile { mode: Mode(0o600), owner: 0, group: 0, kind: FoundKind::File { digest: None, content: None } };
        State { files: BTreeMap::from([(paths::api_server_manifest(), found)]), ..State::default() }
    }

    fn etcd_change(reason: Reason) -> BTreeMap<Phase, Vec<Change>> {
        BTreeMap::from([(Phase::Etcd, vec![Change { artifact: file(paths::etcd_manifest()), reason, before: None }])])
    }

    #[test]
    fn the_api_server_stops_before_its_member_restarts_and_starts_after() {
        let mut changes = etcd_change(Reason::Content { found: None, drift: false });
        assert!(around_etcd(&mut changes, &[file(paths::api_server_manifest())], &host_with_api_server()));
        let etcd: Vec<&Reason> = changes[&Phase::Etcd].iter().map(|change| &change.reason).collect();
        assert_eq!(etcd, [&Reason::Paused, &Reason::Content { found: None, drift: false }]);
        assert_eq!(changes[&Phase::ControlPlane][0].reason, Reason::Resumed);
    }

    #[test]
    fn nothing_pauses_where_no_member_restarts_or_no_api_server_runs() {
        let wanted = [file(paths::api_server_manifest())];
        let mut new_member = etcd_change(Reason::Missing);
        assert!(!around_etcd(&mut new_member, &wanted, &host_with_api_server()));
        let mut alone = etcd_change(Reason::Content { found: None, drift: false });
        assert!(!around_etcd(&mut alone, &wanted, &State::default()));
        assert_eq!(alone[&Phase::Etcd].len(), 1);
    }
}
