//! Escapes planted in everything a host, an API server or etcd can say: no renderer lets them out.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use slipway::artifact::{Artifact, Content};
use slipway::change::{Change, Reason};
use slipway::failure::{Failure, Kind};
use slipway::graph::{Step, StepGraph};
use slipway::names::{HostName, Mode, RemotePath};
use slipway::phase::{Phase, Stage, StepId, Target};
use slipway::report::difference::{Difference, Look};
use slipway::report::{Event, Outcome, Report, StepFailure, terminal, visible};
use slipway::status::{Answers, fold};
use slipway::transport::{TransportError, parse};

use super::bodies::{PLAN, mark, request};

/// Clears the screen, changes colours in three ways, rings, goes back in the line, turns it around.
const EVIL: &str = "x\u{1b}[2J\u{1b}]0;t\u{7}\u{9b}31m\u{85}\r\u{8}\u{7f}\u{202e}\u{2066}y";

fn host() -> HostName {
    PLAN.hosts[0].name.clone()
}

fn step() -> StepId {
    StepId { phase: Phase::Kubelet, target: Target::Host(host()) }
}

fn failure() -> StepFailure {
    StepFailure {
        step: step(),
        change: Some(EVIL.into()),
        message: EVIL.into(),
        status: Some(1),
        stderr: format!("{EVIL}\n{EVIL}"),
        hint: Some(EVIL.into()),
    }
}

fn events() -> Vec<Event> {
    vec![
        Event::ChangeDone { step: step(), done: 1, of: 1, artifact: EVIL.into() },
        Event::Waiting { step: step(), gates: vec![EVIL.into()] },
        Event::StepFinished { step: step(), outcome: Outcome::Failed(Box::new(failure())), elapsed: Duration::from_secs(1) },
        Event::RunFinished { elapsed: Duration::from_secs(1), round_trips: BTreeMap::new(), longest_path: Vec::new() },
    ]
}

/// A host that says it in every place where the probe looks.
fn answer() -> Vec<u8> {
    let mut text = String::from("@slipway-begin\n");
    for section in ["system", "os", "commands", "sysctls", "notes", "stamps"] {
        text.push_str(&format!("@{section}\n"));
        for key in ["hostname", "machine", "kernel", "cni", "ca", "machine_id", "ID", "VERSION_ID", "PRETTY_NAME", "ip", "net.ipv4.ip_forward", "path"] {
            text.push_str(&format!("{key}={}\n", EVIL.replace('\r', "")));
        }
    }
    for section in ["swap", "addresses", "images", "containerd", "kubelet", "units", "tasks", "files", "listening", "kernel"] {
        text.push_str(&format!("@{section}\n{evil} {evil} {evil} ActiveState={evil}\nActiveState={evil}\n", evil = EVIL.replace('\r', "")));
    }
    text.push_str(&mark().end());
    text.into_bytes()
}

fn difference() -> Difference {
    let artifact = Artifact::File { path: RemotePath::fixed("/etc/x"), mode: Mode(0o600), content: Content::plain("wanted\n") };
    let changes = vec![
        Change { artifact: artifact.clone(), reason: Reason::Missing, before: Some(format!("{EVIL}\nwanted\n")) },
        Change { artifact: Artifact::Pulled { name: EVIL.into() }, reason: Reason::Missing, before: None },
    ];
    let steps = vec![Step { id: step(), before: Vec::new(), changes, gates: Vec::new(), fallback: Vec::new() }];
    Difference::of(&StepGraph::build(&PLAN, Stage::Fresh, steps, &PLAN.limits).unwrap())
}

