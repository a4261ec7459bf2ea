//! What each fuzz target does with its input. Plain functions: `cargo xtask fuzz` gives them to
//! libFuzzer, `tests/hostile/fuzz.rs` runs them over the corpus and over changed copies of it in
//! every test run. A body panics if something does not hold.
#![allow(dead_code, reason = "every target uses one")]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jiff::Timestamp;
use slipway::facts::Facts;
use slipway::names::HostName;
use slipway::phase::Stage;
use slipway::plan::Plan;
use slipway::report::{history, visible};
use slipway::status::{Answers, fold};
use slipway::transport::probe::Mark;
use slipway::transport::{ProbeRequest, parse, records};
use slipway::trust::authorities;
use slipway::trust::decide::Requested;
use slipway::{plan, preflight, request, standing};

/// The plan of the hosts whose answers are read.
pub static PLAN: LazyLock<Plan> = LazyLock::new(|| match plan::load::parse(include_str!("../plans/lab.yaml")) {
    Ok((plan, _)) => plan,
    Err(problems) => panic!("the example is valid: {problems:?}"),
});

/// What its hosts are asked.
pub fn request() -> ProbeRequest {
    request::probe(&PLAN, None)
}

/// How answers end that are made up.
pub fn mark() -> Mark {
    Mark::of([0; 16])
}

/// A text that is shown to people holds nothing a terminal would obey.
fn is_safe(text: &str) {
    let harmful = |c: char| (c.is_control() && c != '\n' && c != '\t') || ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c);
    assert!(!text.contains(harmful), "shown to people: {text:?}");
}

/// A plan file.
pub fn plan(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let problems = match plan::load::parse(text) {
        Ok((_, warnings)) => warnings,
        Err(problems) => {
            assert!(!problems.is_empty(), "a refusal without a reason");
            problems
        }
    };
    is_safe(&plan::report::render(&problems, text, "plan.yaml", false));
    is_safe(&visible::json(&problems, false));
}

/// A host's answer to the probe, and everything that is concluded from it.
pub fn probe(data: &[u8]) {
    match parse::facts(&request(), &mark(), data) {
        Ok(facts) => conclude(facts),
        Err(error) => is_safe(&error.to_string()),
    }
    let paths = [slipway::paths::ca_certificate()];
    if let Err(error) = parse::fetched(&paths, &mark(), data) {
        is_safe(&error.to_string());
    }
}

/// The stream of files in an answer.
pub fn probe_files(data: &[u8]) {
    probe(&[b"@slipway-begin\n@tar\n", data, mark().end().as_bytes()].concat());
}

fn conclude(facts: Facts) {
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("it is a time");
    // Every host says the same: the worst that one of them can say is then said by its role too.
    let facts: BTreeMap<HostName, Facts> = PLAN.hosts.iter().map(|host| (host.name.clone(), facts.clone())).collect();
    let _refused = standing::survey(&PLAN, &facts);
    for stage in [Stage::Fresh, Stage::Living] {
        preflight::check(&PLAN, &facts, stage, 1e9).iter().for_each(|finding| is_safe(&visible::visible(&finding.to_string())));
        if let Ok(survey) = authorities::survey(&PLAN, &facts, stage) {
            let _refused = authorities::needed_keys(&PLAN, PLAN.kubernetes.version, &facts, &survey, &Requested::NONE, now);
        }
    }
    facts.values().for_each(|facts| drop(records::all(&facts.state)));
    let status = fold(&PLAN, Some(Stage::Living), &Answers { facts, ..Answers::default() }, now);
    is_safe(&status.to_text());
    is_safe(&visible::json(&status, true));
}

/// A journal.
pub fn journal(data: &[u8]) {
    let run = history::summary("run", data).expect("memory can be read");
    is_safe(&history::table(&[run]));
    let show = |event: &_| {
        is_safe(&history::line(event));
        Ok(())
    };
    history::each_event(data, show).expect("memory can be read");
}
