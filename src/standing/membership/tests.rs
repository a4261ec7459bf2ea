//! The table at the head of the module, row by row, and the order of several that join.

use super::*;
use crate::artifact::Secret;
use crate::desired::formed::FORMED_FILE;
use crate::facts::{FoundFile, FoundKind};
use crate::names::{Digest, Mode};
use crate::standing::survey;

/// Control planes `a`, `b`, … at 192.0.2.1, 192.0.2.2, ….
fn plan(names: &str) -> Plan {
    let mut text = "version: 1\nkubernetes: {version: v1.34.2}\nendpoint: {localProxy: {}}\nhosts:\n".to_owned();
    for (index, name) in names.chars().enumerate() {
        text.push_str(&format!("  - {{name: {name}, address: 192.0.2.{}, roles: [control-plane]}}\n", index + 1));
    }
    crate::yaml::read(&text).unwrap()
}

fn facts(data: bool, manifest: Option<&str>) -> Facts {
    let mut facts = Facts::default();
    facts.state.etcd_data = data;
    let files = [Some((FORMED_FILE, "x\n".to_owned())), manifest.map(|flags| (ETCD_MANIFEST, pod(flags)))];
    for (path, text) in files.into_iter().flatten() {
        let kind = FoundKind::File { digest: Some(Digest::of(&text)), content: Some(Secret::new(text)) };
        facts.state.files.insert(RemotePath::fixed(path), FoundFile { mode: Mode(0o600), owner: 0, group: 0, kind });
    }
    facts
}

fn pod(flags: &str) -> String {
    format!("{{kind: Pod, spec: {{containers: [{{command: [etcd, {flags}]}}]}}}}")
}

const STARTED: &str = "'--initial-cluster=a=https://192.0.2.1:2380', '--initial-cluster-state=new'";

/// `a+` has data and a manifest, `a-` has neither, `a~` has a manifest alone.
fn hosts(marks: &[&str]) -> BTreeMap<HostName, Facts> {
    let one = |mark: &&str| {
        let (name, mark) = mark.split_at(1);
        (name.parse().unwrap(), facts(mark == "+", (mark != "-").then_some(STARTED)))
    };
    marks.iter().map(one).collect()
}

/// `a` is a member with a vote, `a?` a learner, `a!` a voter and `a!?` a learner that never started; each
/// has its letter's place in the alphabet as the last number of its address and as its id.
fn members(marks: &[&str]) -> Vec<Member> {
    let one = |mark: &&str| {
        let number = u64::from(mark.as_bytes()[0] - b'a' + 1);
        Member {
            id: MemberId(number),
            name: if mark.contains('!') { String::new() } else { mark[..1].to_owned() },
            peer_urls: vec![format!("https://192.0.2.{number}:2380")],
            client_urls: Vec::new(),
            learner: mark.contains('?'),
        }
    };
    marks.iter().map(one).collect()
}

fn stand(names: &str, found: &[&str], list: &[&str], chosen: &[&str]) -> Result<Standing, Vec<Refusal>> {
    let (plan, facts, members) = (plan(names), hosts(found), members(list));
    let chosen: Vec<HostName> = chosen.iter().map(|name| name.parse().unwrap()).collect();
    survey(&plan, &facts)?.with_members(&plan, &facts, Ok(&members), &chosen)
}

/// What a join does, as `replaces … | announced with … | vote`.
fn text(join: &Join) -> String {
    let mut parts = Vec::new();
    if let Some(Membership::Learner { replaces, peers, .. }) = &join.announce {
        parts.extend(replaces.map(|old| format!("replaces {old}")));
        let last = |url: &String| url.trim_start_matches("https://192.0.2.").trim_end_matches(":2380").to_owned();
        parts.push(format!("announced with {}", peers.iter().map(last).collect::<Vec<_>>().join(" ")));
    }
    parts.extend(join.vote.as_ref().map(|_| "vote".to_owned()));
    parts.join(", ")
}

fn joins(standing: &Standing) -> Vec<String> {
    standing.joins.iter().map(|(host, join)| format!("{host}: {}", text(join))).collect()
}

fn started_with(standing: &Standing, host: &str) -> String {
    let initial = &standing.etcd[&host.parse::<HostName>().unwrap()];
    format!("{} {}", initial.members.replace("https://192.0.2.", "").replace(":2380", ""), initial.state.unwrap_or("-"))
}

