//! A host leaves a cluster that lives on: through the hosts that stay. Both parts may be repeated,
//! and a member or Node that is gone already is as good as removed.

use futures_util::future::join_all;

use super::ClusterError;
use super::etcd::{Member, MemberId, MembershipApi, MemberStatus};
use super::live::{ask_with, failed};
use crate::names::HostName;

/// Takes the member with this peer URL out of etcd's membership. `members` are those that stay, in
/// the order they are asked.
///
/// # Errors
/// None of them answers, or etcd refuses because the others could not keep a quorum.
pub async fn remove_member<M: MembershipApi>(members: &[(HostName, M)], peer_url: &str) -> Result<(), ClusterError> {
    let mut reasons = Vec::new();
    for (host, etcd) in members {
        let list = match etcd.members().await {
            Ok(list) => list,
            Err(error) => {
                reasons.push(format!("{host}: {error}"));
                continue;
            }
        };
        let Some(member) = list.iter().find(|member| member.peer_urls.iter().any(|url| url == peer_url)) else {
            return Ok(());
        };
        if !member.learner {
            enough_stay(members, &list).await?;
        }
        match etcd.remove(member.id).await {
            Ok(()) => return Ok(()),
            Err(error) => reasons.push(format!("{host}: {error}")),
        }
    }
    Err(stays_behind(format!("cannot remove the etcd member {peer_url} ({})", reasons.join("; "))))
}

/// Whether those that stay have a quorum of their own. etcd asks itself too (`--strict-reconfig-check`), but
/// by who was started once, and a plan may turn that off.
async fn enough_stay<M: MembershipApi>(members: &[(HostName, M)], list: &[Member]) -> Result<(), ClusterError> {
    let left = list.iter().filter(|member| !member.learner).count() - 1;
    let answers = join_all(members.iter().map(|(_, etcd)| etcd.status())).await;
    let votes = |status: &MemberStatus| status.leader != MemberId::default() && !status.is_learner;
    let (healthy, needed) = (answers.into_iter().flatten().filter(votes).count(), left / 2 + 1);
    if healthy >= needed {
        return Ok(());
    }
    Err(stays_behind(format!("etcd would lose its quorum: {healthy} of the {left} members that stay know a leader, {needed} are needed")))
}

/// Deletes the Node.
///
/// # Errors
/// The API server does not answer or refuses.
pub async fn delete_node(client: &kube::Client, node: &HostName) -> Result<(), ClusterError> {
    let request = http::Request::delete(format!("/api/v1/nodes/{node}")).body(Vec::new()).expect("host names are plain");
    match ask_with(client, request).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(stays_behind(failed("delete", &format!("Node/{node}"), &error).message)),
        Ok(_) => Ok(()),
    }
}

fn stays_behind(message: String) -> ClusterError {
    ClusterError {
        hint: Some(
            "the host was not reset; mend the cluster and run the same command again (`slipway reset --force` leaves member and Node behind)"
                .into(),
        ),
        ..ClusterError::plain(message)
    }
}
