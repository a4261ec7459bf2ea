//! The numbers, as a table for the terminal and as a document.

use super::Contestant;
use super::document::{self, Row};
use super::machine::Machine;
use super::measured::median;
use crate::error::Result;
use std::fmt::Write as _;
use std::time::Duration;

/// One contestant's way to the finish line.
pub struct Lap {
    /// All of it.
    pub elapsed: Duration,
    /// What it was made of, in order.
    pub parts: Vec<Part>,
}

/// A part of a lap, from and to since its start.
#[derive(Clone)]
pub struct Part {
    /// What was done.
    pub title: String,
    pub from: Duration,
    pub to: Duration,
}

/// One measurement.
pub struct Attempt {
    /// Who.
    pub contestant: Contestant,
    /// How busy the machine was before it.
    pub load: f64,
    /// How much all processors worked meanwhile (for whomever), in seconds.
    pub work: f64,
    /// How it went.
    pub lap: Lap,
}

impl Attempt {
    /// One line.
    pub fn summary(&self) -> String {
        format!(
            "{} took {:.1} s ({:.0} s of processor time; load before {:.1})",
            self.contestant.title(),
            self.lap.elapsed.as_secs_f64(),
            self.work,
            self.load
        )
    }
}

/// All measurements of one run.
pub struct Results {
    /// Where and when.
    pub machine: Machine,
    /// In the order they were made.
    pub attempts: Vec<Attempt>,
}

impl Results {
    /// No measurements yet.
    pub fn new(machine: Machine) -> Self {
        Self {
            machine,
            attempts: Vec::new(),
        }
    }

    fn of(&self, contestant: Contestant) -> Vec<&Attempt> {
        let own = self.attempts.iter();
        own.filter(|attempt| attempt.contestant == contestant)
            .collect()
    }

    /// The middle of a contestant's times, in seconds.
    fn median(&self, contestant: Contestant) -> Option<f64> {
        let times = self.of(contestant).into_iter();
        median(times.map(|attempt| attempt.lap.elapsed.as_secs_f64()))
    }

    /// The attempt that took the middle time (the lower one of two).
    fn typical(&self, contestant: Contestant) -> Option<&Attempt> {
        let mut own = self.of(contestant);
        own.sort_by_key(|attempt| attempt.lap.elapsed);
        own.get(own.len().checked_sub(1)? / 2).copied()
    }

    /// Rows of contestant, times, median, processor time, and what part of it slipway takes.
    fn rows(&self) -> Vec<[String; 5]> {
        let slipway = self.median(Contestant::Slipway);
        let row = |contestant: Contestant| {
            let own = self.of(contestant);
            let median_time = self.median(contestant)?;
            let times: Vec<String> = own
                .iter()
                .map(|attempt| format!("{:.1}", attempt.lap.elapsed.as_secs_f64()))
                .collect();
            let work = median(own.iter().map(|attempt| attempt.work))?;
            let ratio = match slipway {
                Some(slipway) if contestant != Contestant::Slipway => {
                    format!("{:.2}", slipway / median_time)
                }
                _ => String::new(),
            };
            Some([
                contestant.title().to_owned(),
                times.join(", "),
                format!("{median_time:.1} s"),
                format!("{work:.0} s"),
                ratio,
            ])
        };
        Contestant::ALL.into_iter().filter_map(row).collect()
    }

