//! `slipway check`: the plan file and nothing else.

use std::io::IsTerminal as _;

use super::{Output, PlanFile};
use crate::failure::{Failure, Kind};
use crate::plan::load::{self, LoadError, Loaded};
use crate::plan::report;
use crate::report::visible;

/// What can be asked of `check`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: PlanFile,
    /// How results are written
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let loaded = load_plan(&arguments.file, arguments.output)?;
    if arguments.output == Output::Json {
        println!("{}", visible::json(&serde_json::json!({ "valid": true, "problems": loaded.warnings }), false));
    } else {
        let plan = &loaded.plan;
        println!(
            "{}: cluster {} with Kubernetes {}, {} hosts ({} control planes, {} etcd members): valid",
            arguments.file.plan.display(),
            plan.name,
            plan.kubernetes.version,
            plan.hosts.len(),
            plan.control_planes().count(),
            plan.etcd_hosts().count(),
        );
    }
    Ok(())
}

/// Reads and checks a plan file; every problem is shown.
pub(super) fn load_plan(file: &PlanFile, output: Output) -> Result<Loaded, Failure> {
    shown(load::load(&file.plan), output)
}

/// A checked plan, or every problem shown.
pub(super) fn shown(loaded: Result<Loaded, LoadError>, output: Output) -> Result<Loaded, Failure> {
    match loaded {
        Ok(loaded) => {
            if output == Output::Text && !loaded.warnings.is_empty() {
                eprint!("{}", report::render(&loaded.warnings, &loaded.text, &loaded.file.to_string_lossy(), colour()));
            }
            Ok(loaded)
        }
        Err(LoadError::Invalid(invalid)) => {
            if output == Output::Json {
                println!("{}", visible::json(&serde_json::json!({ "valid": false, "problems": invalid.problems }), false));
                return Err(Failure::shown(Kind::Plan));
            }
            eprint!("{}", report::render(&invalid.problems, &invalid.text, &invalid.file.to_string_lossy(), colour()));
            Err(Failure::new(Kind::Plan, invalid.summary()))
        }
        Err(error) => Err(Failure::from_error(Kind::LocalFile, &error)),
    }
}

fn colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
