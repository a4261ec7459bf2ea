//! The `slipway` program.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match slipway::cli::run(slipway::cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let text = failure.to_string();
            if !text.is_empty() {
                eprintln!("{text}");
            }
            failure.exit_code()
        }
    }
}
