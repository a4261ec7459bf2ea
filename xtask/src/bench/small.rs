//! What slipway does without any host: `--help`, `check` of a large plan, `simulate` of a larger one.

use super::document::{self, Row};
use super::machine::{self, Machine};
use super::measured::{self, median};
use super::scratch::Scratch;
use crate::error::{Error, Explain, Result};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// The release in plans that only slipway reads.
pub const PLANNED_VERSION: &str = "v1.34.2";

/// A plan of that many hosts, with what plans of that size have: labels, taints, own addresses.
pub fn plan_text(control_planes: usize, workers: usize) -> String {
    let mut text = format!(
        "version: 1\nname: large\nkubernetes: {{version: {PLANNED_VERSION}}}\n\
         endpoint: {{external: {{address: api.example.test}}}}\n\
         network: {{podCidrs: [10.128.0.0/9], cni: none}}\nssh: {{user: root}}\nhosts:\n"
    );
    for number in 0..control_planes + workers {
        // Not one after another, so that nothing is sorted by chance.
        let address = format!("10.{}.{}.{}", 64 + number / 40_000, number / 200 % 200, 1 + number % 200);
        let (name, role) = match number < control_planes {
            true => (format!("cp-{}", number + 1), "control-plane"),
            false => (format!("worker-{}", number + 1 - control_planes), "worker"),
        };
        text.push_str(&format!(
            "  - name: {name}\n    address: {address}\n    roles: [{role}]\n    \
             labels: {{example.test/rack: r{}, example.test/kind: k{}}}\n",
            number / 40,
            number % 3
        ));
        if number % 10 == 9 {
            text.push_str("    taints: [{key: example.test/only, value: batch, effect: NoSchedule}]\n");
        }
    }
    text
}

/// `slipway --help`, many times.
pub fn help(program: &Path) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..50 {
        let start = Instant::now();
        quiet(Command::new(program).arg("--help"))?;
        times.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    let middle = median(times).unwrap_or_default();
    println!("slipway --help: {middle:.1} ms, the median of 50");
    let row = Row {
        measure: "`slipway --help`",
        measured: format!("{middle:.1} ms"),
        reached: Some(middle < 10.0),
    };
    document::update(&Machine::look()?, &[row], "", "")
}

/// `slipway check` of a plan of 1,000 hosts.
pub fn check(program: &Path) -> Result<()> {
    let scratch = Scratch::new("check")?;
    let plan = scratch.path().join("plan.yaml");
    let text = plan_text(5, 995);
    std::fs::write(&plan, &text).explain(|| format!("cannot write {}", plan.display()))?;
    let mut times = Vec::new();
    let loads = [machine::load()?];
    for _ in 0..20 {
        let start = Instant::now();
        quiet(Command::new(program).arg("check").arg(&plan))?;
        times.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    let middle = median(times.iter().copied()).unwrap_or_default();
    let least = times.iter().copied().fold(f64::MAX, f64::min);
    println!("slipway check of 1,000 hosts: {middle:.0} ms, the median of 20");
    let machine = Machine::look()?;
    let section = format!(
        "## A plan of 1,000 hosts\n\n`slipway check` of a plan file of 5 control planes and 995 workers with labels, \
         every tenth with a taint ({} KiB). 20 runs: median {middle:.0} ms, shortest {least:.0} ms. {}\n",
        text.len() >> 10,
        machine.sentence(&loads)
    );
    let row = Row {
        measure: "check of a plan of 1,000 hosts",
        measured: format!("{middle:.0} ms"),
        reached: Some(middle < 100.0),
    };
    document::update(&machine, &[row], "check", &section)
}

/// `slipway simulate` of 10,000 hosts.
pub fn simulate(program: &Path) -> Result<()> {
    let known = Command::new(program)
        .args(["simulate", "--help"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !known.is_ok_and(|status| status.success()) {
        eprintln!("bench: this slipway has no command `simulate`; left out");
        return Ok(());
    }
    let scratch = Scratch::new("simulate")?;
    let plan = scratch.path().join("plan.yaml");
    std::fs::write(&plan, plan_text(3, 7)).explain(|| format!("cannot write {}", plan.display()))?;
    let load = machine::load()?;
    let mut command = Command::new(program);
    command.arg("simulate").arg(&plan).args(["--hosts", "10000"]);
    let (cost, text) = measured::run(&mut command, &scratch.path().join("log"))?;
    println!("slipway simulate --hosts 10000: {:.1} s, {:.0} MiB", cost.elapsed, cost.memory);
    let machine = Machine::look()?;
    let lines: Vec<&str> = text.lines().collect();
    let section = format!(
        "## 10,000 simulated hosts\n\n`slipway simulate PLAN --hosts 10000`: {:.1} s, {:.1} s of processor time, at most \
         {:.0} MiB. {} Its last lines:\n\n```\n{}\n```\n",
        cost.elapsed,
        cost.own,
        cost.memory,
        machine.sentence(&[load]),
        lines[lines.len().saturating_sub(5)..].join("\n")
    );
    let row = Row {
        measure: "10,000 hosts scheduled and simulated",
        measured: format!("{:.1} s and {:.0} MB", cost.elapsed, cost.memory * 1.048_576),
        reached: Some(cost.elapsed < 5.0 && cost.memory * 1.048_576 < 500.0),
    };
    document::update(&machine, &[row], "simulate", &section)
}

fn quiet(command: &mut Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .explain(|| "cannot start slipway".into())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(Error::new(String::from_utf8_lossy(&output.stderr).into_owned())),
    }
}
