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
    let name = path.as_str().trim_start_matches('/').replace('%', "%25").replace('/', "%2F");
    if name.len() > LONGEST { format!("sha256-{}", Digest::of(path.as_str())) } else { name }
}

/// Digests of what slipway last wrote at a path: one, two if a run was cut off between them, none
/// if it never wrote there.
#[must_use]
pub fn written(path: &RemotePath, state: &State) -> Vec<Digest> {
    let Ok(record) = RemotePath::fixed(RECORDS).join(&name(path)) else { return Vec::new() };
    let text = state.text(&record).unwrap_or_default();
    text.lines().filter_map(|line| line.strip_prefix("written=")?.parse().ok()).collect()
}
