//! The `slipway` program.

use std::process::ExitCode;

use clap::Parser as _;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Planning for many hosts makes and drops many small texts: a fifth less time than with the C
/// library's (`cargo xtask bench simulate`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A crash must leave no copy of keys behind, neither of this process nor of ssh below it (which
/// inherits the limit), and no other process of this user may read its memory.
fn leave_no_dump() {
    // Where the kernel refuses, a run is as safe as any other program's.
    let _limit = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _flag = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

fn main() -> ExitCode {
    leave_no_dump();
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
