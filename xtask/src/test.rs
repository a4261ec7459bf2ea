//! `cargo xtask test`: everything that shows that slipway works, in one command.
//!
//! First the tests that need no host, then the lab's hosts are booted and the end-to-end tests
//! run against them, one at a time. Whatever happens, hosts that were not there before are gone
//! afterwards. What is skipped is said, with the reason: a skipped test proves nothing.

use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use crate::error::{Explain as _, Result};
use crate::lab;

/// Debian packages that tests use when they are there, and skip a part without.
const PACKAGES: &[&str] = &["apt-utils", "curl", "gnupg", "gnutls-bin", "openssh-client", "openssh-server", "openssl", "shellcheck"];

/// Stories of the lab that take minutes each, with three control planes or more: `cargo xtask torture`
/// runs them. What begins with these words is left out by whoever runs the tests.
const LONG: &[&str] = &[
    "adopt_several::",
    "certificates::",
    "departures::",
    "expired::",
    "faults_living::",
    "grow::",
    "heard::",
    "maintenance::",
    "rotation::",
    "secrets::",
    "vip::",
    "a_killed_bootstrap_of_three_control_planes",
    "no_request_fails_while_a_highly_available_cluster_goes_to_another_release",
];

/// What can be asked of the tests.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only tests that need no lab (and so no root)
    #[arg(long, conflicts_with = "lab_only")]
    no_lab: bool,
    /// Only the end-to-end tests in the lab
    #[arg(long)]
    lab_only: bool,
    /// Only tests whose name contains one of these
    filters: Vec<String>,
}

/// What became of tests.
#[derive(Default)]
struct Count {
    passed: usize,
    failed: usize,
    skipped: usize,
}

/// Who runs the tests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Runner {
    /// One process per test, with limits in time.
    Nextest,
    /// What comes with Rust.
    Cargo,
}

