//! What people see, from a fixed list of events.

use std::os::unix::fs::PermissionsExt as _;

use super::journal::{Journal, Start, directory, json_line};
use super::terminal::{Screen, Show};
use super::*;
use crate::graph::tests::id;

fn events() -> Vec<Event> {
    let seconds = |seconds: u64| Duration::from_millis(seconds * 100);
    let failure = StepFailure {
        step: id("kubelet@w-1"),
        change: Some("unit kubelet.service".into()),
        message: "failed in change 2 with exit status 1".into(),
        status: Some(1),
        stderr: "Job for kubelet.service failed.\n\u{1b}]0;title\u{7}see journalctl\n".into(),
        hint: Some("look at its log".into()),
    };
    let finished = |step: &str, outcome, elapsed| Event::StepFinished { step: id(step), outcome, elapsed: seconds(elapsed) };
    vec![
        Event::RunStarted {
            stage: Stage::Living,
            digest: Digest::of(""),
            steps: 4,
            changes: 6,
            up_to_date: vec![id("system@cp-1")],
            not_selected: vec![id("addons@cluster")],
        },
        Event::StepStarted { step: id("etcd@cp-1"), changes: 3 },
        Event::ChangeDone { step: id("etcd@cp-1"), done: 1, of: 3, artifact: "/etc/kubernetes/manifests/etcd.yaml".into() },
        finished("etcd@cp-1", Outcome::Changed { changes: 3 }, 12),
        Event::StepStarted { step: id("healthy@cp-1"), changes: 0 },
        Event::Waiting { step: id("healthy@cp-1"), gates: vec!["etcd on cp-1".into(), "API server on cp-1".into()] },
        finished("healthy@cp-1", Outcome::Changed { changes: 0 }, 650),
        Event::StepStarted { step: id("kubelet@w-1"), changes: 2 },
        finished("kubelet@w-1", Outcome::Failed(Box::new(failure)), 7),
        finished("nodes@cluster", Outcome::Blocked { by: id("kubelet@w-1") }, 0),
        Event::Stopping { abort: false },
        finished("ready@cluster", Outcome::Cancelled, 0),
        Event::RunFinished {
            elapsed: seconds(671),
            round_trips: [("cp-1".parse().unwrap(), 3), ("w-1".parse().unwrap(), 2), ("w-2".parse().unwrap(), 1)].into(),
            longest_path: vec![id("etcd@cp-1"), id("healthy@cp-1")],
        },
    ]
}

#[test]
fn plain_lines_tell_the_story() {
    let mut output = Vec::new();
    let mut screen = Screen::new(Show::Lines, &mut output);
    events().iter().for_each(|event| screen.show("12:04:05", event));
    drop(screen);
    insta::assert_snapshot!(String::from_utf8(output).unwrap());
}

#[test]
fn moving_lines_leave_failures_behind() {
    let mut output = Vec::new();
    let mut screen = Screen::new(Show::Live { colour: false }, &mut output);
    events().iter().for_each(|event| screen.show("12:04:05", event));
    drop(screen);
    insta::assert_snapshot!(String::from_utf8(output).unwrap(), @r"
    12:04:05 w-1 kubelet: failed after 0.7 s: failed in change 2 with exit status 1
    12:04:05 stopping: running steps may end; interrupt again to cut them off
    ");
}

#[test]
fn the_report_is_the_fold_of_the_events() {
    let mut report = Report::default();
    events().iter().for_each(|event| report.record(event));
    assert!(!report.succeeded());
    assert_eq!(report.changes(), 3);
    assert_eq!(report.failures().next().unwrap().host().unwrap().as_str(), "w-1");
    insta::assert_snapshot!(report.to_text());
}

#[test]
fn every_event_is_one_line_of_json() {
    let lines: Vec<String> = events().iter().map(|event| json_line(jiff::Timestamp::UNIX_EPOCH, event)).collect();
    assert!(lines.iter().all(|line| !line.contains('\n') && !line.contains('\u{1b}')));
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn the_journal_is_a_private_file_with_a_line_per_record() {
    let home = tempfile::tempdir().unwrap();
    let cluster = "prod".parse().unwrap();
    let place = directory(&cluster, |name| (name == "HOME").then(|| home.path().to_owned())).unwrap();
    assert!(place.ends_with(".local/state/slipway/prod"));
    assert_eq!(directory(&cluster, |_| None), None);
    let start = Start { version: "0.1.0".into(), command: "apply".into(), plan: Digest::of(""), operator: "me@here".into() };
    let mut journal = Journal::begin(&place, jiff::Timestamp::UNIX_EPOCH, &start).unwrap();
    for event in events() {
        journal.record(jiff::Timestamp::UNIX_EPOCH, &event).unwrap();
    }
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(journal.path()), mode(&place)), (0o600, 0o700));
    let text = std::fs::read_to_string(journal.path()).unwrap();
    assert_eq!(text.lines().count(), events().len() + 1);
    assert!(text.starts_with("{\"time\":\"1970-01-01T00:00:00Z\",\"event\":\"journal-started\",\"version\":\"0.1.0\""), "{text}");
    let same_moment = Journal::begin(&place, jiff::Timestamp::UNIX_EPOCH, &start);
    assert!(same_moment.unwrap_err().to_string().starts_with("cannot write the journal"));
}
