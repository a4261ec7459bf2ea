//! What a run ends with when it does not end well: a kind (which is the exit code), what happened,
//! and what to do about it.

use std::fmt;
use std::process::ExitCode;

use crate::report::visible::visible;

/// Why a run did not end well. The number is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// slipway is wrong.
    Bug = 1,
    /// The plan file is wrong.
    Plan = 3,
    /// The hosts are not as they must be (preflight), or slipway refuses (another cluster, a second CA).
    Refused = 4,
    /// A host cannot be reached or does not give root rights.
    Unreachable = 5,
    /// Steps failed.
    Steps = 6,
    /// There are differences (`diff --exit-code`).
    Differences = 7,
    /// The change set is not the one that was reviewed (`--expect`), or the user said no.
    NotConfirmed = 8,
    /// A local file cannot be read or written.
    LocalFile = 9,
    /// The cluster does not answer.
    Cluster = 10,
    /// Certificates end within the time that was asked about (`certs list --warn-within`).
    NearExpiry = 11,
    /// Interrupted by the user.
    Interrupted = 130,
}

/// The exit codes as `--help` shows them.
pub const EXIT_CODES: &str = "\
Exit codes:
  0    done, or nothing to do
  1    a bug in slipway
  2    wrong usage
  3    the plan file is wrong
  4    refused: preflight checks failed, or the hosts belong to another cluster
  5    a host cannot be reached, or does not give root rights
  6    steps failed
  7    there are differences (diff --exit-code)
  8    not the reviewed change set (--expect), or not confirmed
  9    a local file cannot be read or written
  10   the cluster does not answer, or is not healthy (status)
  11   certificates near expiry (certs list --warn-within)
  130  interrupted";

/// A run that did not end well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which kind.
    pub kind: Kind,
    /// What happened, one line or several; `None` if it has been shown already.
    pub message: Option<String>,
    /// What to do about it.
    pub hints: Vec<String>,
}

impl Failure {
    /// A failure with its message.
    #[must_use]
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: Some(message.into()), hints: Vec::new() }
    }

    /// A failure that was shown already; only the exit code is left.
    #[must_use]
    pub fn shown(kind: Kind) -> Self {
        Self { kind, message: None, hints: Vec::new() }
    }

    /// A failure from an error and its causes.
    #[must_use]
    pub fn from_error(kind: Kind, error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str("\ncaused by: ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::new(kind, message)
    }

    /// The same with one more hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The process's exit code.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(message) = &self.message {
            // Much of it may be a host's words.
            write!(f, "error: {}", visible(message))?;
        }
        for hint in &self.hints {
            write!(f, "\nhint: {}", visible(hint))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_documented_code_of_its_own() {
        let kinds = [
            Kind::Bug,
            Kind::Plan,
            Kind::Refused,
            Kind::Unreachable,
            Kind::Steps,
            Kind::Differences,
            Kind::NotConfirmed,
            Kind::LocalFile,
            Kind::Cluster,
            Kind::NearExpiry,
            Kind::Interrupted,
        ];
        let documented: Vec<u8> =
            EXIT_CODES.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
        // 0 is no failure, 2 is clap's.
        let codes: Vec<u8> = [0, 2].into_iter().chain(kinds.map(|kind| kind as u8)).collect();
        let sorted = |mut codes: Vec<u8>| {
            codes.sort_unstable();
            codes
        };
        assert_eq!(sorted(codes), documented);
        assert_eq!(Failure::shown(Kind::Differences).exit_code(), ExitCode::from(7));
    }

    #[test]
    fn causes_and_hints_are_lines_of_their_own() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read plan.yaml")]
        struct Outer(#[source] std::io::Error);
        let error = Outer(std::io::Error::other("disk on fire"));
        let failure = Failure::from_error(Kind::LocalFile, &error).hint("put it out").hint("run again");
        let expected = "error: cannot read plan.yaml\ncaused by: disk on fire\nhint: put it out\nhint: run again";
        assert_eq!(failure.to_string(), expected);
        assert_eq!(Failure::shown(Kind::Bug).to_string(), "");
    }
}
