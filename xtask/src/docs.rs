//! Documents that are made from the code: the reference of the plan file.
//!
//! The product's own test writes and compares it, so there is one maker and no second way to run it.

use crate::error::{Error, Explain, Result};
use std::process::{Command, ExitCode};

/// The test that compares `docs/plan-file.md` with the types, and writes it when told to.
const TEST: &str = "plan::schema::reference::tests::the_committed_reference_is_the_generated_one";

/// Writes `docs/plan-file.md` anew, or with `check` fails if it is old.
pub fn run(check: bool) -> Result<ExitCode> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args([
        "test",
        "--quiet",
        "--package",
        "slipway",
        "--lib",
        "--",
        "--exact",
        TEST,
    ]);
    command.env_remove("SLIPWAY_BLESS");
    if !check {
        command.env("SLIPWAY_BLESS", "1");
    }
    let status = command
        .status()
        .explain(|| "cannot start cargo".to_string())?;
    if status.success() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Error::new(if check {
        "docs/plan-file.md is old; `cargo xtask docs` writes it anew"
    } else {
        "docs/plan-file.md could not be made"
    }))
}
