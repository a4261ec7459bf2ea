//! Processes of the machine, told apart by more than their number.
//!
//! The lab ends only what it started. A process id alone does not say that:
//! after a restart of the machine the same number is somebody else.

use super::command::command;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs;

/// One process, safe against its id being used again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Process {
    id: u32,
    start_time: u64,
}

impl Process {
    /// Notes the process that has this id now.
    pub fn of(id: u32) -> Result<Self> {
        let (_, start_time) =
            stat(id).ok_or_else(|| Error::new("a host's process ended at once"))?;
        Ok(Self { id, start_time })
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Whether this very process still runs.
    pub fn lives(&self) -> bool {
        !is_zombie(self.id) && stat(self.id).is_some_and(|(_, start)| start == self.start_time)
    }
}

/// Whether a process is gone but for its entry in the process table.
pub fn is_zombie(id: u32) -> bool {
    status_fields(id).is_none_or(|fields| fields[0] == "Z" || fields[0] == "X")
}

/// Parent and start time of a process.
fn stat(id: u32) -> Option<(u32, u64)> {
    let fields = status_fields(id)?;
    Some((fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?))
}

/// The fields of `/proc/ID/stat` after the program's name.
fn status_fields(id: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(String::from).collect())
}

/// A process and all that descend from it, the youngest generation first.
pub fn descendants(id: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let all: Vec<(u32, u32)> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|process| Some((process, stat(process)?.0)))
        .collect();
    let mut found = vec![id];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(all.iter().filter(|(_, of)| *of == parent).map(|(process, _)| *process));
        next += 1;
    }
    found.reverse();
    found
}

/// Ends processes at once; those already gone do not matter.
pub fn kill(ids: &[u32]) {
    let ids = ids.iter().map(u32::to_string);
    let _ = command("kill", ["-KILL".to_string()].into_iter().chain(ids)).output();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_its_id_alone_is_not_enough() -> Result<()> {
        let own = Process::of(std::process::id())?;
        assert!(own.lives());
        let other = Process { start_time: own.start_time + 1, ..own };
        assert!(!other.lives());
        Ok(())
    }
}
