//! `slipway graph`: the steps and their order as text or as a picture.

use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use jiff::Timestamp;

use super::{Output, PlanFile, check, render, sessions};
use crate::failure::{Failure, Kind};
use crate::planning::{self, LocalSource, Options};
use crate::transport::Transport as _;
use crate::trust::decide::Requested;
use crate::trust::rotation::Aims;

/// What can be asked of `graph`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: PlanFile,
    /// The form
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Probe the hosts and draw what `apply` would do now; without it, a bootstrap of empty hosts
    #[arg(long)]
    probe: bool,
    /// Write to this file instead of the standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Format {
    /// Levels and steps as text
    #[default]
    Text,
    /// Graphviz
    Dot,
    /// Mermaid
    Mermaid,
    /// A picture with the critical path marked
    Svg,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let loaded = check::load_plan(&arguments.file, Output::Text)?;
    let graph = if arguments.probe {
        let transport = sessions::open(&loaded.plan)?;
        let options = Options { hosts: &[], phases: &[], renew: &Requested::NONE, lock: None, now: Timestamp::now(), local: LocalSource::Read, rotation: Aims::new() };
        let planned = planning::plan(Arc::new(loaded.plan), transport.as_ref(), planning::live(&transport), options).await;
        transport.close().await;
        planned?.graph
    } else {
        render::bootstrap_graph(&loaded.plan)?
    };
    let text = match arguments.format {
        Format::Text => graph.to_text(),
        Format::Dot => graph.to_dot(),
        Format::Mermaid => graph.to_mermaid(),
        Format::Svg => graph.to_svg(),
    };
    match &arguments.out {
        Some(path) => std::fs::write(path, text)
            .map_err(|error| Failure::new(Kind::LocalFile, format!("cannot write {}: {error}", path.display()))),
        None => {
            print!("{text}");
            Ok(())
        }
    }
}
