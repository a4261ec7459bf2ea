//! The command line: what can be asked for, and which file does it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::failure::{EXIT_CODES, Failure};
use crate::names::HostName;
use crate::phase::Phase;

mod adopt;
mod apply;
mod certs;
mod check;
mod cluster_authority;
mod diff;
mod graph;
mod journal;
mod kubeconfig;
mod node;
mod render;
mod reset;
mod running;
mod sessions;
mod simulate;
mod status;
mod survey;
mod token;
mod upgrade;

/// Creates and keeps Kubernetes clusters over SSH from one plan file.
#[derive(Debug, Parser)]
#[command(name = "slipway", version, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Validate a plan file without touching a host
    Check(check::Arguments),
    /// Write what every host and the cluster would get, without touching a host
    Render(render::Arguments),
    /// Show every change `apply` would make, with its reason, and the digest of the change set
    Diff(diff::Arguments),
    /// Make the hosts and the cluster what the plan file says
    Apply(apply::Arguments),
    /// Check what an upgrade would meet, or write another Kubernetes version into the plan file
    Upgrade(upgrade::Arguments),
    /// Write a plan file for a cluster that kubeadm made
    Adopt(adopt::Arguments),
    /// Take hosts back to what they were before slipway
    Reset(reset::Arguments),
    /// Draw the graph of steps
    Graph(graph::Arguments),
    /// Rehearse a bootstrap on simulated hosts: order, duration, and what a failure would leave behind
    Simulate(simulate::Arguments),
    /// Show hosts, versions, component health, etcd members and certificate expiry
    Status(status::Arguments),
    /// List, renew and sign certificates
    Certs(certs::Arguments),
    /// List, cordon, drain and uncordon Nodes
    Node(node::Arguments),
    /// Make, list and delete bootstrap tokens, for hosts that join with kubeadm
    Token(token::Arguments),
    /// List earlier runs from this workstation, or show one
    Journal(journal::Arguments),
    /// Write or merge an admin kubeconfig
    Kubeconfig(kubeconfig::Arguments),
    /// Print the JSON Schema of the plan file
    Schema,
    /// Print a completion script
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
}

/// How results are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Only a part of the work.
#[derive(Debug, Clone, Default, Args)]
struct Selection {
    /// Only on this host (may be repeated); other hosts are neither changed nor need to answer
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<HostName>,
    /// Only this phase (may be repeated)
    #[arg(long = "phase", value_name = "PHASE")]
    phases: Vec<Phase>,
}

/// A plan file on the command line.
#[derive(Debug, Clone, Args)]
struct PlanFile {
    /// The plan file
    #[arg(value_name = "PLAN")]
    plan: PathBuf,
}

/// Does what the command line asks for.
///
/// # Errors
/// Whatever keeps it from being done.
pub fn run(cli: Cli) -> Result<(), Failure> {
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime().map_err(|error| Failure::from_error(crate::failure::Kind::Bug, &error))?;
    match cli.command {
        Command::Check(arguments) => check::run(&arguments),
        Command::Render(arguments) => render::run(&arguments),
        Command::Diff(arguments) => runtime.block_on(diff::run(&arguments)),
        Command::Apply(arguments) => runtime.block_on(apply::run(&arguments)),
        Command::Upgrade(arguments) => runtime.block_on(upgrade::run(&arguments)),
        Command::Adopt(arguments) => runtime.block_on(adopt::run(&arguments)),
        Command::Reset(arguments) => runtime.block_on(reset::run(&arguments)),
        Command::Graph(arguments) => runtime.block_on(graph::run(&arguments)),
        Command::Simulate(arguments) => simulate::run(&arguments),
        Command::Status(arguments) => runtime.block_on(status::run(&arguments)),
        Command::Certs(arguments) => runtime.block_on(certs::run(&arguments)),
        Command::Node(arguments) => runtime.block_on(node::run(&arguments)),
        Command::Token(arguments) => runtime.block_on(token::run(&arguments)),
        Command::Journal(arguments) => journal::run(&arguments),
        Command::Kubeconfig(arguments) => runtime.block_on(kubeconfig::run(&arguments)),
        Command::Schema => {
            println!("{:#}", crate::plan::schema::json_schema());
            Ok(())
        }
        Command::Completions { shell } => {
            let mut command = <Cli as clap::CommandFactory>::command();
            clap_complete::generate(shell, &mut command, "slipway", &mut std::io::stdout());
            Ok(())
        }
    }
}
