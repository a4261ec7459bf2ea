//! The project's own tasks, run as `cargo xtask TASK`.
//!
//! Everything a developer or the CI needs beyond `cargo build` lives here, in
//! Rust, so that a fresh machine needs no other tool than Cargo to get going.

mod bench;
mod demo;
mod docs;
mod error;
mod fuzz;
mod lab;
mod test;
mod torture;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Tasks of the slipway project.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

/// One task; each has its own module.
#[derive(Subcommand)]
enum Task {
    /// Real Debian hosts and a real Kubernetes on this machine (needs root).
    Lab {
        #[command(subcommand)]
        command: lab::Command,
    },
    /// A cluster of five hosts on this machine, made by slipway (needs root).
    Demo(demo::Arguments),
    /// All tests: without hosts, and in the lab (needs root for those).
    Test(test::Arguments),
    /// What is too long for `test`: the same, with more of everything (needs root).
    Torture(torture::Arguments),
    /// libFuzzer over the readers of plan files, hosts' answers and journals, on the stable compiler.
    Fuzz(fuzz::Arguments),
    /// Measures slipway beside others that do the same, and writes docs/benchmarks.md (needs root and the lab).
    Bench {
        #[command(subcommand)]
        command: Option<bench::Command>,
    },
    /// Writes docs/plan-file.md from the types of the plan file.
    Docs {
        /// Only fail if it is old.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Lab { command } => lab::run(command),
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
        Task::Torture(arguments) => torture::run(&arguments),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Bench { command } => bench::run(command),
        Task::Docs { check } => docs::run(check),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
