//! Reads journals back, for people who ask later what was done. The engine never does: what is, the
//! hosts say.
//!
//! A journal may be of a run that was cut off, of a later slipway, or damaged: lines that cannot be
//! read are skipped and counted, events nobody knows are told by their name, and no line or file,
//! however long, takes more than a bounded piece of memory.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::summary::{counted, seconds};
use super::visible::visible;

/// The longest line that is read, in bytes; the longest of slipway's own tells of 10,000 steps.
pub const LONGEST_LINE: usize = 4 << 20;
/// How many journals of one cluster are looked at, the newest first.
pub const MOST_JOURNALS: usize = 100_000;
/// The ending of a journal's name.
const ENDING: &str = ".jsonl";

/// How a run ended, as far as its journal tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Everything was done.
    Done,
    /// A step failed.
    Failed,
    /// It was stopped by a person.
    Stopped,
    /// The journal has no end: the run was killed, or goes on.
    Open,
}

/// One earlier run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// Its name: that of its file.
    pub id: String,
    /// When it began; null if the first line is damaged.
    pub time: Option<String>,
    /// Who ran it, as `user@machine`.
    pub operator: Option<String>,
    /// The command, such as `apply`.
    pub command: Option<String>,
    /// slipway's version.
    pub version: Option<String>,
    /// The digest of the plan file.
    pub plan: Option<String>,
    /// How it ended.
    pub outcome: Ending,
    /// How many changes were made by steps that came to their end.
    pub changes: u64,
    /// Steps that failed.
    pub failed: u64,
    /// How long it took, in seconds; null if it has no end.
    pub elapsed: Option<f64>,
    /// Lines that could not be read.
    pub damaged: u64,
}

/// The names of a cluster's journals, newest first. No directory means no runs.
///
/// # Errors
/// The directory cannot be read.
pub fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let name = |entry: io::Result<std::fs::DirEntry>| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        Some(name.strip_suffix(ENDING)?.to_owned())
    };
    let mut names: Vec<String> = entries.filter_map(name).take(MOST_JOURNALS).collect();
    names.sort_by(|one, other| other.cmp(one));
    Ok(names)
}

/// Opens a journal by its name, which must be one of `names`.
///
/// # Errors
/// It cannot be opened.
pub fn open(directory: &Path, name: &str) -> io::Result<BufReader<File>> {
    Ok(BufReader::new(File::open(directory.join(format!("{name}{ENDING}")))?))
}

/// What a journal says of its run in short.
///
/// # Errors
/// The file cannot be read.
pub fn summary(id: &str, journal: impl BufRead) -> io::Result<Run> {
    let mut run = Run {
        id: id.to_owned(),
        time: None,
        operator: None,
        command: None,
        version: None,
        plan: None,
        outcome: Ending::Open,
        changes: 0,
        failed: 0,
        elapsed: None,
        damaged: 0,
    };
    let (mut stopped, mut ended) = (false, false);
    run.damaged = each_event(journal, |event| {
        let text = |name: &str| event[name].as_str().map(str::to_owned);
        match event["event"].as_str().unwrap_or_default() {
            "journal-started" => {
                run.time = text("time");
                run.operator = text("operator");
                run.command = text("command");
                run.version = text("version");
                run.plan = text("plan");
            }
            "step-finished" => match event["outcome"]["outcome"].as_str().unwrap_or_default() {
                "changed" => run.changes = run.changes.saturating_add(event["outcome"]["changes"].as_u64().unwrap_or(0)),
                "failed" => run.failed += 1,
                "cancelled" => stopped = true,
                _ => {}
            },
            "stopping" => stopped = true,
            "credentials-issued" => ended = true,
            "run-finished" => {
                ended = true;
                run.elapsed = event["elapsed"].as_f64();
            }
            _ => {}
        }
        Ok(())
    })?;
    run.outcome = match (ended, run.failed, stopped) {
        (false, ..) => Ending::Open,
        (true, 1.., _) => Ending::Failed,
        (true, 0, true) => Ending::Stopped,
        (true, 0, false) => Ending::Done,
    };
    Ok(run)
}

/// Hands every event of a journal to `take`, in order. Returns how many lines were none.
///
/// # Errors
/// The file cannot be read, or `take` fails.
pub fn each_event(mut journal: impl BufRead, mut take: impl FnMut(&Value) -> io::Result<()>) -> io::Result<u64> {
    let mut damaged = 0;
    let mut line = Vec::new();
    while let Some(whole) = next_line(&mut journal, &mut line)? {
        // A last line without its end was cut off in the middle, whatever it looks like.
        match serde_json::from_slice::<Value>(&line) {
            Ok(event) if whole && event.is_object() => take(&event)?,
            _ if line.is_empty() && whole => {}
            _ => damaged += 1,
        }
    }
    Ok(damaged)
}

