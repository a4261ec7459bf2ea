//! `cargo xtask fuzz`: libFuzzer over the targets of `fuzz/`, on the stable compiler.
//!
//! cargo-fuzz wants a nightly compiler for its sanitizers only: what libFuzzer needs to see where an
//! input leads are passes of LLVM that any compiler runs. They are switched on for all crates of the
//! target, so it gets a directory of its own below target/, and its first build takes as long as one
//! of everything. Inputs that are found stay there; those worth keeping go into fuzz/corpus by hand.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use crate::error::{Error, Explain as _, Result};

/// The targets, as in fuzz/Cargo.toml.
const TARGETS: [&str; 4] = ["plan", "probe", "probe_files", "journal"];

/// What cargo-fuzz sets without a sanitizer; overflows and broken assumptions are found as in a debug build.
const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "-Cdebug-assertions",
    "--cfg",
    "fuzzing",
];

/// What can be asked of it.
#[derive(clap::Args)]
pub struct Arguments {
    /// Which targets; all of them if none is named
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(TARGETS))]
    pub targets: Vec<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 30)]
    pub seconds: u32,
}

/// Builds the targets and runs them one after another.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let named = |target: &&&str| arguments.targets.is_empty() || arguments.targets.iter().any(|named| *named == ***target);
    let targets: Vec<&str> = TARGETS.iter().filter(named).copied().collect();
    let directory = std::path::absolute("target/fuzz").explain(|| "cannot find target/".into())?;
    let programs = build(&directory)?;
    let mut good = true;
    for target in targets {
        good &= fuzz(target, &programs, &directory, arguments.seconds)?;
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds all targets; returns where they are.
fn build(directory: &Path) -> Result<PathBuf> {
    // The same releases of everything as the program itself.
    fs::copy("Cargo.lock", "fuzz/Cargo.lock").explain(|| "cannot copy Cargo.lock (run it in the project's directory)".into())?;
    let triple = host_triple()?;
    // Naming the target keeps the flags away from build scripts and macros, which nobody fuzzes.
    let status = Command::new("cargo")
        .args(["build", "--release", "--bins", "--manifest-path", "fuzz/Cargo.toml", "--target", &triple])
        .env("CARGO_TARGET_DIR", directory)
        // For the names in what a failure prints.
        .envs([("CARGO_PROFILE_RELEASE_DEBUG", "0"), ("CARGO_PROFILE_RELEASE_STRIP", "false")])
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"))
        .status()
        .explain(|| "cannot start cargo".into())?;
    if status.success() { Ok(directory.join(triple).join("release")) } else { Err(Error::new("the fuzz targets cannot be built")) }
}

fn host_triple() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().explain(|| "cannot start rustc".into())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let triple = text.lines().find_map(|line| line.strip_prefix("host: "));
    triple.map(str::to_owned).ok_or_else(|| Error::new("rustc does not say for which machine it is"))
}

/// Runs one target. False: it found an input that fails.
fn fuzz(target: &str, programs: &Path, directory: &Path, seconds: u32) -> Result<bool> {
    let found = directory.join("corpus").join(target);
    fs::create_dir_all(&found).explain(|| format!("cannot make {}", found.display()))?;
    let log = directory.join(format!("{target}.log"));
    let output = File::create(&log).explain(|| format!("cannot write {}", log.display()))?;
    let status = Command::new(programs.join(target))
        .args([&found, &Path::new("fuzz/corpus").join(target)])
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/{target}-", directory.display()))
        // An input of some kilobytes that takes ten seconds is a failure, as is one that makes gigabytes of itself.
        .args(["-timeout=10", "-rss_limit_mb=2048", "-max_len=65536", "-print_final_stats=1"])
        .stdout(Stdio::null())
        .stderr(output)
        .status()
        .explain(|| format!("cannot start the target {target}"))?;
    let text = fs::read(&log).explain(|| format!("cannot read {}", log.display()))?;
    let text = String::from_utf8_lossy(&text);
    println!("{target}: {}", summary(&text));
    if !status.success() {
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        eprintln!("{}\nall of it is in {}", lines[lines.len().saturating_sub(30)..].join("\n"), log.display());
    }
    Ok(status.success())
}

/// `#4711 DONE cov: 100 ft: 200 corp: 3/9Kb …` and `stat::number_of_executed_units: 4711` in words.
fn summary(log: &str) -> String {
    let executed = log.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:")).map_or("unknown", str::trim);
    let after = |word: &str| {
        let line = log.lines().rfind(|line| line.contains(word))?;
        line.split(word).nth(1)?.split_whitespace().next()
    };
    let (edges, features) = (after(" cov: ").unwrap_or("?"), after(" ft: ").unwrap_or("?"));
    format!("{executed} executions, {edges} edges and {features} features reached")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libfuzzer_says_is_understood() {
        let log = "#2\tINITED cov: 5 ft: 6 corp: 1/1b exec/s: 0 rss: 20Mb\n#100\tDONE   cov: 11 ft: 22 corp: 7/90b\nstat::number_of_executed_units: 100\n";
        assert_eq!(summary(log), "100 executions, 11 edges and 22 features reached");
        assert_eq!(summary("nothing"), "unknown executions, ? edges and ? features reached");
    }
}