#[test]
fn what_is_left_to_do_follows_from_data_and_list() {
    for (found, list, expected) in [
        ("b+", &["a", "b"][..], &[][..]),
        ("b+", &["a", "b?"], &["b: vote"]),
        ("b-", &["a"], &["b: announced with 1 2, vote"]),
        ("b-", &["a", "b!?"], &["b: vote"]),
        ("b-", &["a", "b!"], &["b: "]),
        ("b-", &["a", "b"], &["b: replaces 2, announced with 1 2, vote"]),
        ("b~", &["a", "b?"], &["b: replaces 2, announced with 1 2, vote"]),
        ("b~", &["a"], &["b: announced with 1 2, vote"]),
    ] {
        let standing = stand("ab", &["a+", found], list, &[]).unwrap();
        assert_eq!(joins(&standing), expected, "{found} {list:?}");
        let first = if found == "b+" { "a=1 new" } else { "a=1,b=2 existing" };
        assert_eq!(started_with(&standing, "b"), first, "{found} {list:?}");
        // The others keep how they were started.
        assert_eq!(started_with(&standing, "a"), "a=1 new");
    }
}

#[test]
fn data_of_a_removed_member_is_refused() {
    let refusals = stand("ab", &["a+", "b+"], &["a"], &[]).unwrap_err();
    assert_eq!(refusals, [Refusal::Removed { host: "b".parse().unwrap() }]);
}

#[test]
fn each_is_started_with_those_before_it() {
    let standing = stand("abcd", &["a+", "b-", "c-", "d-"], &["a", "c"], &[]).unwrap();
    // The one whose data is gone comes first; new ones in the order of the plan.
    assert_eq!(started_with(&standing, "c"), "a=1,c=3 existing");
    assert_eq!(started_with(&standing, "b"), "a=1,b=2,c=3 existing");
    assert_eq!(started_with(&standing, "d"), "a=1,b=2,c=3,d=4 existing");
    let announced = ["b: announced with 1 2 3, vote", "c: replaces 3, announced with 1 3, vote", "d: announced with 1 2 3 4, vote"];
    assert_eq!(joins(&standing), announced);
}

#[test]
fn hosts_of_a_later_run_are_not_counted_on() {
    let standing = stand("abcd", &["a+", "b-", "c-", "d-"], &["a", "c"], &["d"]).unwrap();
    assert_eq!(started_with(&standing, "d"), "a=1,c=3,d=4 existing");
}

#[test]
fn members_on_no_host_of_the_plan_belong_to_the_list() {
    let standing = stand("ab", &["a+", "b-"], &["a", "z", "y!"], &[]).unwrap();
    assert_eq!(started_with(&standing, "b"), "a=1,b=2,member-19=25,z=26 existing");
}

#[test]
fn a_host_with_a_new_address_replaces_its_old_member() {
    let mut list = members(&["a", "b"]);
    list[1].peer_urls = vec!["https://198.51.100.7:2380".into()];
    let (plan, facts) = (plan("ab"), hosts(&["a+", "b-"]));
    let standing = survey(&plan, &facts).unwrap().with_members(&plan, &facts, Ok(&list), &[]).unwrap();
    assert_eq!(joins(&standing), ["b: replaces 2, announced with 1 2, vote"]);
}

#[test]
fn nobody_joins_an_etcd_that_does_not_answer() {
    let (plan, unseen) = (plan("ab"), || Err("no leader".to_owned()));
    let stand = |found: &[&str]| survey(&plan, &hosts(found)).unwrap().with_members(&plan, &hosts(found), unseen(), &[]);
    let refused = [Refusal::MembersUnseen { host: "b".parse().unwrap(), reason: "no leader".into() }];
    assert_eq!(stand(&["a+", "b-"]).unwrap_err(), refused);
    assert_eq!(joins(&stand(&["a+", "b+"]).unwrap()), Vec::<String>::new());
    // A host that is only away is no new one.
    assert!(stand(&["a+"]).is_ok());
}

#[test]
fn data_is_not_moved() {
    let found = [("a".parse().unwrap(), facts(false, Some("'--initial-cluster=a=x', '--data-dir=/data'")))].into();
    let refusals = survey(&plan("a"), &found).unwrap_err();
    assert!(matches!(&refusals[..], [Refusal::DataElsewhere { found, .. }] if found == "/data"), "{refusals:?}");
}

#[test]
fn a_cluster_that_is_formed_starts_all_together() {
    let mut found = hosts(&["a-", "b-"]);
    for facts in found.values_mut() {
        facts.state.files.clear();
    }
    let plan = plan("ab");
    let standing = survey(&plan, &found).unwrap().with_members(&plan, &found, Err("not asked".into()), &[]).unwrap();
    assert_eq!(started_with(&standing, "a"), "a=1,b=2 new");
    assert!(standing.joins.is_empty());
}
