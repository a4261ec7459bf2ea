//! One run of a program: how long it took, and what it cost.
//!
//! The kernel tells a process's processor time until its parent has asked for its
//! end, so it is read between the end and the asking.

use crate::error::{Error, Explain, Result};
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What a run took; processor times in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// From start to end, in seconds.
    pub elapsed: f64,
    /// The program's own threads.
    pub own: f64,
    /// The processes it started and waited for.
    pub children: f64,
    /// The most memory it was seen to have, in MiB.
    pub memory: f64,
}

/// Runs a command to its end; its output goes to a file, and comes back as text.
///
/// A run that fails is an error with the last lines it wrote.
pub fn run(command: &mut Command, log: &Path) -> Result<(Cost, String)> {
    let output = File::create(log).explain(|| format!("cannot write {}", log.display()))?;
    let errors = output.try_clone().explain(|| "cannot share a log".into())?;
    let program = command.get_program().to_string_lossy().into_owned();
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .explain(|| format!("cannot start {program}"))?;
    let stat = format!("/proc/{}/stat", child.id());
    let status = format!("/proc/{}/status", child.id());
    let mut memory = 0.0;
    let (elapsed, times) = loop {
        let text = std::fs::read_to_string(&stat).explain(|| format!("cannot read {stat}"))?;
        let fields = after_name(&text);
        if fields.first() == Some(&"Z") {
            break (start.elapsed(), times(&fields));
        }
        memory = peak(&std::fs::read_to_string(&status).unwrap_or_default()).unwrap_or(memory);
        sleep(Duration::from_millis(1));
    };
    let status = child.wait().explain(|| format!("cannot wait for {program}"))?;
    let text = std::fs::read(log).explain(|| format!("cannot read {}", log.display()))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    if !status.success() {
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(30)..].join("\n");
        return Err(Error::new(format!("{program} ended with {status}:\n{last}")));
    }
    let (own, children) = times.ok_or_else(|| Error::new(format!("cannot understand {stat}")))?;
    let elapsed = elapsed.as_secs_f64();
    Ok((Cost { elapsed, own, children, memory }, text))
}

/// The fields from the state on; the name before them may hold spaces and parentheses.
fn after_name(stat: &str) -> Vec<&str> {
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_whitespace().collect()
}

/// Own and children's time; proc(5): fields 14 to 17, in hundredths of a second.
fn times(fields: &[&str]) -> Option<(f64, f64)> {
    let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    Some((
        (ticks(14)? + ticks(15)?) / 100.0,
        (ticks(16)? + ticks(17)?) / 100.0,
    ))
}

/// proc(5): the highest resident size so far, in kB; gone when the program has ended.
fn peak(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: f64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kibibytes / 1024.0)
}

/// The middle one; of an even number the mean of the middle two.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a) b) (c) Z 1 2 3 4 5 6 7 8 9 10 150 50 30 20 0 0";
        assert_eq!(times(&after_name(stat)), Some((2.0, 0.5)));
        assert_eq!(times(&after_name("7 (a) Z 1")), None);
    }

    #[test]
    fn the_peak_of_memory_is_in_mebibytes() {
        assert_eq!(peak("Name: a\nVmHWM:\t    2048 kB\n"), Some(2.0));
        assert_eq!(peak("Name: a\n"), None);
    }

    #[test]
    fn a_program_that_fails_says_why() {
        let log = std::env::temp_dir().join(format!("measured-{}", std::process::id()));
        let mut good = Command::new("sh");
        let (_, text) = run(good.args(["-c", "echo well"]), &log).unwrap();
        assert_eq!(text, "well\n");
        let mut bad = Command::new("sh");
        let error = run(bad.args(["-c", "echo broken >&2; exit 3"]), &log).unwrap_err();
        assert!(error.to_string().contains("broken"), "{error}");
        std::fs::remove_file(&log).unwrap();
    }

    #[test]
    fn medians_of_none_odd_and_even() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0]), Some(2.5));
    }
}
