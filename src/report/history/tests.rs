//! Journals of good runs, and of everything that may have happened to one.

use std::io::Read as _;
use std::time::Duration;

use super::*;
use crate::names::Digest;
use crate::report::journal::{Journal, Start};
use crate::report::{Event, Outcome, StepFailure};

fn start() -> Start {
    Start { version: "1.2.3".into(), command: "apply".into(), plan: Digest::of("plan"), operator: "ann@desk".into() }
}

fn events(fail: bool) -> Vec<Event> {
    let step: crate::phase::StepId = crate::phase::StepId {
        phase: crate::phase::Phase::System,
        target: crate::phase::Target::Host("a".parse().unwrap()),
    };
    let failure = StepFailure {
        step: step.clone(),
        change: None,
        message: "disk full \u{1b}[2J\u{9b}31m".into(),
        status: Some(1),
        stderr: "one\ntwo \u{202e}".into(),
        hint: None,
    };
    let outcome = if fail { Outcome::Failed(Box::new(failure)) } else { Outcome::Changed { changes: 3 } };
    vec![
        Event::StepStarted { step: step.clone(), changes: 3 },
        Event::Waiting { step: step.clone(), gates: vec!["x".into()] },
        Event::StepFinished { step, outcome, elapsed: Duration::from_millis(1500) },
        Event::RunFinished { elapsed: Duration::from_secs(90), round_trips: Default::default(), longest_path: Vec::new() },
    ]
}

/// A directory with one journal, and its name.
fn journal(fail: bool, at: i64) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let time = Timestamp::from_second(at).unwrap();
    let mut journal = Journal::begin(directory.path(), time, &start()).unwrap();
    events(fail).iter().for_each(|event| journal.record(time, event).unwrap());
    let name = names(directory.path()).unwrap().remove(0);
    (directory, name)
}

fn text(directory: &tempfile::TempDir, name: &str) -> String {
    let mut text = String::new();
    open(directory.path(), name).unwrap().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn what_was_written_is_told() {
    for (fail, outcome, changes) in [(false, Ending::Done, 3), (true, Ending::Failed, 0)] {
        let (directory, name) = journal(fail, 1_700_000_000);
        let run = summary(&name, open(directory.path(), &name).unwrap()).unwrap();
        assert_eq!((run.outcome, run.changes, run.elapsed, run.damaged), (outcome, changes, Some(90.0), 0));
        assert_eq!(run.operator.as_deref(), Some("ann@desk"));
        let table = table(&[run]);
        assert!(table.contains("ann@desk") && table.contains("apply") && table.contains("1 min 30 s"), "{table}");
        let mut lines = String::new();
        let damaged = each_event(open(directory.path(), &name).unwrap(), |event| {
            lines.push_str(&line(event));
            lines.push('\n');
            Ok(())
        });
        assert_eq!(damaged.unwrap(), 0);
        assert!(lines.contains("system@a: begins") && lines.contains("apply by ann@desk (slipway 1.2.3"), "{lines}");
        assert!(!lines.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{lines:?}");
        assert_eq!(lines.contains("failed: disk full"), fail, "{lines}");
        assert!(!lines.contains("of a later slipway"), "every event has words of its own: {lines}");
    }
}

#[test]
fn a_journal_cut_off_at_any_byte_is_read_as_far_as_it_goes() {
    let (directory, name) = journal(false, 1_700_000_000);
    let whole = text(&directory, &name);
    let last_line = whole.trim_end().rfind('\n').unwrap() + 1;
    for length in 0..=whole.len() {
        let run = summary(&name, &whole.as_bytes()[..length]).unwrap();
        let cut = length > 0 && !whole[..length].ends_with('\n');
        assert_eq!(run.damaged, u64::from(cut), "{length}");
        assert_eq!(run.outcome, if length == whole.len() { Ending::Done } else { Ending::Open }, "{length}");
        assert_eq!(run.changes, if length >= last_line { 3 } else { 0 }, "{length}");
    }
}

#[test]
fn unknown_events_and_damaged_lines_harm_nothing() {
    let text = "\n{\"event\":\"moon-landing\",\"time\":\"x\"}\n[1]\nnull\n\u{0}\u{0}\n{\"event\":7}\n{\"event\":\"step-finished\",\"outcome\":7,\"elapsed\":1e400}\n\
                {\"event\":\"step-finished\",\"outcome\":{\"outcome\":\"changed\",\"changes\":18446744073709551615},\"elapsed\":-1}\n\
                {\"event\":\"step-finished\",\"outcome\":{\"outcome\":\"changed\",\"changes\":5}}\n{\"event\":\"run-finished\",\"elapsed\":1e300}\n";
    let run = summary("x", text.as_bytes()).unwrap();
    assert_eq!((run.outcome, run.changes, run.damaged), (Ending::Done, u64::MAX, 4));
    assert!(table(&[run]).ends_with("?\n"));
    each_event(text.as_bytes(), |event| {
        assert!(!line(event).is_empty());
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_line_without_an_end_takes_no_memory() {
    let mut endless = BufReader::new(io::repeat(b'x').take(300 << 20));
    let mut line = Vec::new();
    assert_eq!(next_line(&mut endless, &mut line).unwrap(), Some(false));
    assert!(line.capacity() <= 2 * LONGEST_LINE, "{}", line.capacity());
    assert_eq!(next_line(&mut endless, &mut line).unwrap(), None);
}

#[test]
fn runs_are_listed_newest_first_and_other_files_are_none() {
    let (directory, first) = journal(false, 1_700_000_000);
    let mut later = Journal::begin(directory.path(), Timestamp::from_second(1_700_000_001).unwrap(), &start()).unwrap();
    later.record(Timestamp::from_second(1_700_000_002).unwrap(), &events(false)[0]).unwrap();
    std::fs::write(directory.path().join("notes.txt"), "x").unwrap();
    let found = names(directory.path()).unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(found[1], first);
    assert_eq!(names(&directory.path().join("missing")).unwrap(), Vec::<String>::new());
}
