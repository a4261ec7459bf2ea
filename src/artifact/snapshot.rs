//! What is kept of hosts from before an upgrade: copies of the files that it replaces and, on one host,
//! what etcd holds. Pure: the artifact names neither time nor place; the host decides both when it takes
//! the snapshot, so two plannings of one upgrade are the same change.

use std::fmt;

use crate::names::RemotePath;

/// Which way an upgrade goes, in words that can stand in the name of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    from: String,
    to: String,
}

impl Way {
    /// The way between two versions. Whatever else than letters, digits, `.` and `-` they hold becomes `-`.
    #[must_use]
    pub fn new(from: &str, to: &str) -> Self {
        Self { from: word(from), to: word(to) }
    }

    /// Where it begins.
    #[must_use]
    pub fn from(&self) -> &str {
        &self.from
    }

    /// Where it ends.
    #[must_use]
    pub fn to(&self) -> &str {
        &self.to
    }
}

impl fmt::Display for Way {
    /// As it stands in the name of a snapshot.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_to_{}", self.from, self.to)
    }
}

/// At most as many characters of a version as a file's name has room for, with a digest's worth to spare.
const LONGEST_WORD: usize = 80;

fn word(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '-' };
    let word: String = text.chars().take(LONGEST_WORD).map(plain).collect();
    if word.is_empty() { "unknown".to_owned() } else { word }
}

/// A snapshot of a host that is to be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The upgrade that comes after it.
    pub way: Way,
    /// Files that are copied, those of them that are there.
    pub files: Vec<RemotePath>,
    /// Where the host's member of etcd keeps its data, if what etcd holds is kept too.
    pub etcd: Option<RemotePath>,
    /// How many snapshots the host keeps. The first one of the same way stays beyond that: it is from before
    /// all attempts at this upgrade.
    pub keep: u8,
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.etcd.is_some() { f.write_str("snapshot of etcd")? } else { f.write_str("copies of files")? }
        write!(f, " before {}", self.way.to)
    }
}

/// A snapshot that a host has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Taken {
    /// When, as the host wrote it: `20261121T134500Z`.
    pub time: String,
    /// The upgrade that came after it.
    pub way: Way,
    /// Whether what etcd held is in it.
    pub etcd: bool,
}

impl Taken {
    /// Reads the name of a snapshot, `TIME_FROM_to_TO`. None of what slipway did not name so.
    #[must_use]
    pub fn read(name: &str, etcd: bool) -> Option<Self> {
        let (time, way) = name.split_once('_')?;
        let (from, to) = way.split_once("_to_")?;
        let is_time = time.len() == 16
            && time.bytes().enumerate().all(|(index, byte)| match index {
                8 => byte == b'T',
                15 => byte == b'Z',
                _ => byte.is_ascii_digit(),
            });
        let way = Way::new(from, to);
        (is_time && way.from == from && way.to == to).then(|| Self { time: time.to_owned(), way, etcd })
    }

    /// Its name, which is that of its directory.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}_{}", self.time, self.way)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_when_and_before_what() {
        let taken = Taken { time: "20261121T134500Z".into(), way: Way::new("v1.33.4", "v1.34.2"), etcd: true };
        assert_eq!(taken.name(), "20261121T134500Z_v1.33.4_to_v1.34.2");
        assert_eq!(Taken::read(&taken.name(), true), Some(taken));
        for foreign in ["", "x", "20261121T134500Z", "20261121T134500Z_v1_v2", "20261121T1345_v1_to_v2", "2026112lT134500Z_v1_to_v2", "20261121T134500Z_v/1_to_v2", "20261121T134500Z__to_v2", ".part"] {
            assert_eq!(Taken::read(foreign, false), None, "{foreign}");
        }
    }

    #[test]
    fn versions_become_words_of_a_file_name() {
        let way = Way::new("etcd-3.5.21-0@sha256:00/_", "");
        assert_eq!(way.to_string(), "etcd-3.5.21-0-sha256-00--_to_unknown");
        assert!(Way::new(&"x".repeat(500), "y").to_string().len() < 200, "it is the name of a file");
    }
}
