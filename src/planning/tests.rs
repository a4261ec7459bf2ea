//! What happens between two looks: two runs that begin at once, and a member that starts meanwhile.

use std::net::SocketAddr;
use std::sync::Mutex;

use super::*;
use crate::artifact::{Artifact, Secret};
use crate::change::Change;
use crate::cluster::ClusterError;
use crate::cluster::etcd::{Member, MemberId};
use crate::facts::{FoundFile, FoundKind};
use crate::graph::Gate;
use crate::names::{Mode, RemotePath};
use crate::transport::{ApplyError, ProbeRequest, Stream, Work};

type Locks = Arc<Mutex<BTreeMap<HostName, &'static str>>>;

/// As often as in a real run, without its patience.
const CONTEST: (usize, Duration) = (30, Duration::from_millis(1));

/// One run's way to the hosts. It reaches each after a number of turns of its own.
#[derive(Default)]
struct Hosts {
    run: &'static str,
    locks: Locks,
    turns: BTreeMap<HostName, usize>,
    facts: BTreeMap<HostName, Facts>,
}

impl Transport for Hosts {
    async fn probe(&self, host: &HostName, _: &ProbeRequest) -> Result<Facts, TransportError> {
        for _ in 0..self.turns.get(host).copied().unwrap_or_default() {
            tokio::task::yield_now().await;
        }
        let mut locks = self.locks.lock().unwrap();
        let holder = *locks.entry(host.clone()).or_insert(self.run);
        let facts = || self.facts.get(host).cloned().unwrap_or_default();
        if holder == self.run { Ok(facts()) } else { Err(TransportError::Locked { host: host.clone(), holder: holder.into() }) }
    }

    async fn close(&self) {
        self.locks.lock().unwrap().retain(|_, holder| *holder != self.run);
    }

    async fn fetch(&self, _: &HostName, _: &[RemotePath]) -> Result<BTreeMap<RemotePath, Secret>, TransportError> {
        unreachable!("a lock needs no files")
    }

    async fn apply(&self, _: &HostName, _: Work<'_>, _: impl Fn(usize) + Send + Sync) -> Result<(), ApplyError> {
        unreachable!("nothing is planned")
    }

    async fn connect(&self, _: &HostName, _: SocketAddr) -> Result<Box<dyn Stream>, TransportError> {
        unreachable!("nothing is planned")
    }

    async fn diagnose(&self, _: &HostName, _: &str) -> Result<String, TransportError> {
        unreachable!("nothing is planned")
    }

    fn round_trips(&self, _: &HostName) -> usize {
        0
    }
}

#[tokio::test]
async fn of_two_runs_that_begin_at_once_exactly_one_goes_on() {
    let plan = crate::graph::tests::plan(3, 0, 1);
    // Every way in which the four locks may fall to the two.
    for pattern in 0..16_u8 {
        let locks = Locks::default();
        let hosts = |run, other: bool| {
            let turns = |(index, host): (usize, &Host)| (host.name.clone(), usize::from((pattern >> index & 1 == 1) != other) * 10);
            Hosts { run, locks: Arc::clone(&locks), turns: plan.hosts.iter().enumerate().map(turns).collect(), ..Hosts::default() }
        };
        let runs = [hosts("one", false), hosts("two", true)];
        let run = |hosts: Hosts| {
            let plan = &plan;
            async move {
                let result = contend(plan, &hosts, &request::probe(plan, Some(hosts.run.into())), CONTEST).await;
                if result.is_err() {
                    hosts.close().await;
                }
                result.map(|(facts, absent)| (facts.len(), absent.len())).map_err(|failure| failure.kind)
            }
        };
        let [one, two] = runs.map(run);
        let (one, two) = tokio::join!(one, two);
        let first_is_ones = pattern & 1 == 0;
        let (winner, loser) = if first_is_ones { (one, two) } else { (two, one) };
        assert_eq!((winner, loser), (Ok((4, 0)), Err(Kind::Refused)), "{pattern:04b}");
    }
}

#[tokio::test]
async fn a_run_that_goes_on_elsewhere_is_not_waited_for_for_ever() {
    let plan = crate::graph::tests::plan(3, 0, 1);
    let locks = Locks::default();
    locks.lock().unwrap().insert("cp-2".parse().unwrap(), "another");
    let hosts = Hosts { run: "one", locks, ..Hosts::default() };
    let refused = contend(&plan, &hosts, &request::probe(&plan, Some("one".into())), CONTEST).await.unwrap_err();
    assert_eq!(refused.message.as_deref(), Some("host cp-2 is locked by another run: another"));
}

/// An etcd that knows these members.
struct Members(Vec<Member>);

impl Cluster for Members {
    async fn changes(&self, _: Vec<Artifact>) -> Result<Vec<Option<Change>>, ClusterError> {
        unreachable!("only members are asked for")
    }

    async fn members(&self) -> Result<Vec<Member>, ClusterError> {
        Ok(self.0.clone())
    }

    async fn closed(&self, _: &[Gate]) -> BTreeSet<Gate> {
        unreachable!("only members are asked for")
    }

    async fn apply(&self, _: &Change) -> Result<(), ClusterError> {
        unreachable!("nothing is changed")
    }

    async fn wait(&self, _: &Gate, _: Duration) -> Result<(), ClusterError> {
        unreachable!("nothing is waited for")
    }
}

/// How a host stands: with or without etcd's data, part of a cluster that was formed.
fn stands(etcd_data: bool) -> Facts {
    let mut facts = Facts::default();
    let kind = FoundKind::File { digest: None, content: None };
    let found = FoundFile { mode: Mode(0o600), owner: 0, group: 0, kind };
    facts.state.files.insert(RemotePath::fixed(crate::desired::formed::FORMED_FILE), found);
    facts.state.etcd_data = etcd_data;
    facts
}

#[tokio::test]
async fn a_host_is_looked_at_again_before_its_data_is_believed_gone() {
    let plan = crate::graph::tests::plan(3, 0, 0);
    let names: Vec<HostName> = plan.hosts.iter().map(|host| host.name.clone()).collect();
    let member = |(index, host): (usize, &Host)| Member {
        id: MemberId(index as u64 + 1),
        name: host.name.to_string(),
        peer_urls: vec![standing::peer_url(host)],
        learner: index == 1,
        ..Member::default()
    };
    let etcd = Members(plan.hosts.iter().enumerate().map(member).collect());
    // The second one, a learner, had no data when it was looked at first.
    let first: BTreeMap<HostName, Facts> = names.iter().enumerate().map(|(index, name)| (name.clone(), stands(index != 1))).collect();
    for (data_now, gone) in [(true, vec![]), (false, vec![names[1].clone()])] {
        let now = names.iter().map(|name| (name.clone(), stands(data_now))).collect();
        let hosts = Hosts { facts: now, ..Hosts::default() };
        let mut facts = first.clone();
        let standing = standing::survey(&plan, &facts).unwrap();
        let standing = with_members(standing, &plan, &mut facts, &hosts, (Some(etcd.members().await), &[]), &[], &mut Vec::new()).await.unwrap();
        assert_eq!(standing.data_gone().into_iter().collect::<Vec<_>>(), gone, "it has data now: {data_now}");
        assert!(standing.joins[&names[1]].vote.is_some());
    }
}