fn everything_shown() -> Vec<(&'static str, String)> {
    let refused = TransportError::Command { host: host(), operation: "probe".into(), reason: EVIL.into() };
    let connect = TransportError::Connect { host: host(), destination: "x".into(), hint: None, reason: EVIL.into() };
    let mut report = Report::default();
    events().iter().for_each(|event| report.record(event));
    let facts = parse::facts(&request(), &mark(), &answer()).unwrap();
    let hosts = || PLAN.hosts.iter().map(|host| host.name.clone());
    let wrong = || hosts().map(|host| (host, Err(EVIL.to_owned()))).collect::<BTreeMap<_, _>>();
    let node = json!({ "metadata": { "name": EVIL, "labels": { EVIL: EVIL } }, "spec": { "unschedulable": true }, "status": {
        "nodeInfo": { "kubeletVersion": EVIL }, "conditions": [{ "type": "Ready", "status": EVIL, "reason": EVIL, "message": EVIL }] } });
    let member = json!({ "ID": "1", "name": EVIL, "peerURLs": [EVIL], "clientURLs": [EVIL] });
    let member_status = json!({ "version": EVIL, "dbSize": "1", "leader": "1", "errors": [EVIL] });
    let answers = Answers {
        facts: hosts().map(|host| (host, facts.clone())).collect(),
        kubelets: wrong(),
        api_servers: wrong(),
        controller_managers: wrong(),
        schedulers: wrong(),
        nodes: Some(Ok(hosts().map(|host| (host.to_string(), node.clone())).chain([(EVIL.to_owned(), node.clone())]).collect())),
        members_health: wrong(),
        members_status: hosts().map(|host| (host, Ok(serde_json::from_value(member_status.clone()).unwrap()))).collect(),
        members: Some(Ok(vec![serde_json::from_value(member).unwrap()])),
        absent: BTreeMap::new(),
    };
    let status = fold(&PLAN, Some(Stage::Living), &answers, "2026-01-01T00:00:00Z".parse().unwrap());
    let none = Answers { absent: hosts().map(|host| (host, EVIL.to_owned())).collect(), nodes: Some(Err(EVIL.into())), members: Some(Err(EVIL.into())), ..Answers::default() };
    let unseen = fold(&PLAN, None, &none, Timestamp::UNIX_EPOCH);
    let mut shown = vec![
        ("an error", Failure::from_error(Kind::Refused, &refused).hint(EVIL).to_string()),
        ("a failed connection", Failure::from_error(Kind::Unreachable, &connect).to_string()),
        ("a failed step", failure().to_string()),
        ("a report", report.to_text()),
        ("a status", status.to_text()),
        ("a status as JSON", visible::json(&status, true)),
        ("a status of nothing", unseen.to_text()),
        ("a difference", difference().to_text(Look { full: true, colour: false })),
        ("a difference as JSON", visible::json(&difference(), true)),
    ];
    for event in events() {
        shown.push(("a line of a run", terminal::line(&event).unwrap_or_default()));
        let json = slipway::report::journal::json_line(Timestamp::UNIX_EPOCH, &event);
        shown.push(("a line of a journal, read back", slipway::report::history::line(&serde_json::from_str(&json).unwrap())));
        shown.push(("an event as JSON", json));
    }
    shown
}

#[test]
fn no_escape_of_a_host_reaches_a_terminal() {
    let mut carried = 0;
    for (what, text) in everything_shown() {
        let harmful = |c: char| (c.is_control() && c != '\n' && c != '\t') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        assert!(!text.contains(harmful), "{what}: {text:?}");
        carried += usize::from(text.contains("[2J"));
    }
    assert!(carried >= 10, "the text itself is still shown: {carried}");
}

#[test]
fn what_a_host_says_of_itself_is_no_path_on_this_machine_and_no_text_in_a_unit() {
    let answer = "@slipway-begin\n@system\nmachine=../../../etc/shadow\ncni=/opt/$(id)\n@files\n/0 555 1:1 1e999 1e999 /proc/self\n@commands\nip=/usr/sbin/ip; touch /x\n\
                  iptables=/x' || id #\ntar=/usr/bin/tar\n".to_owned() + &mark().end();
    let system = parse::facts(&request(), &mark(), answer.as_bytes()).unwrap().system;
    assert_eq!(system.architecture, "unknown");
    assert_eq!(system.cni_directory, None);
    assert!(system.clock.abs() < 1.0);
    assert_eq!(system.commands.into_keys().collect::<Vec<_>>(), ["tar"]);
}