/// Reads a line; `None` at the end of the file, `false` if the line was too long or has no end.
fn next_line(journal: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
    line.clear();
    let (mut begun, mut fits) = (false, true);
    loop {
        let read = match journal.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read.is_empty() {
            return Ok(begun.then_some(false));
        }
        begun = true;
        let end = read.iter().position(|byte| *byte == b'\n');
        let part = &read[..end.unwrap_or(read.len())];
        fits = fits && line.len() + part.len() <= LONGEST_LINE;
        if fits {
            line.extend_from_slice(part);
        }
        let used = end.map_or(read.len(), |end| end + 1);
        journal.consume(used);
        if end.is_some() {
            return Ok(Some(fits));
        }
    }
}

/// Runs as a table.
#[must_use]
pub fn table(runs: &[Run]) -> String {
    let header = ["RUN", "BY", "COMMAND", "OUTCOME", "CHANGES", "TIME"].map(str::to_owned);
    let or_unknown = |text: &Option<String>| visible(text.as_deref().unwrap_or("?"));
    let row = |run: &Run| {
        let outcome = match run.outcome {
            Ending::Done => "done".to_owned(),
            Ending::Failed => format!("{} failed", counted(usize::try_from(run.failed).unwrap_or(usize::MAX), "step")),
            Ending::Stopped => "stopped".to_owned(),
            Ending::Open => "no end".to_owned(),
        };
        [visible(&run.id), or_unknown(&run.operator), or_unknown(&run.command), outcome, run.changes.to_string(), duration(run.elapsed)]
    };
    let rows: Vec<[String; 6]> = std::iter::once(header).chain(runs.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    text
}

/// One event as a line for people, and more lines for a failure.
#[must_use]
pub fn line(event: &Value) -> String {
    let text = |name: &str| visible(event[name].as_str().unwrap_or("?"));
    let clock = event["time"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
    let clock = clock.map_or_else(|| "?".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string());
    let number = |name: &str| event[name].as_u64().map_or_else(|| "?".to_owned(), |number| number.to_string());
    let what = match event["event"].as_str().unwrap_or("?") {
        "journal-started" => {
            format!("{} by {} (slipway {}, plan {})", text("command"), text("operator"), text("version"), text("plan"))
        }
        "run-started" => format!("{} cluster: {} steps with {} changes, digest {}", text("stage"), number("steps"), number("changes"), text("digest")),
        "step-started" => format!("{}: begins, {} changes", text("step"), number("changes")),
        "change-done" => format!("{}: {}/{} {}", text("step"), number("done"), number("of"), text("artifact")),
        "waiting" => {
            let gates = event["gates"].as_array().into_iter().flatten().filter_map(Value::as_str).take(5).collect::<Vec<_>>();
            format!("{}: waits for {}", text("step"), visible(&gates.join(", ")))
        }
        "step-finished" => format!("{}: {} after {}", text("step"), outcome(&event["outcome"]), duration(event["elapsed"].as_f64())),
        "stopping" => "stopping".to_owned(),
        "credentials-issued" => format!("credentials issued for {}", text("name")),
        "run-finished" => format!("the end, after {}", duration(event["elapsed"].as_f64())),
        other => format!("{} (of a later slipway?)", visible(other)),
    };
    format!("{clock} {what}")
}

fn outcome(outcome: &Value) -> String {
    let text = |name: &str| visible(outcome[name].as_str().unwrap_or("?"));
    match outcome["outcome"].as_str().unwrap_or("?") {
        "changed" => format!("{} changes done", outcome["changes"].as_u64().unwrap_or(0)),
        "failed" => {
            let mut lines = format!("failed: {}", text("message"));
            for line in outcome["stderr"].as_str().unwrap_or_default().lines().take(50) {
                let _ = write!(lines, "\n    | {}", visible(line));
            }
            lines
        }
        "blocked" => format!("blocked by {}", text("by")),
        other => visible(other),
    }
}

fn duration(elapsed: Option<f64>) -> String {
    let known = elapsed.and_then(|elapsed| std::time::Duration::try_from_secs_f64(elapsed).ok());
    known.map_or_else(|| "?".to_owned(), seconds)
}

#[cfg(test)]
mod tests;
