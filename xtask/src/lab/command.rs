//! Runs the programs the lab is made of (apt, ip, mount, ssh, …).
//!
//! One place for this, so that every failure names the command line, its exit
//! status and the end of what it wrote.

use crate::error::{Error, Explain, Result};
use std::fs::File;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// How much of a failed command's output an error repeats.
const TAIL_LINES: usize = 15;

/// A command with its arguments, with nothing on standard input.
pub fn command<I>(program: &str, arguments: I) -> Command
where
    I: IntoIterator,
    I::Item: AsRef<std::ffi::OsStr>,
{
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs a command to its end; its output is only shown when it fails.
pub fn run(command: &mut Command) -> Result<()> {
    checked(command).map(drop)
}

/// Runs a command and returns what it wrote to standard output.
pub fn read(command: &mut Command) -> Result<String> {
    let output = checked(command)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether the command can be run and ends well.
pub fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// Runs a long command; all it writes goes to a log file that an error names.
pub fn run_logged(command: &mut Command, log: &Path) -> Result<()> {
    let line = describe(command);
    let file = File::create(log).explain(|| format!("cannot write the log {}", log.display()))?;
    let copy = file.try_clone().explain(|| "cannot share a log".into())?;
    let status = command
        .stdout(file)
        .stderr(copy)
        .status()
        .explain(|| format!("cannot start `{line}`"))?;
    if status.success() {
        return Ok(());
    }
    let text = std::fs::read(log).unwrap_or_default();
    Err(Error::new(format!(
        "`{line}` ended with {status}; its output is in {}, the end of it:\n{}",
        log.display(),
        tail(&text)
    )))
}

fn checked(command: &mut Command) -> Result<Output> {
    let line = describe(command);
    let output = command
        .output()
        .explain(|| format!("cannot start `{line}`"))?;
    if output.status.success() {
        return Ok(output);
    }
    let mut text = output.stdout;
    text.extend_from_slice(&output.stderr);
    Err(Error::new(format!(
        "`{line}` ended with {}\n{}",
        output.status,
        tail(&text)
    )))
}

fn describe(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

fn tail(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().collect();
    let start = lines.len().saturating_sub(TAIL_LINES);
    lines[start..]
        .iter()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}
