//! May this host be restarted? The questions before a living cluster's member or API server is
//! touched. The judgement is pure: from what every member answered to a verdict.
//!
//! The scheduler never lets two members be changed at once; this is about a member that was down
//! before the run began, so that changing a second one would stop the whole cluster.

use std::collections::BTreeMap;

use super::etcd::Member;
use crate::names::HostName;
use crate::plan::Host;
use crate::standing::peer_url;

/// Whether a host may be disrupted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The others carry on without it.
    Safe,
    /// They would not. The text says what was seen.
    Unsafe(String),
    /// Nothing works that could be lost: what is done to the host may be the repair. It must stay
    /// so for a while before it is believed, because an election looks the same.
    NothingToLose(String),
}

/// What was seen of one etcd member that has a vote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voter {
    /// The host it is on, or what is known of a member on no host of the plan.
    pub name: String,
    /// Whether it is healthy, or what it said instead.
    pub health: Result<(), String>,
    /// Whether it knows a leader, so there is a quorum, healthy or not.
    pub knows_leader: bool,
}

/// Who has a vote: of the hosts of the plan those that etcd's own list has, `host` in any case (a member
/// that is about to join counts already: the others must be enough for the larger membership), and members
/// on no host of the plan, whom nobody can ask.
#[must_use]
pub fn electorate(host: &HostName, answers: Vec<(&Host, Voter)>, members: &[Member]) -> Vec<Voter> {
    let is_on = |member: &Member, host: &Host| {
        member.name == host.name.as_str() || member.peer_urls.iter().any(|url| *url == peer_url(host))
    };
    let stranger = |member: &&Member| !member.learner && !answers.iter().any(|(host, _)| is_on(member, host));
    let strangers: Vec<Voter> = members
        .iter()
        .filter(stranger)
        .map(|member| Voter {
            name: format!("member {} ({})", member.id, if member.name.is_empty() { "never started" } else { &member.name }),
            health: Err("not on a host of the plan".into()),
            knows_leader: false,
        })
        .collect();
    let votes = |other: &Host| other.name == *host || members.iter().any(|member| !member.learner && is_on(member, other));
    answers.into_iter().filter(|(other, _)| votes(other)).map(|(_, voter)| voter).chain(strangers).collect()
}

/// Whether etcd keeps its quorum without that host's member.
///
/// With one or two members every restart interrupts etcd, so there it is enough that the others are
/// healthy and it is back at once afterwards.
#[must_use]
pub fn etcd_without(host: &HostName, voters: &[Voter]) -> Verdict {
    let quorum = voters.len() / 2 + 1;
    let others: Vec<&Voter> = voters.iter().filter(|voter| voter.name != host.as_str()).collect();
    let healthy = others.iter().filter(|voter| voter.health.is_ok()).count();
    let needed = quorum.min(others.len());
    if healthy >= needed {
        return Verdict::Safe;
    }
    let down: Vec<String> = others
        .iter()
        .filter_map(|voter| voter.health.as_ref().err().map(|reason| format!("{}: {reason}", voter.name)))
        .collect();
    let alive = voters.iter().any(|voter| voter.health.is_ok() || voter.knows_leader);
    let text = format!("{healthy} healthy of {} other voting members, {needed} needed ({})", others.len(), down.join("; "));
    if alive { Verdict::Unsafe(text) } else { Verdict::NothingToLose(text) }
}

/// Whether another API server is ready while that host's is not.
#[must_use]
pub fn api_servers_without(host: &HostName, ready: &BTreeMap<HostName, Result<(), String>>) -> Verdict {
    let others = || ready.iter().filter(|(name, _)| *name != host);
    if others().next().is_none() || others().any(|(_, answer)| answer.is_ok()) {
        return Verdict::Safe;
    }
    let down: Vec<String> =
        others().filter_map(|(name, answer)| answer.as_ref().err().map(|reason| format!("{name}: {reason}"))).collect();
    let text = format!("no other API server is ready ({})", down.join("; "));
    if ready.get(host).is_some_and(Result::is_ok) { Verdict::Unsafe(text) } else { Verdict::NothingToLose(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> HostName {
        name.parse().unwrap()
    }

    /// `+` healthy, `~` unhealthy with a leader, `-` down; the member `cp-1` comes first.
    fn judge(marks: &str) -> &'static str {
        let voters: Vec<Voter> = marks
            .chars()
            .enumerate()
            .map(|(index, mark)| Voter {
                name: format!("cp-{}", index + 1),
                health: if mark == '+' { Ok(()) } else { Err("down".into()) },
                knows_leader: mark != '-',
            })
            .collect();
        match etcd_without(&host("cp-1"), &voters) {
            Verdict::Safe => "safe",
            Verdict::Unsafe(_) => "unsafe",
            Verdict::NothingToLose(_) => "nothing to lose",
        }
    }

    #[test]
    fn a_member_is_restarted_only_when_the_others_keep_the_quorum() {
        for (marks, verdict) in [
            ("+", "safe"),
            ("++", "safe"),
            ("+-", "unsafe"),
            ("+++", "safe"),
            ("-++", "safe"),
            ("++-", "unsafe"),
            ("+~+", "unsafe"),
            ("~~~", "unsafe"),
            ("---", "nothing to lose"),
            ("++++", "safe"),
            ("+++-", "unsafe"),
            ("++++-", "safe"),
            ("+++--", "unsafe"),
        ] {
            assert_eq!(judge(marks), verdict, "{marks}");
        }
    }

    #[test]
    fn the_reason_names_who_is_down() {
        let voter = |name: &str, health| Voter { name: name.into(), health, knows_leader: true };
        let voters = [voter("a", Ok(())), voter("b", Err("connection refused".into())), voter("c", Ok(()))];
        let Verdict::Unsafe(text) = etcd_without(&host("a"), &voters) else { panic!("it is unsafe") };
        assert_eq!(text, "1 healthy of 2 other voting members, 2 needed (b: connection refused)");
    }

    #[test]
    fn one_other_api_server_is_enough() {
        let judge = |marks: &str| {
            let answers = marks.chars().enumerate().map(|(index, mark)| {
                (host(&format!("cp-{}", index + 1)), if mark == '+' { Ok(()) } else { Err("refused".to_owned()) })
            });
            api_servers_without(&host("cp-1"), &answers.collect())
        };
        assert_eq!(judge("+"), Verdict::Safe);
        assert_eq!(judge("+-+"), Verdict::Safe);
        assert_eq!(judge("-+"), Verdict::Safe);
        assert!(matches!(judge("+--"), Verdict::Unsafe(text) if text == "no other API server is ready (cp-2: refused; cp-3: refused)"));
        assert!(matches!(judge("--"), Verdict::NothingToLose(_)));
    }
}
