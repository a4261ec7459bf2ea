//! docs/benchmarks.md: a table of all measures, and a section for each benchmark.
//!
//! Benchmarks run on their own, so each replaces its own rows and section and
//! leaves what the others wrote.

use super::machine::Machine;
use crate::error::{Explain, Result};
use std::fmt::Write as _;

/// Where it is.
pub const FILE: &str = "docs/benchmarks.md";

const HEAD: &str = "# Benchmarks

Written by `cargo xtask bench`; do not edit it, run it again. Each benchmark replaces its own rows
and section: `cargo xtask bench hosts`, `check`, `start`, `pki` and `simulate`, all of them without
a name, and `cargo xtask bench bootstrap --write`. The lab that the hosts come from is described in
[lab.md](lab.md). All programs are release builds.
";

/// Rows of the table, with the goals set before the first measurement, in the table's order.
const GOALS: [(&str, &str); 13] = [
    ("warm", "under 1 s"),
    ("warm, against a bare round trip to every host", "stated"),
    ("warm, against pyinfra", "at most 0.1"),
    ("warm, against Ansible", "at most 0.05"),
    ("cold", "stated"),
    ("cold, against pyinfra", "at most 0.5"),
    ("engine's processor time per host, warm", "under 5 ms"),
    ("check of a plan of 1,000 hosts", "under 100 ms"),
    ("keys and certificates of 5 control planes and 100 workers", "all processors busy; ratios stated"),
    ("`slipway --help`", "under 10 ms"),
    ("10,000 hosts scheduled and simulated", "under 5 s and 500 MB"),
    ("bootstrap, against kubeadm with joins in turn", "at most 0.5"),
    ("bootstrap, against kubeadm with all joins at once", "stated"),
];

/// Sections, in their order.
const SECTIONS: [&str; 5] = ["hosts", "check", "pki", "simulate", "bootstrap"];

/// What was measured for a row of the table.
pub struct Row {
    /// Which row.
    pub measure: &'static str,
    /// In words, with units.
    pub measured: String,
    /// Whether the goal was reached; none where the goal is only to state it.
    pub reached: Option<bool>,
}

/// Replaces rows and a section in the document.
pub fn update(machine: &Machine, rows: &[Row], section: &str, text: &str) -> Result<()> {
    let old = std::fs::read_to_string(FILE)
        .explain(|| format!("cannot read {FILE} (run this at the top of the project)"))?;
    let new = updated(&old, &machine.date, rows, section, text);
    std::fs::write(FILE, new).explain(|| format!("cannot write {FILE}"))?;
    eprintln!("bench: wrote {FILE}");
    Ok(())
}

fn updated(old: &str, date: &str, rows: &[Row], section: &str, text: &str) -> String {
    let mut new = format!("{HEAD}\n## Measures\n\n| measure | goal | measured | reached | on |\n|---|---|---|---|---|\n");
    for (measure, goal) in GOALS {
        let start = format!("| {measure} | {goal} | ");
        if let Some(row) = rows.iter().find(|row| row.measure == measure) {
            let reached = match row.reached {
                Some(true) => "yes",
                Some(false) => "no",
                None => "",
            };
            let _ = writeln!(new, "{start}{} | {reached} | {date} |", row.measured);
        } else if let Some(line) = old.lines().find(|line| line.starts_with(&start)) {
            let _ = writeln!(new, "{line}");
        }
    }
    new.push_str(
        "\n*Warm* and *cold* are a no-op `apply` over 100 hosts, with and without connections that an \
         earlier run left; ratios are of the medians, slipway's to the other's.\n",
    );
    for name in SECTIONS {
        let (begin, end) = (format!("\n<!-- {name} -->\n"), format!("<!-- end of {name} -->\n"));
        let kept = old
            .split_once(&begin)
            .and_then(|(_, rest)| Some(rest.split_once(&end)?.0));
        let text = if name == section { Some(text) } else { kept };
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            let _ = write!(new, "{begin}{}\n{end}", text.trim_end());
        }
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_benchmarks_wrote_stays() {
        let row = |measured: &str| Row { measure: "warm", measured: measured.into(), reached: Some(false) };
        let help = Row { measure: "`slipway --help`", measured: "3 ms".into(), reached: Some(true) };
        let first = updated("", "2026-01-01", &[row("2 s")], "hosts", "## Hosts\n\nfirst text\n");
        let second = updated(&first, "2026-01-02", &[help], "", "");
        assert!(second.contains("| warm | under 1 s | 2 s | no | 2026-01-01 |\n"), "{second}");
        assert!(second.contains("| `slipway --help` | under 10 ms | 3 ms | yes | 2026-01-02 |\n"));
        assert!(second.contains("<!-- hosts -->\n## Hosts\n\nfirst text\n<!-- end of hosts -->\n"));
        let third = updated(&second, "2026-01-03", &[row("1 s")], "hosts", "## Hosts\n\nnew\n");
        assert!(third.contains("new") && !third.contains("first text") && third.contains("3 ms"));
        assert_eq!(third.matches("| warm | ").count(), 1);
    }
}
