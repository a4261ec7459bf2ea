//! The lab: real Debian hosts and a real Kubernetes on this one machine.
//!
//! Slipway's job is to change other machines, so its tests need machines. The
//! lab boots as many as asked, each with its own systemd, SSH server and
//! containerd, from Debian packages alone. `docs/lab.md` tells how it works;
//! the modules below are the parts, from names and files up to commands.

pub mod address;
mod archive;
pub mod cache;
mod cgroup;
pub mod command;
mod disk;
pub mod host;
pub mod hosts;
mod images;
pub mod keys;
pub mod kubernetes;
mod machine;
mod packages;
mod preload;
mod process;
mod status;

use crate::error::{Error, Explain, Result};
use cache::{Cache, Lock};
use std::path::PathBuf;
use std::process::ExitCode;

/// What can be done with the lab.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Boot hosts; those already running are left alone.
    Up {
        /// Host names; cp-1 cp-2 cp-3 worker-1 worker-2 when none is given.
        names: Vec<String>,
        /// Boot the first N of cp-1, cp-2, cp-3, worker-1, worker-2, worker-3, …
        #[arg(long, value_name = "N", conflicts_with = "names",
              value_parser = clap::value_parser!(u8).range(1..=40))]
        hosts: Option<u8>,
        #[command(flatten)]
        options: hosts::Options,
    },
    /// End hosts (all when none is named) and remove everything of theirs.
    Down { names: Vec<String> },
    /// Give hosts a fresh disk; address and host key stay.
    Reset {
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Show all hosts.
    Status {
        #[arg(long)]
        json: bool,
    },
    /// Show where programs, images and keys are.
    Paths {
        #[arg(long)]
        json: bool,
    },
    /// Log in to a host, or run a command on it.
    Ssh {
        /// Who logs in: root, operator (may use sudo) or nosudo.
        #[arg(long, default_value = "root")]
        user: String,
        host: String,
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Pull a host's plug.
    PowerOff { host: String },
    /// Switch a host on again, with the disk it had.
    PowerOn { host: String },
    /// Build the programs and images of a Kubernetes version.
    Kubernetes {
        #[arg(default_value = kubernetes::SOURCE_VERSION)]
        version: String,
    },
    #[command(hide = true)]
    EnterGroups { host: String },
    #[command(hide = true)]
    BecomeHost { host: String },
}

/// Runs one lab command.
pub fn run(command: Command) -> Result<ExitCode> {
    let cache = Cache::locate()?;
    machine::require_root()?;
    match command {
        Command::Up {
            names,
            hosts,
            options,
        } => {
            let names = match names.is_empty() {
                true => address::default_names(hosts.unwrap_or(5)),
                false => unique(names),
            };
            hosts::up(&cache, &names, &options)?;
        }
        Command::Down { names } => hosts::down(&cache, &unique(names))?,
        Command::Reset { names } => hosts::reset(&cache, &unique(names))?,
        Command::Status { json } => status::print(&cache, json)?,
        Command::Paths { json } => status::print_paths(&cache, json)?,
        Command::Ssh {
            user,
            host,
            command,
        } => return ssh(&cache, &user, &host, &command),
        Command::PowerOff { host } => hosts::power(&cache, &host, false)?,
        Command::PowerOn { host } => hosts::power(&cache, &host, true)?,
        Command::Kubernetes { version } => {
            let _lock = cache.lock("lab", Lock::Exclusive)?;
            packages::ensure_installed(packages::MACHINE_PACKAGES)?;
            images::archives(&cache, &version)?;
        }
        Command::EnterGroups { host } => host::enter_groups(&host)?,
        Command::BecomeHost { host } => host::become_host(&cache, &host)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether a host is of the tests: those numbered from 30 to 89. A developer's own are others.
pub fn is_of_tests(name: &str) -> bool {
    let number = name.rsplit_once('-').and_then(|(_, number)| number.parse::<u8>().ok());
    number.is_some_and(|number| (30..90).contains(&number))
}

/// Whether this program may run a lab.
pub fn is_root() -> bool {
    machine::require_root().is_ok()
}

/// Installs Debian packages that this machine does not have yet.
pub fn install_on_this_machine(packages: &[&str]) -> Result<()> {
    packages::ensure_installed(packages)
}

/// The names of all hosts that are there.
pub fn host_names() -> Result<Vec<String>> {
    hosts::names(&Cache::locate()?)
}

/// Ends these hosts and removes them.
pub fn down(names: &[String]) -> Result<()> {
    hosts::down(&Cache::locate()?, names)
}

/// Boots these hosts, as `lab up` does.
pub fn up(names: &[String]) -> Result<()> {
    hosts::up(&Cache::locate()?, names, &hosts::Options::default())
}

/// The directory of all the lab keeps.
pub fn directory() -> Result<PathBuf> {
    Ok(Cache::locate()?.path(""))
}

/// A program of the Kubernetes the lab built, for this machine.
pub fn program(name: &str) -> Result<PathBuf> {
    Ok(kubernetes::programs(&Cache::locate()?, kubernetes::SOURCE_VERSION)?.join(name))
}

/// Makes everything hosts are made of, so that the next `up` takes seconds.
pub fn build() -> Result<()> {
    hosts::build(&Cache::locate()?)
}

fn unique(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names.dedup();
    names
}

fn ssh(cache: &Cache, user: &str, name: &str, command: &[String]) -> Result<ExitCode> {
    if host::load(cache, name)?.is_none() {
        return Err(Error::new(format!("there is no host `{name}`")));
    }
    let status = host::ssh(cache, user, name)
        .stdin(std::process::Stdio::inherit())
        .args(command)
        .status()
        .explain(|| "cannot start `ssh`".into())?;
    Ok(ExitCode::from(
        status
            .code()
            .and_then(|code| code.try_into().ok())
            .unwrap_or(255),
    ))
}
