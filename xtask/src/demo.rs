//! `cargo xtask demo`: the main job, for real, on this one machine.
//!
//! It does what a user would type: boot the lab's five hosts, `slipway apply plans/lab.yaml`, and
//! ask the new cluster for its nodes. Each command is shown before it runs, so that it can be
//! repeated by hand. The cluster stays, to look around in.

use crate::error::{Error, Explain as _, Result};
use crate::lab;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

/// The plan of the demo, as it is in the project.
const PLAN: &str = "plans/lab.yaml";

/// The lab's cache as the plan names it.
const USUAL_CACHE: &str = "~/.cache/slipway-lab";

/// The hosts of the plan.
const HOSTS: [&str; 5] = ["cp-1", "cp-2", "cp-3", "worker-1", "worker-2"];

/// What can be asked of the demo.
#[derive(clap::Args)]
pub struct Arguments {
    /// Take the lab's hosts down at the end
    #[arg(long)]
    down: bool,
}

/// Runs the demo.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let started = Instant::now();
    say("cargo build");
    run_command(Command::new("cargo").args(["build", "--quiet", "--package", "slipway"]))?;
    let slipway = built_program("slipway")?;

    say("cargo xtask lab up");
    let hosts: Vec<String> = HOSTS.map(String::from).into();
    lab::up(&hosts)?;

    let plan = plan()?;
    let booted = started.elapsed();
    say(&format!("slipway apply {} --yes", plan.display()));
    run_command(Command::new(&slipway).arg("apply").arg(&plan).arg("--yes"))?;
    let applied = started.elapsed() - booted;

    let kubeconfig = lab::directory()?.join("demo.kubeconfig");
    say(&format!(
        "slipway kubeconfig {} --out {}",
        plan.display(),
        kubeconfig.display()
    ));
    run_command(
        Command::new(&slipway)
            .arg("kubeconfig")
            .arg(&plan)
            .arg("--out")
            .arg(&kubeconfig),
    )?;

    let kubectl = lab::program("kubectl")?;
    say("kubectl get nodes -o wide");
    run_command(
        Command::new(&kubectl)
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .args(["get", "nodes", "-o", "wide"]),
    )?;
    say("kubectl get pods --all-namespaces");
    run_command(
        Command::new(&kubectl)
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .args(["get", "pods", "--all-namespaces"]),
    )?;

    println!(
        "\nFrom empty hosts to this cluster in {:.0} s.",
        applied.as_secs_f32()
    );
    if arguments.down {
        lab::down(&hosts)?;
        return Ok(ExitCode::SUCCESS);
    }
    println!("Look around:");
    println!(
        "  {} --kubeconfig {} get all --all-namespaces",
        kubectl.display(),
        kubeconfig.display()
    );
    println!("  cargo xtask lab ssh cp-1");
    println!(
        "  {} apply {}      (again: nothing is left to do)",
        slipway.display(),
        plan.display()
    );
    println!("Take it down:");
    println!("  cargo xtask lab down");
    Ok(ExitCode::SUCCESS)
}

/// The plan, with the place of the lab's cache put in if that is not the usual one.
fn plan() -> Result<PathBuf> {
    let cache = lab::directory()?;
    let usual = std::env::home_dir().map(|home| home.join(USUAL_CACHE.trim_start_matches("~/")));
    if usual.as_deref() == Some(cache.as_path()) {
        return Ok(PLAN.into());
    }
    let text = fs::read_to_string(PLAN)
        .explain(|| format!("cannot read {PLAN} (run it in the project's directory)"))?;
    let own = cache.join("demo.yaml");
    let text = text.replace(USUAL_CACHE, &cache.display().to_string());
    fs::write(&own, text).explain(|| format!("cannot write {}", own.display()))?;
    Ok(own)
}

/// A program that Cargo built, beside this one.
fn built_program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().explain(|| "cannot find this program".into())?;
    let program = own.parent().unwrap_or(Path::new(".")).join(name);
    if program.exists() {
        Ok(program)
    } else {
        Err(Error::new(format!("{} is not there", program.display())))
    }
}

fn say(line: &str) {
    println!("\n$ {line}");
}

/// Runs a command with its output shown.
fn run_command(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .explain(|| format!("cannot start {name}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::new(format!("{name} ended with {status}")))
    }
}
