//! A host joins an etcd that lives: what its steps do besides. Pure.
//!
//! All of it is one step, `etcd`, on a host whose kubelet runs already: announced as a learner, started
//! by its manifest, given its vote. The API server comes after that, so it never meets a member
//! that refuses it. A host whose data is gone while its pods are still there first stops them: its
//! member was started with `--initial-cluster-state=new`, and without data would make a cluster of
//! its own.

use std::collections::BTreeMap;

use crate::artifact::Artifact;
use crate::artifact::membership::Membership;
use crate::change::{Change, Reason};
use crate::facts::State;
use crate::names::RemotePath;
use crate::paths;
use crate::phase::Phase;
use crate::standing::Join;

/// Adds the join to a host's changes. `wanted` are the artifacts of the phases `etcd` and
/// `control-plane` by phase.
pub fn around_etcd(
    changes: &mut BTreeMap<Phase, Vec<Change>>,
    join: &Join,
    wanted: &BTreeMap<Phase, Vec<Artifact>>,
    state: &State,
) {
    if let Some(announce) = &join.announce {
        let mut first = Vec::new();
        for (phase, path) in [(Phase::ControlPlane, paths::api_server_manifest()), (Phase::Etcd, paths::etcd_manifest())] {
            if state.files.contains_key(&path) {
                first.push(Change { artifact: Artifact::Absent { path: path.clone() }, reason: Reason::Paused, before: None });
                resume(changes.entry(phase).or_default(), wanted.get(&phase).map_or(&[][..], Vec::as_slice), &path);
            }
        }
        first.push(Change { artifact: Artifact::Membership(announce.clone()), reason: reason(announce), before: None });
        changes.entry(Phase::Etcd).or_default().splice(0..0, first);
    }
    if let Some(vote) = &join.vote {
        let change = Change { artifact: Artifact::Membership(vote.clone()), reason: reason(vote), before: None };
        changes.entry(Phase::Etcd).or_default().push(change);
    }
}

fn reason(membership: &Membership) -> Reason {
    match membership {
        Membership::Learner { replaces: Some(old), .. } => Reason::Value { found: format!("member {old}, whose data is gone") },
        Membership::Learner { .. } => Reason::Missing,
        Membership::Voter { .. } => Reason::Value { found: "withheld until the member has all data".into() },
    }
}

/// A manifest that was taken away comes back, also if nothing else about it changes.
fn resume(changes: &mut Vec<Change>, wanted: &[Artifact], at: &RemotePath) {
    let is_there = |artifact: &Artifact| matches!(artifact, Artifact::File { path, .. } if path == at);
    if changes.iter().any(|change| is_there(&change.artifact)) {
        return;
    }
    if let Some(manifest) = wanted.iter().find(|artifact| is_there(artifact)) {
        changes.push(Change { artifact: manifest.clone(), reason: Reason::Resumed, before: None });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::Content;
    use crate::cluster::etcd::MemberId;
    use crate::facts::{FoundFile, FoundKind};
    use crate::names::Mode;

    fn file(path: RemotePath) -> Artifact {
        Artifact::File { path, mode: Mode(0o600), content: Content::plain("x") }
    }

    fn join(replaces: Option<MemberId>) -> Join {
        let (host, peer_url) = ("b".parse().unwrap(), "https://192.0.2.2:2380".to_owned());
        let vote = Membership::Voter { host, peer_url };
        let (host, peer_url) = ("b".parse().unwrap(), "https://192.0.2.2:2380".to_owned());
        Join { announce: Some(Membership::Learner { host, peer_url, replaces, peers: Vec::new() }), vote: Some(vote) }
    }

    /// The changes of both phases as text; `found` are manifests on the host.
    fn around(join: &Join, differing: bool, found: &[RemotePath]) -> Vec<Vec<String>> {
        let (etcd, api_server) = (paths::etcd_manifest(), paths::api_server_manifest());
        let wanted = BTreeMap::from([(Phase::Etcd, vec![file(etcd.clone())]), (Phase::ControlPlane, vec![file(api_server.clone())])]);
        let mut changes = BTreeMap::new();
        if differing {
            for (phase, path) in [(Phase::Etcd, etcd), (Phase::ControlPlane, api_server)] {
                changes.insert(phase, vec![Change { artifact: file(path), reason: Reason::Missing, before: None }]);
            }
        }
        let there = || FoundFile { mode: Mode(0o600), owner: 0, group: 0, kind: FoundKind::File { digest: None, content: None } };
        let state = State { files: found.iter().map(|path| (path.clone(), there())).collect(), ..State::default() };
        around_etcd(&mut changes, join, &wanted, &state);
        let texts = |phase| changes.get(&phase).into_iter().flatten().map(|change| format!("{}: {}", change.artifact.id(), change.reason));
        [Phase::Etcd, Phase::ControlPlane].map(|phase| texts(phase).collect()).into()
    }

    const LEARNER: &str = "etcd learner b (https://192.0.2.2:2380)";
    const VOTE: &str = "vote of etcd member b: is withheld until the member has all data";
    const ETCD: &str = "/etc/kubernetes/manifests/etcd.yaml";
    const API_SERVER: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";

    #[test]
    fn a_member_is_announced_started_and_given_its_vote() {
        let expected = vec![
            vec![format!("{LEARNER}: missing"), format!("{ETCD}: missing"), VOTE.to_owned()],
            vec![format!("{API_SERVER}: missing")],
        ];
        assert_eq!(around(&join(None), true, &[]), expected);
        let announced = Join { announce: None, ..join(None) };
        assert_eq!(around(&announced, false, &[paths::etcd_manifest()])[0], [VOTE]);
    }

    #[test]
    fn pods_over_lost_data_stop_first_and_come_back() {
        let seen = around(&join(Some(MemberId(0xab))), false, &[paths::etcd_manifest(), paths::api_server_manifest()]);
        let stops = "stops while its etcd member restarts";
        let starts = "starts again after its etcd member";
        let etcd = [
            format!("{API_SERVER}: {stops}"),
            format!("{ETCD}: {stops}"),
            format!("{LEARNER}: is member ab, whose data is gone"),
            format!("{ETCD}: {starts}"),
            VOTE.to_owned(),
        ];
        assert_eq!(seen, [etcd.to_vec(), vec![format!("{API_SERVER}: {starts}")]]);
    }
}
