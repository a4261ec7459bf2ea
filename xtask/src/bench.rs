//! Benchmarks: how long a whole cluster takes, against kubeadm on the same hosts.
//!
//! Every contestant gets hosts with a fresh disk, the same programs and the same
//! images, and the same finish line, which is asked with the same commands. They
//! take turns, so that whatever else the machine does meets all of them.

mod finish;
mod hosts;
mod kubeadm;
mod machine;
mod results;
mod slipway;

use crate::error::{Error, Explain, Result};
use hosts::Hosts;
use kubeadm::Joins;
use machine::Machine;
use results::{Attempt, Results};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where the numbers of a run with `--write` go.
const DOCUMENT: &str = "docs/benchmarks.md";

/// What can be measured.
#[derive(clap::Subcommand)]
pub enum Command {
    /// A bootstrap of three control planes and two workers, with slipway and with kubeadm.
    Bootstrap {
        /// How often each side has its turn.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20))]
        rounds: u32,
        /// Measure only these (to look for what takes long).
        #[arg(long, value_enum)]
        only: Vec<Contestant>,
        /// Write the numbers to docs/benchmarks.md.
        #[arg(long, conflicts_with = "only")]
        write: bool,
        /// Leave the hosts running, as the last contestant left them.
        #[arg(long)]
        keep: bool,
    },
}

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Contestant {
    /// `slipway apply`.
    Slipway,
    /// kubeadm, control planes joining one after another, then all workers at once.
    KubeadmInTurn,
    /// kubeadm, everything that joins joining at once.
    KubeadmAtOnce,
}

impl Contestant {
    const ALL: [Self; 3] = [Self::Slipway, Self::KubeadmInTurn, Self::KubeadmAtOnce];

    /// The name in tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::Slipway => "slipway apply",
            Self::KubeadmInTurn => "kubeadm, joins in turn",
            Self::KubeadmAtOnce => "kubeadm, joins at once",
        }
    }
}

/// Runs one benchmark.
pub fn run(command: Command) -> Result<ExitCode> {
    let Command::Bootstrap {
        rounds,
        only,
        write,
        keep,
    } = command;
    let chosen: Vec<Contestant> = Contestant::ALL
        .into_iter()
        .filter(|contestant| only.is_empty() || only.contains(contestant))
        .collect();
    // kubeadm alone needs no program of ours.
    let program = match chosen.contains(&Contestant::Slipway) {
        true => slipway::build()?,
        false => PathBuf::new(),
    };
    let hosts = Hosts::boot()?;
    let measured = measure(&hosts, &program, &chosen, rounds);
    if !keep {
        hosts.down()?;
    }
    let results = measured?;
    print!("{}", results.to_text());
    if write {
        std::fs::write(DOCUMENT, results.to_document())
            .explain(|| format!("cannot write {DOCUMENT} (run this at the top of the project)"))?;
        eprintln!("bench: wrote {DOCUMENT}");
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(hosts: &Hosts, program: &Path, chosen: &[Contestant], rounds: u32) -> Result<Results> {
    let mut results = Results::new(Machine::look()?);
    for round in 1..=rounds {
        for &contestant in chosen {
            hosts.reset()?;
            let load = machine::load()?;
            let work = machine::work()?;
            let lap = match contestant {
                Contestant::Slipway => slipway::bootstrap(hosts, program),
                Contestant::KubeadmInTurn => kubeadm::bootstrap(hosts, Joins::InTurn),
                Contestant::KubeadmAtOnce => kubeadm::bootstrap(hosts, Joins::AtOnce),
            };
            let lap = lap.map_err(|error| {
                Error::new(format!("round {round}, {}: {error}", contestant.title()))
            })?;
            let attempt = Attempt {
                contestant,
                load,
                work: machine::work()? - work,
                lap,
            };
            finish::check(hosts)?;
            eprintln!("bench: round {round}: {}", attempt.summary());
            results.attempts.push(attempt);
        }
    }
    Ok(results)
}
