//! The journal: one file of JSON lines per run, for whoever asks later what happened. It is
//! written and never read back; the hosts say what is.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;

use super::Event;
use super::visible::json;
use crate::names::{ClusterName, Digest};

/// What a run is, for the first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Start {
    /// slipway's version.
    pub version: String,
    /// The command, such as `apply`.
    pub command: String,
    /// The digest of the plan file.
    pub plan: Digest,
    /// Who ran it, as `user@machine`.
    pub operator: String,
}

/// The journal could not be written. That is a warning: the run goes on.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the journal {}: {source}", path.display())]
pub struct JournalError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// An open journal. After an error it writes nothing more, so the error comes once.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: Option<File>,
}

/// Credentials that were handed out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Issuance {
    /// Whom they name.
    pub name: String,
    /// The groups they carry.
    pub groups: Vec<String>,
    /// The certificate's serial number.
    pub serial: String,
    /// The end of its life.
    pub not_after: Timestamp,
}

#[derive(Serialize)]
struct Issued<'a> {
    event: &'static str,
    #[serde(flatten)]
    issuance: &'a Issuance,
}

#[derive(Serialize)]
struct Record<'a, T> {
    time: Timestamp,
    #[serde(flatten)]
    what: &'a T,
}

#[derive(Serialize)]
struct Started<'a> {
    event: &'static str,
    #[serde(flatten)]
    start: &'a Start,
}

/// The directory of a cluster's journals: below `XDG_STATE_HOME`, or its default in the home
/// directory (XDG Base Directory Specification). `None` if there is no home. `variable` looks
/// into the environment.
#[must_use]
pub fn directory(cluster: &ClusterName, variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let state = variable("XDG_STATE_HOME").filter(|path| path.is_absolute());
    let state =
        state.or_else(|| variable("HOME").filter(|path| path.is_absolute()).map(|home| home.join(".local/state")))?;
    Some(state.join("slipway").join(cluster.as_str()))
}

/// An event with its time as one line of JSON, as `--output json` prints it.
#[must_use]
pub fn json_line(time: Timestamp, event: &Event) -> String {
    json(&Record { time, what: event }, false)
}

impl Journal {
    /// Makes a file of its own for this run, readable by nobody else, and writes the first line.
    ///
    /// # Errors
    /// The directory or file cannot be made or written.
    pub fn begin(directory: &Path, time: Timestamp, start: &Start) -> Result<Self, JournalError> {
        // Nanoseconds, so that two runs of a moment do not share a file.
        let path = directory.join(format!("{}.jsonl", time.strftime("%Y%m%dT%H%M%S%.9fZ")));
        let open = || {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)
        };
        let file = open().map_err(|source| JournalError { path: path.clone(), source })?;
        let mut journal = Self { path, file: Some(file) };
        let line = Record { time, what: &Started { event: "journal-started", start } };
        journal.write(&serde_json::to_string(&line).expect("a start is plain data"))?;
        Ok(journal)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one event; it is on the disk when this returns.
    ///
    /// # Errors
    /// It could not be written. Later calls do nothing.
    pub fn record(&mut self, time: Timestamp, event: &Event) -> Result<(), JournalError> {
        self.write(&json_line(time, event))
    }

    /// Writes that credentials were handed out; it is on the disk when this returns.
    ///
    /// # Errors
    /// It could not be written.
    pub fn issued(&mut self, time: Timestamp, issuance: &Issuance) -> Result<(), JournalError> {
        let line = Record { time, what: &Issued { event: "credentials-issued", issuance } };
        self.write(&serde_json::to_string(&line).expect("an issuance is plain data"))
    }

    fn write(&mut self, line: &str) -> Result<(), JournalError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let written = file.write_all(format!("{line}\n").as_bytes()).and_then(|()| file.sync_data());
        written.map_err(|source| {
            self.file = None;
            JournalError { path: self.path.clone(), source }
        })
    }
}