    /// For the terminal.
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "\n{:<24} {:<24} {:>8} {:>10} {:>8}\n",
            "", "times in seconds", "median", "processor", "ratio"
        );
        for [who, times, median, work, ratio] in self.rows() {
            let _ = writeln!(
                text,
                "{who:<24} {times:<24} {median:>8} {work:>10} {ratio:>8}"
            );
        }
        for contestant in Contestant::ALL {
            let Some(attempt) = self.typical(contestant) else {
                continue;
            };
            let _ = writeln!(text, "\n{}:", attempt.summary());
            for part in &attempt.lap.parts {
                let (from, to) = (part.from.as_secs_f64(), part.to.as_secs_f64());
                let _ = writeln!(
                    text,
                    "  {from:>6.1} to {to:>6.1}  {:>6.1} s  {}",
                    to - from,
                    part.title
                );
            }
        }
        text
    }

    /// Writes docs/benchmarks.md.
    pub fn write(&self) -> Result<()> {
        let row = |measure, other, goal: Option<f64>| {
            let (own, other) = (self.median(Contestant::Slipway)?, self.median(other)?);
            Some(Row {
                measure,
                measured: format!("{:.2} ({own:.1} s, kubeadm {other:.1} s)", own / other),
                reached: goal.map(|goal| own / other <= goal),
            })
        };
        let rows: Vec<Row> = [
            row("bootstrap, against kubeadm with joins in turn", Contestant::KubeadmInTurn, Some(0.5)),
            row("bootstrap, against kubeadm with all joins at once", Contestant::KubeadmAtOnce, None),
        ]
        .into_iter()
        .flatten()
        .collect();
        document::update(&self.machine, &rows, "bootstrap", &self.to_section())
    }

    fn to_section(&self) -> String {
        let rounds = self.of(Contestant::Slipway).len();
        let loads: Vec<f64> = self.attempts.iter().map(|attempt| attempt.load).collect();
        let mut text = format!(
            "{INTRODUCTION}\n### Result\n\n{rounds} rounds. {}\n\n\
             | | times in seconds | median | processor time | slipway takes |\n|---|---|---|---|---|\n",
            self.machine.sentence(&loads)
        );
        for [who, times, median, work, ratio] in self.rows() {
            let ratio = if ratio.is_empty() {
                ratio
            } else {
                format!("{ratio} of it")
            };
            let _ = writeln!(text, "| {who} | {times} | {median} | {work} | {ratio} |");
        }
        text.push_str(
            "\nProcessor time is that of the whole machine during the turn. On a machine with few \
             processors it is what bounds every contestant, as all five hosts share them.\n",
        );
        for contestant in Contestant::ALL {
            let Some(attempt) = self.typical(contestant) else {
                continue;
            };
            let _ = writeln!(
                text,
                "\n### Where the time goes: {}\n\n| from | to | seconds | what |\n|---|---|---|---|",
                contestant.title()
            );
            for part in &attempt.lap.parts {
                let (from, to) = (part.from.as_secs_f64(), part.to.as_secs_f64());
                let _ = writeln!(
                    text,
                    "| {from:.1} | {to:.1} | {:.1} | {} |",
                    to - from,
                    part.title
                );
            }
        }
        text
    }
}

/// What is measured, and how; the numbers follow.
const INTRODUCTION: &str = include_str!("introduction.md");

#[cfg(test)]
mod tests {
    use super::*;

    fn results(times: &[(Contestant, u64)]) -> Results {
        let machine = Machine {
            processor: "P".into(),
            processors: 2,
            memory: 4,
            kernel: "6".into(),
            date: "2026-01-01".into(),
        };
        let attempts = times.iter().map(|&(contestant, seconds)| Attempt {
            contestant,
            load: 0.5,
            work: 10.0,
            lap: Lap {
                elapsed: Duration::from_secs(seconds),
                parts: Vec::new(),
            },
        });
        Results {
            attempts: attempts.collect(),
            machine,
        }
    }

    #[test]
    fn the_ratio_is_of_the_medians() {
        use Contestant::{KubeadmInTurn, Slipway};
        let results = results(&[
            (Slipway, 30),
            (KubeadmInTurn, 100),
            (Slipway, 40),
            (KubeadmInTurn, 180),
        ]);
        let rows = results.rows();
        assert_eq!(rows.len(), 2, "who did not take part has no row");
        assert_eq!(
            rows[0],
            ["slipway apply", "30.0, 40.0", "35.0 s", "10 s", ""]
        );
        assert_eq!(rows[1][2..], ["140.0 s", "10 s", "0.25"]);
    }
}
