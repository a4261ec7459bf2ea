//! A host's member joins etcd, through the members that are there. Both parts ask first what is
//! there, so they may be repeated after an answer was lost or a run has died between them.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::ClusterError;
use super::etcd::{Member, MemberId, MembershipApi};
use crate::names::HostName;

/// How often a learner is offered its vote.
const POLL: Duration = Duration::from_millis(500);

/// Removes the member that is replaced, and announces the new one as a learner. `peers` are the
/// peer URLs that the membership has afterwards, sorted. `voters` are members with a vote, in the order
/// they are asked.
///
/// # Errors
/// No member answers; etcd refuses (it has no quorum, or another learner); or somebody else changed
/// the membership meanwhile.
pub async fn add_learner<M: MembershipApi>(
    voters: &[(HostName, M)],
    peer_url: &str,
    replaces: Option<MemberId>,
    peers: &[String],
) -> Result<(), ClusterError> {
    let (etcd, mut members) = list(voters).await?;
    if let Some(old) = replaces
        && members.iter().any(|member| member.id == old)
    {
        etcd.remove(old).await?;
        members.retain(|member| member.id != old);
    }
    if !members.iter().any(|member| is_at(member, peer_url)) {
        members.push(etcd.add_learner(peer_url).await?);
    }
    let mut found: Vec<&str> = members.iter().flat_map(|member| &member.peer_urls).map(String::as_str).collect();
    found.sort_unstable();
    if found != peers {
        let message = format!(
            "etcd's members are not those that were expected: found {}, expected {}",
            found.join(", "),
            peers.join(", ")
        );
        let hint = Some("somebody else changed the membership; run `slipway apply` again, it starts from what etcd says then".into());
        return Err(ClusterError { hint, permanent: true, ..ClusterError::plain(message) });
    }
    Ok(())
}

/// Offers a learner its vote until it has all data, at most for that time.
///
/// # Errors
/// It is no member, never started, or did not get all data in time; the error says what was seen last.
pub async fn promote<M: MembershipApi>(voters: &[(HostName, M)], peer_url: &str, limit: Duration) -> Result<(), ClusterError> {
    let deadline = Instant::now() + limit;
    loop {
        let seen = match try_to_promote(voters, peer_url).await {
            Ok(()) => return Ok(()),
            Err(error) if error.permanent => return Err(error),
            Err(error) => error,
        };
        if Instant::now() >= deadline {
            let message = format!("waited {} s for the learner to get its vote: {}", limit.as_secs(), seen.message);
            let hint = Some("run `slipway apply` again when the cause is mended; the learner has no vote and is continued".into());
            return Err(ClusterError { hint, permanent: true, ..ClusterError::plain(message) });
        }
        sleep(POLL).await;
    }
}

async fn try_to_promote<M: MembershipApi>(voters: &[(HostName, M)], peer_url: &str) -> Result<(), ClusterError> {
    let (etcd, members) = list(voters).await?;
    let Some(member) = members.iter().find(|member| is_at(member, peer_url)) else {
        let message = format!("etcd has no member at {peer_url}: somebody removed it");
        return Err(ClusterError { permanent: true, ..ClusterError::plain(message) });
    };
    match (member.learner, member.name.is_empty()) {
        (false, _) => Ok(()),
        (true, true) => Err(ClusterError::plain("it has not started".into())),
        (true, false) => etcd.promote(member.id).await,
    }
}

/// The membership as the first member knows it that has a leader, and that member.
///
/// # Errors
/// None has; the error names each with what it said.
pub async fn list<M: MembershipApi>(voters: &[(HostName, M)]) -> Result<(&M, Vec<Member>), ClusterError> {
    let mut reasons = Vec::new();
    for (host, etcd) in voters {
        // Before etcd 3.5 a member tells its list without asking the others, old as it may be.
        let answer = match etcd.status().await {
            Ok(status) if status.leader == MemberId::default() => Err(ClusterError::plain("it has no leader".into())),
            Ok(status) if status.is_learner => Err(ClusterError::plain("it only learns".into())),
            Ok(_) => etcd.members().await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(members) => return Ok((etcd, members)),
            Err(error) => reasons.push(format!("{host}: {error}")),
        }
    }
    Err(ClusterError::plain(format!("no member of etcd tells who its members are ({})", reasons.join("; "))))
}

fn is_at(member: &Member, peer_url: &str) -> bool {
    member.peer_urls.iter().any(|url| url == peer_url)
}
