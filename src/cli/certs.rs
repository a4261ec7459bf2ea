//! `slipway certs`: everything about keys and certificates that is not the usual `apply`.

use crate::failure::Failure;

mod rotate_ca;

/// What can be asked of `certs`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Replace CAs and the service-account key, state by state, while the cluster serves
    RotateCa(rotate_ca::Arguments),
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::RotateCa(arguments) => rotate_ca::run(arguments).await,
    }
}
