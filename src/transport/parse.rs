//! From a probe's answer to facts.
//!
//! Pure. The answer comes from a host that may be broken or hostile: nothing here panics, memory
//! is bounded by the size of the answer (at most `LARGEST_ANSWER`), every name in it must lie
//! within what was asked for, and text that is shown to people later goes through `printable`.

use std::collections::BTreeMap;

use super::ProbeRequest;
use super::probe::{BEGIN, Mark};
use crate::artifact::Secret;
use crate::facts::{Began, Facts};
use crate::names::RemotePath;

mod files;
mod system;

/// No answer may be longer, in bytes.
pub const LARGEST_ANSWER: usize = 72 << 20;
/// No answer may speak of more files.
pub const MOST_FILES: usize = 100_000;

/// Why an answer is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Another run holds the host's lock; the text it left.
    #[error("locked by another run: {0}")]
    Locked(String),
    /// The host says why it cannot be worked on.
    #[error("{0}")]
    Refused(String),
    /// The answer ends too early.
    #[error("the host's answer is cut off")]
    CutOff,
    /// The answer is longer than anything sensible.
    #[error("the host's answer is too large: {0}")]
    TooLarge(&'static str),
    /// The stream of files cannot be read.
    #[error("the host's files cannot be read: {0}")]
    Files(String),
    /// A file that nobody asked for, or one told twice.
    #[error("the host told of the file {0}, which was not asked for")]
    Stray(String),
    /// A file told twice.
    #[error("the host told of the file {0} twice")]
    Twice(String),
}

/// What an answer to `request` says.
///
/// # Errors
/// The lock is held by another run, or the answer is cut off, too large or nonsense.
pub fn facts(request: &ProbeRequest, mark: &Mark, answer: &[u8]) -> Result<Facts, ParseError> {
    let sections = Sections::read(mark, answer)?;
    let mut facts = Facts { system: system::system(request, &sections), ..Facts::default() };
    let state = &mut facts.state;
    state.units = system::units(request, &sections);
    state.images = sections.lines("images").map(printable).collect();
    state.running_containers = system::running(&sections);
    state.etcd_data = sections.has("etcd", "member");
    state.etcd_bytes = sections.value("etcd", "size").parse().ok();
    state.etcd_free_bytes = system::free_of(sections.value("etcd", "free"));
    state.snapshots = system::snapshots(&sections);
    state.programs = system::programs(request, &sections);
    state.packages = system::packages(request, &sections);
    files::listed(&sections, &request.roots, &mut state.files)?;
    files::packed(sections.tar, &request.roots, &request.directories, &mut state.files)?;
    Ok(facts)
}

/// What an answer to the fetch of `paths` holds.
///
/// # Errors
/// The answer is cut off, too large, or speaks of other files.
pub fn fetched(paths: &[RemotePath], mark: &Mark, answer: &[u8]) -> Result<BTreeMap<RemotePath, Secret>, ParseError> {
    files::contents(Sections::read(mark, answer)?.tar, paths)
}

/// What an answer to `probe::KUBELET_BEGAN` says: whether the kubelet runs, and when it was started if that
/// can be told.
#[must_use]
pub fn kubelet_began(answer: &str) -> (bool, Option<Began>) {
    system::kubelet_began(answer)
}

/// Text without control characters (a terminal would obey them) and of bounded length.
#[must_use]
pub fn printable(text: &str) -> String {
    const LONGEST: usize = 4096;
    text.chars()
        .take(LONGEST)
        .map(|character| match character {
            '\t' => ' ',
            // Direction overrides can make a line read as something else.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
            character if character.is_control() => '\u{fffd}',
            character => character,
        })
        .collect()
}

/// The answer, cut at its `@NAME` lines. A section told twice is one.
struct Sections<'a> {
    lines: BTreeMap<&'a str, Vec<&'a str>>,
    /// The stream of files: the section `tar`, which is the last.
    tar: &'a [u8],
}

impl<'a> Sections<'a> {
    fn read(mark: &Mark, answer: &'a [u8]) -> Result<Self, ParseError> {
        if answer.len() > LARGEST_ANSWER {
            return Err(ParseError::TooLarge("more than 72 MiB"));
        }
        let (answer, _) = cut(answer, mark.end().as_bytes()).ok_or(ParseError::CutOff)?;
        let mut lines: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let (mut rest, mut begun, mut section) = (answer, false, "");
        while !rest.is_empty() {
            let (line, after) = cut(rest, b"\n").unwrap_or((rest, b""));
            rest = after;
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !begun {
                begun = line == BEGIN.as_bytes();
                continue;
            }
            // What is not UTF-8 names nothing that slipway has.
            let Ok(line) = std::str::from_utf8(line) else { continue };
            match line.strip_prefix('@') {
                Some("tar") => return Ok(Self { lines, tar: rest }),
                Some(told) => match told.split_once(' ') {
                    Some(("locked", holder)) => return Err(ParseError::Locked(printable(holder))),
                    Some(("refused", reason)) => return Err(ParseError::Refused(printable(reason))),
                    _ => section = told,
                },
                None => lines.entry(section).or_default().push(line),
            }
        }
        if begun { Ok(Self { lines, tar: b"" }) } else { Err(ParseError::CutOff) }
    }

    /// The lines of a section that are not empty.
    fn lines(&self, section: &str) -> impl Iterator<Item = &'a str> {
        self.all_lines(section).filter(|line| !line.is_empty())
    }

    fn all_lines(&self, section: &str) -> impl Iterator<Item = &'a str> {
        self.lines.get(section).into_iter().flatten().copied()
    }

    fn has(&self, section: &str, line: &str) -> bool {
        self.lines(section).any(|found| found == line)
    }

    /// `KEY=VALUE` lines of a section.
    fn values(&self, section: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.lines(section).filter_map(|line| line.split_once('='))
    }

    fn value(&self, section: &str, key: &str) -> &'a str {
        self.values(section).find(|(found, _)| *found == key).map_or("", |(_, value)| value)
    }
}

/// What is before and after the first place of `mark`.
fn cut<'a>(text: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let place = memchr::memmem::find(text, mark)?;
    Some((&text[..place], &text[place + mark.len()..]))
}

#[cfg(test)]
mod tests;
