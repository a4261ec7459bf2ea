//! Reads the records slipway keeps on hosts (see `script`), from what a probe brought. Pure.

use crate::facts::State;
use crate::names::{Digest, RemotePath};

/// Where the records are.
pub const RECORDS: &str = "/var/lib/slipway/records";

/// The longest name a record has before its path is replaced by a digest.
const LONGEST: usize = 200;

/// The record's name for a path, as the scripts' `escape` makes it.
#[must_use]
pub fn name(path: &RemotePath) -> String {
    escaped(path.as_str())
}

/// The record's name for anything that has one: a path, `unit:NAME`, `image:NAME`, ….
#[must_use]
pub fn escaped(text: &str) -> String {
    let name = text.strip_prefix('/').unwrap_or(text).replace('%', "%25").replace('/', "%2F");
    if name.len() > LONGEST { format!("sha256-{}", Digest::of(text)) } else { name }
}

/// Digests of what slipway last wrote at a path: one, two if a run was cut off between them, none
/// if it never wrote there.
#[must_use]
pub fn written(path: &RemotePath, state: &State) -> Vec<Digest> {
    let Ok(record) = RemotePath::fixed(RECORDS).join(&name(path)) else { return Vec::new() };
    let text = state.text(&record).unwrap_or_default();
    text.lines().filter_map(|line| line.strip_prefix("written=")?.parse().ok()).collect()
}

/// The note that says from which archive images of these names were last loaded.
#[must_use]
pub fn archive_note(names: &[String]) -> RemotePath {
    let path = format!("/var/lib/slipway/archives/{}", Digest::of(names.join("\n")));
    path.parse().expect("a digest in a fixed directory is a path")
}

/// A record: something slipway changed, and what of its past matters to whoever plans.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Record {
    /// A file, link, directory or program.
    Path {
        /// Where.
        path: RemotePath,
        /// Whether slipway made a directory of it, or changed one.
        directory: bool,
        /// Whether there was nothing before.
        new: bool,
    },
    /// A systemd unit.
    Unit {
        /// Its name with suffix.
        name: String,
        /// Whether there was none before.
        new: bool,
    },
    /// A live kernel parameter.
    Sysctl {
        /// Its dotted name.
        key: String,
    },
    /// A package of the operating system.
    Package {
        /// Its name.
        name: String,
        /// Whether there was none before.
        new: bool,
    },
    /// A kernel module that slipway loaded.
    Module {
        /// Its name.
        name: String,
    },
    /// An image that slipway brought.
    Image {
        /// Its name.
        name: String,
    },
    /// Swap.
    Swap,
}

/// All records, sorted. A file that is none (of a later slipway, or damaged) is left out.
#[must_use]
pub fn all(state: &State) -> Vec<Record> {
    let directory = RemotePath::fixed(RECORDS);
    let files = state.files.keys().filter(|path| **path != directory && path.is_within(&directory));
    let mut records: Vec<Record> = files.filter_map(|path| read(state.text(path)?)).collect();
    records.sort();
    records
}

fn read(text: &str) -> Option<Record> {
    let field = |name: &str| {
        text.lines().find_map(|line| line.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value))
    };
    let named = |name: &str| field(name).map(str::to_owned);
    let before = || field("before").unwrap_or_default();
    match field("kind")? {
        "unit" => Some(Record::Unit { name: named("unit")?, new: before().starts_with("absent") }),
        "sysctl" => Some(Record::Sysctl { key: named("sysctl")? }),
        "package" => Some(Record::Package { name: named("package")?, new: before() == "absent" }),
        "module" => Some(Record::Module { name: named("module")? }),
        "image" => Some(Record::Image { name: named("image")? }),
        "swap" => Some(Record::Swap),
        kind => Some(Record::Path {
            path: field("path")?.parse().ok()?,
            directory: kind == "directory",
            new: before() == "absent",
        }),
    }
}
