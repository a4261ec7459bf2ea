//! Benchmarks: what slipway takes, beside others that do the same on the same hosts.
//!
//! Contestants take turns, so that whatever else the machine does meets all of them.
//! In a bootstrap every one gets hosts with a fresh disk, the same programs and the
//! same images, and the same finish line, which is asked with the same commands.

mod document;
mod finish;
mod fleet;
mod hosts;
mod kubeadm;
mod machine;
mod many;
mod measured;
mod peers;
mod pki;
mod results;
mod scratch;
mod slipway;
mod small;

use crate::error::{Error, Result};
use hosts::Hosts;
use kubeadm::Joins;
use machine::Machine;
use results::{Attempt, Results};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

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
    /// An `apply` that finds nothing to do on many hosts, beside pyinfra and Ansible.
    Hosts(many::Arguments),
    /// `slipway check` of a plan of 1,000 hosts.
    Check,
    /// Keys and certificates of a large cluster, beside kubeadm and openssl.
    Pki {
        /// How often each has its turn.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
        rounds: u32,
    },
    /// How long slipway takes to start: `slipway --help`.
    Start,
    /// `slipway simulate` of 10,000 hosts.
    Simulate,
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

/// Runs one benchmark; without a name all but the bootstrap, which takes longest.
pub fn run(command: Option<Command>) -> Result<ExitCode> {
    match command {
        Some(Command::Bootstrap {
            rounds,
            only,
            write,
            keep,
        }) => bootstrap(rounds, &only, write, keep)?,
        Some(Command::Hosts(arguments)) => many::run(&arguments)?,
        Some(Command::Check) => small::check(&slipway::build()?)?,
        Some(Command::Pki { rounds }) => pki::run(&slipway::build()?, rounds)?,
        Some(Command::Start) => small::help(&slipway::build()?)?,
        Some(Command::Simulate) => small::simulate(&slipway::build()?)?,
        None => {
            let program = slipway::build()?;
            small::help(&program)?;
            small::check(&program)?;
            pki::run(&program, 3)?;
            small::simulate(&program)?;
            many::run(&many::Arguments::default())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn bootstrap(rounds: u32, only: &[Contestant], write: bool, keep: bool) -> Result<()> {
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
    match write {
        true => results.write(),
        false => Ok(()),
    }
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
