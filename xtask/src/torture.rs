//! `cargo xtask torture`: what is too long for the test command. The same tests with more of
//! everything: a death at every call of every command of a step's script, a cut after every file of a
//! PKI, many more random graphs, plans and answers, a bootstrap killed twelve times (with three
//! control planes eight times), a line that goes silent in a step, and five rolling changes with an
//! etcd member killed at any moment. At the end libFuzzer looks for inputs that no test has.

use std::process::{Command, ExitCode};

use crate::error::{Explain as _, Result};
use crate::fuzz;

/// Tests that know how to do more.
const FILTERS: &[&str] = &["adopt_several", "authority", "departures", "expired", "vip::", "cut_off", "properties::", "execute::", "shell::", "parse::", "killed_bootstrap", "certificates", "faults", "grow", "heard::", "maintenance::", "rotation", "secrets::", "no_text_of", "crashes::", "joins::", "contract::", "upgrade"];
/// Cases of each property; the test command takes proptest's own 256 or fewer.
const CASES: &str = "4096";
/// How long each fuzz target runs, in seconds.
const FUZZING: u32 = 600;

/// Which part of it.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only tests whose name contains one of these; all of it takes hours
    filters: Vec<String>,
}

/// Runs the test command on those tests, with the word to do more.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let own = std::env::current_exe().explain(|| "cannot find this program".into())?;
    let status = Command::new(own)
        .arg("test")
        .args(if arguments.filters.is_empty() { FILTERS.to_vec() } else { arguments.filters.iter().map(String::as_str).collect() })
        .env("SLIPWAY_TORTURE", "1")
        .env("PROPTEST_CASES", CASES)
        .env("NEXTEST_PROFILE", "torture")
        .status()
        .explain(|| "cannot start the test command".into())?;
    let fuzzed = if arguments.filters.is_empty() {
        fuzz::run(&fuzz::Arguments { targets: Vec::new(), seconds: FUZZING })?
    } else {
        ExitCode::SUCCESS
    };
    Ok(if status.success() { fuzzed } else { ExitCode::FAILURE })
}