/// Runs the tests.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let started = Instant::now();
    let root = lab::is_root();
    let mut notes = Vec::new();
    if root {
        lab::install_on_this_machine(PACKAGES)?;
    } else {
        notes.push(format!(
            "not root: nothing is installed; tests that miss one of {} skip a part",
            PACKAGES.join(", ")
        ));
    }
    let runner = runner(&mut notes);
    let mut count = Count::default();
    let mut broken = false;
    if arguments.lab_only {
        notes.push("tests without hosts: --lab-only".into());
    } else {
        broken |= !without_hosts(runner, &arguments.filters, &mut count)?;
    }
    if arguments.no_lab {
        notes.push("end-to-end tests: --no-lab".into());
    } else if root {
        broken |= !in_the_lab(runner, &arguments.filters, &mut count)?;
        if !torture() {
            notes.push(format!("the stories {}: they are long, `cargo xtask torture` runs them", LONG.join(", ")));
        }
    } else {
        notes.push("end-to-end tests: the lab needs root; run the same command as root".into());
    }
    if !arguments.filters.is_empty() {
        notes.push("tests that none of the filters names".into());
    }
    for note in &notes {
        println!("skipped: {note}");
    }
    println!(
        "{} passed, {} failed, {} skipped in {} min {} s",
        count.passed,
        count.failed,
        count.skipped,
        started.elapsed().as_secs() / 60,
        started.elapsed().as_secs() % 60
    );
    Ok(if broken || count.failed > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// cargo-nextest, installed if it is missing; else cargo's own.
fn runner(notes: &mut Vec<String>) -> Runner {
    let there = || {
        let version = Command::new("cargo")
            .args(["nextest", "--version"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        version.is_ok_and(|status| status.success())
    };
    if there() {
        return Runner::Nextest;
    }
    eprintln!("test: installing cargo-nextest (once)");
    let installed = Command::new("cargo")
        .args(["install", "--locked", "cargo-nextest"])
        .status();
    if installed.is_ok_and(|status| status.success()) && there() {
        return Runner::Nextest;
    }
    notes.push("cargo-nextest: it could not be installed, so cargo's own runner was used, without limits in time".into());
    Runner::Cargo
}

/// Unit and integration tests.
fn without_hosts(runner: Runner, filters: &[String], count: &mut Count) -> Result<bool> {
    let mut command = runner.command();
    command.args(["--workspace", "--lib", "--bins"]);
    if torture() {
        // As checked as a debug build, and several times as fast.
        command.args([if runner == Runner::Nextest { "--cargo-profile" } else { "--profile" }, "torture"]);
    }
    for target in targets(|name| !is_of_lab(name))? {
        command.args(["--test", &target]);
    }
    runner.run(command, filters, &[], count)
}

/// The end-to-end tests, with everything built before the first of them. Each boots what it needs.
fn in_the_lab(runner: Runner, filters: &[String], count: &mut Count) -> Result<bool> {
    let before = lab::host_names()?;
    let result = lab::build().and_then(|()| end_to_end(runner, filters, count));
    // Tests take their hosts down; one that was ended from outside could not.
    let mut left = lab::host_names()?;
    left.retain(|name| lab::is_of_tests(name) && !before.contains(name));
    if !left.is_empty() {
        lab::down(&left)?;
    }
    result
}

fn end_to_end(runner: Runner, filters: &[String], count: &mut Count) -> Result<bool> {
    let own = std::env::current_exe().explain(|| "cannot find this program".into())?;
    let mut command = runner.command();
    command
        .args(["--package", "slipway"])
        .env("SLIPWAY_LAB", own);
    for target in targets(is_of_lab)? {
        command.args(["--test", &target]);
    }
    let mut options: Vec<&str> = match runner {
        Runner::Nextest => {
            let profile = if torture() { "lab-torture" } else { "lab" };
            command.args(["--profile", profile, "--run-ignored", "all"]);
            Vec::new()
        }
        Runner::Cargo => vec!["--include-ignored", "--test-threads", "1", "--nocapture"],
    };
    if !torture() {
        options.extend(LONG.iter().flat_map(|story| ["--skip", story]));
    }
    runner.run(command, filters, &options, count)
}

/// Whether this is the long form.
fn torture() -> bool {
    std::env::var_os("SLIPWAY_TORTURE").is_some()
}

/// Whether a target of `tests/` needs the lab's hosts.
fn is_of_lab(target: &str) -> bool {
    target.starts_with("lab")
}

/// The targets of `tests/` as Cargo finds them: files, and directories with a `main.rs`.
fn targets(wanted: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let entries = fs::read_dir("tests")
        .explain(|| "cannot list tests/ (run it in the project's directory)".into())?;
    let target = |path: PathBuf| {
        let found = path.extension().is_some_and(|extension| extension == "rs")
            || path.join("main.rs").exists();
        found
            .then(|| {
                path.file_stem()
                    .map(|name| name.to_string_lossy().into_owned())
            })
            .flatten()
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| target(entry.path()))
        .collect();
    names.retain(|name| wanted(name));
    names.sort();
    Ok(names)
}

impl Runner {
    fn command(self) -> Command {
        let mut command = Command::new("cargo");
        match self {
            Self::Nextest => command.args(["nextest", "run", "--no-tests", "pass"]),
            Self::Cargo => command.args(["test", "--no-fail-fast"]),
        };
        command
    }

    /// Runs tests, shows what they write, and adds up what their summaries say.
    fn run(
        self,
        mut command: Command,
        filters: &[String],
        options: &[&str],
        count: &mut Count,
    ) -> Result<bool> {
        // Both take what is meant for the tests themselves after this.
        command.arg("--").args(options).args(filters).stdin(Stdio::null());
        // Where each runner writes its summaries.
        match self {
            Self::Nextest => command.stderr(Stdio::piped()),
            Self::Cargo => command.stdout(Stdio::piped()),
        };
        let mut child = command.spawn().explain(|| "cannot start cargo".into())?;
        let output = child
            .stderr
            .take()
            .map(|pipe| Box::new(pipe) as Box<dyn Read>);
        let output = output.or_else(|| {
            child
                .stdout
                .take()
                .map(|pipe| Box::new(pipe) as Box<dyn Read>)
        });
        for line in output.into_iter().flat_map(|pipe| {
            BufReader::new(pipe)
                .split(b'\n')
                .map_while(std::io::Result::ok)
        }) {
            let line = String::from_utf8_lossy(&line);
            eprintln!("{line}");
            count.add(self, &line);
        }
        let status = child.wait().explain(|| "cannot wait for cargo".into())?;
        Ok(status.success())
    }
}

impl Count {
    /// Adds a summary: `Summary [ 1.2s] 3 tests run: 2 passed, 1 failed, 4 skipped` (nextest) or
    /// `test result: ok. 2 passed; 1 failed; 4 ignored; …` (cargo). Other lines add nothing.
    fn add(&mut self, runner: Runner, line: &str) {
        let line = line.trim_start();
        // Within nextest's output there are lines of the tests themselves that look like cargo's.
        let numbers = match runner {
            Runner::Nextest => line
                .strip_prefix("Summary")
                .and_then(|rest| rest.split_once("run: ")),
            Runner::Cargo => line
                .strip_prefix("test result: ")
                .and_then(|rest| rest.split_once(". ")),
        };
        let numbers = numbers.map(|(_, numbers)| numbers);
        for part in numbers.unwrap_or_default().split(['(', ')', ',', ';']) {
            let mut words = part.split_whitespace();
            let number = words.next().and_then(|number| number.parse::<usize>().ok());
            let (Some(number), Some(what)) = (number, words.next()) else {
                continue;
            };
            match what {
                "passed" => self.passed += number,
                // nextest tells those that took too long apart.
                "failed" | "timed" | "exec" => self.failed += number,
                "skipped" | "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count_of(runner: Runner, line: &str) -> (usize, usize, usize) {
        let mut count = Count::default();
        count.add(runner, line);
        (count.passed, count.failed, count.skipped)
    }

    #[test]
    fn summaries_of_both_runners_are_understood() {
        let (nextest, cargo) = (Runner::Nextest, Runner::Cargo);
        let line = "     Summary [   1.2s] 3 tests run: 2 passed, 1 failed, 4 skipped";
        assert_eq!(count_of(nextest, line), (2, 1, 4));
        let line = "     Summary [   9.0s] 5/7 tests run: 3 passed (1 slow), 1 failed, 1 timed out, 0 skipped";
        assert_eq!(count_of(nextest, line), (3, 2, 0));
        let line = "test result: ok. 2 passed; 0 failed; 4 ignored; 0 measured; 1 filtered out; finished in 0.1s";
        assert_eq!(count_of(cargo, line), (2, 0, 4));
        assert_eq!(count_of(nextest, line), (0, 0, 0));
        assert_eq!(count_of(cargo, "the test result: ok. 2 passed"), (0, 0, 0));
    }
}
