//! `slipway journal`: earlier runs of this cluster from this workstation. Looks at local files
//! only; what colleagues did is in their journals.

use std::io::{self, Write as _};
use std::path::Path;

use super::{Output, PlanFile, check};
use crate::failure::{Failure, Kind};
use crate::report::history::{self, Run};
use crate::report::{journal, visible};

/// What can be asked of `journal`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: PlanFile,
    /// How many runs are listed, the newest first
    #[arg(long, value_name = "N", default_value_t = 20)]
    last: usize,
    /// Show one run in full, by its name in the list or the beginning of it
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// How results are written; one run is then a line of JSON per event
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let loaded = check::load_plan(&arguments.file, arguments.output)?;
    let directory = journal::directory(&loaded.plan.name, |name| std::env::var_os(name).map(Into::into))
        .ok_or_else(|| Failure::new(Kind::LocalFile, "there is no home directory, so there are no journals"))?;
    let failed = |error: io::Error| Failure::new(Kind::LocalFile, format!("cannot read the journals in {}: {error}", directory.display()));
    let names = history::names(&directory).map_err(failed)?;
    match &arguments.run {
        Some(wanted) => show(&directory, chosen(&names, wanted)?, arguments.output).map_err(failed),
        None => list(&directory, &names, arguments),
    }
}

/// The one run whose name begins with what was asked for.
fn chosen<'a>(names: &'a [String], wanted: &str) -> Result<&'a str, Failure> {
    let mut fitting = names.iter().filter(|name| name.starts_with(wanted));
    match (fitting.next(), fitting.next()) {
        (Some(name), None) => Ok(name),
        (Some(name), Some(_)) if name == wanted => Ok(name),
        (Some(_), Some(_)) => Err(Failure::new(Kind::LocalFile, format!("several runs begin with `{wanted}`")).hint("give more of the name")),
        (None, _) => Err(Failure::new(Kind::LocalFile, format!("there is no run `{wanted}`")).hint("`slipway journal PLAN` lists them")),
    }
}

fn list(directory: &Path, names: &[String], arguments: &Arguments) -> Result<(), Failure> {
    // One that cannot be read (or is being removed) keeps nobody from seeing the others.
    let read = |name: &String| match history::open(directory, name).and_then(|journal| history::summary(name, journal)) {
        Ok(run) => Some(run),
        Err(error) => {
            eprintln!("warning: cannot read the journal {}: {error}", visible::visible(name));
            None
        }
    };
    let runs: Vec<Run> = names.iter().take(arguments.last).filter_map(read).collect();
    match arguments.output {
        Output::Json => println!("{}", visible::json(&runs, true)),
        Output::Text if runs.is_empty() => println!("no runs in {}", directory.display()),
        Output::Text => print!("{}", history::table(&runs)),
    }
    Ok(())
}

fn show(directory: &Path, name: &str, output: Output) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let damaged = history::each_event(history::open(directory, name)?, |event| match output {
        Output::Json => writeln!(out, "{}", visible::json(event, false)),
        Output::Text => writeln!(out, "{}", history::line(event)),
    })?;
    if damaged > 0 {
        eprintln!("warning: {damaged} lines of this journal cannot be read");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_chosen_by_the_beginning_of_its_name_and_never_by_a_path() {
        let names = ["20261121T1".to_owned(), "20261121T0".to_owned(), "2026".to_owned()];
        assert_eq!(chosen(&names, "20261121T1").unwrap(), "20261121T1");
        assert!(chosen(&names, "20261121").unwrap_err().to_string().contains("several"));
        assert!(chosen(&names, "../../etc/passwd").unwrap_err().to_string().contains("no run"));
    }
}
