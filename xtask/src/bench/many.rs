//! A no-op over many hosts: slipway, pyinfra and Ansible look at the same files and services and
//! find them as wanted. They take turns in every round, so that whatever else the machine does
//! meets all of them.

use super::document::{self, Row};
use super::fleet::{Fleet, bare_round_trips, end_connections, nothing_to_do};
use super::machine::{self, Machine};
use super::measured::{self, Cost, median};
use super::peers::{Peers, VERSIONS};
use super::slipway;
use crate::error::Result;
use std::fmt::Write as _;
use std::time::Duration;

/// What hosts are given before each turn to end what the one before began: logins go on for seconds after they
/// were used.
const SETTLE: Duration = Duration::from_secs(5);

/// What can be chosen.
#[derive(clap::Args, Clone, Debug)]
pub struct Arguments {
    /// How many hosts.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u8).range(1..=250))]
    hosts: u8,
    /// How often each has its turn.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    rounds: u32,
    /// Only slipway (to look for what takes long); writes nothing to docs/benchmarks.md.
    #[arg(long)]
    alone: bool,
    /// Leave the hosts running.
    #[arg(long)]
    keep: bool,
}

impl Default for Arguments {
    fn default() -> Self {
        Self { hosts: 100, rounds: 3, alone: false, keep: false }
    }
}

/// Who takes part, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contestant {
    SlipwayCold,
    SlipwayWarm,
    Bare,
    Pyinfra,
    Ansible,
}

impl Contestant {
    const ALL: [Self; 5] = [
        Self::SlipwayCold,
        Self::SlipwayWarm,
        Self::Bare,
        Self::Pyinfra,
        Self::Ansible,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::SlipwayCold => "slipway, cold",
            Self::SlipwayWarm => "slipway, warm",
            Self::Bare => "`ssh HOST true`, warm",
            Self::Pyinfra => "pyinfra (always cold)",
            Self::Ansible => "Ansible, warm",
        }
    }
}

/// One turn.
struct Turn {
    who: Contestant,
    cost: Cost,
    /// What all processors did meanwhile, in seconds.
    work: f64,
}

/// Measures, prints, and writes docs/benchmarks.md.
pub fn run(arguments: &Arguments) -> Result<()> {
    let program = slipway::build()?;
    let fleet = Fleet::boot(arguments.hosts)?;
    let measured = measure(&fleet, &program, arguments);
    if !arguments.keep {
        fleet.down()?;
    }
    let _ = std::fs::remove_dir_all(&fleet.scratch);
    let (results, description) = measured?;
    println!("{}", results.table());
    if arguments.alone {
        return Ok(());
    }
    let machine = Machine::look()?;
    document::update(&machine, &results.rows(), "hosts", &results.section(&machine, &description))
}

fn measure(fleet: &Fleet, program: &std::path::Path, arguments: &Arguments) -> Result<(Results, String)> {
    fleet.prepare(program)?;
    let log = fleet.scratch.join("run.log");
    let mut description = String::new();
    let mut peers = None;
    if !arguments.alone {
        let copies = fleet.scratch.join("copies");
        let made = fleet.made(&copies)?;
        let files: usize = made.iter().map(|made| made.files.len()).sum();
        let units: usize = made.iter().map(|made| made.units.len()).sum();
        description = format!(
            "{files} files and {units} services, on most hosts {} and {}",
            made.last().map_or(0, |made| made.files.len()),
            made.last().map_or(0, |made| made.units.len())
        );
        peers = Some(Peers::new(fleet, &made, &copies)?);
    }
    let mut results = Results { hosts: fleet.len(), turns: Vec::new(), loads: Vec::new() };
    for round in 1..=arguments.rounds {
        let runtime = fleet.scratch.join(format!("r{round}"));
        for who in Contestant::ALL {
            let command = match (who, &peers) {
                (Contestant::SlipwayCold | Contestant::SlipwayWarm, _) => Some(fleet.apply(program, &runtime)?),
                (Contestant::Bare, _) => Some(bare_round_trips(&runtime.join("slipway"))),
                (_, None) => None,
                (Contestant::Pyinfra, Some(peers)) => Some(peers.pyinfra()),
                (Contestant::Ansible, Some(peers)) => {
                    peers.connect_ansible()?;
                    Some(peers.ansible())
                }
            };
            let Some(mut command) = command else { continue };
            std::thread::sleep(SETTLE);
            results.loads.push(machine::load()?);
            let work = machine::work()?;
            let (cost, text) = measured::run(&mut command, &log)?;
            let work = machine::work()? - work;
            match (who, &peers) {
                (Contestant::Pyinfra, Some(peers)) => peers.check_pyinfra(&text)?,
                (Contestant::Ansible, Some(peers)) => peers.check_ansible(&text)?,
                (Contestant::Bare, _) => {}
                _ => nothing_to_do(&text)?,
            }
            eprintln!(
                "bench: round {round}: {}: {:.2} s; processor time {:.2} s own, {:.2} s children, {work:.1} s in all",
                who.title(),
                cost.elapsed,
                cost.own,
                cost.children
            );
            results.turns.push(Turn { who, cost, work });
        }
        end_connections(&runtime.join("slipway"));
    }
    if let Some(peers) = &peers {
        peers.end_ansible()?;
    }
    Ok((results, description))
}

/// All turns.
struct Results {
    hosts: usize,
    turns: Vec<Turn>,
    loads: Vec<f64>,
}

impl Results {
    fn middle(&self, who: Contestant, value: impl Fn(&Turn) -> f64) -> Option<f64> {
        median(self.turns.iter().filter(|turn| turn.who == who).map(value))
    }

    fn elapsed(&self, who: Contestant) -> Option<f64> {
        self.middle(who, |turn| turn.cost.elapsed)
    }

    /// What part of the other's time slipway takes, with the same kind of connections.
    fn ratio(&self, who: Contestant, other: Contestant) -> Option<f64> {
        Some(self.elapsed(who)? / self.elapsed(other)?)
    }

    fn rows(&self) -> Vec<Row> {
        use Contestant::{Ansible, Bare, Pyinfra, SlipwayCold, SlipwayWarm};
        let mut rows = Vec::new();
        // The goals are for 100 hosts; with fewer, nothing is said about them.
        let enough = self.hosts >= 100;
        let mut add = |measure, value: Option<f64>, text: &dyn Fn(f64) -> String, limit: Option<f64>| {
            let over = if enough { String::new() } else { format!(" (over {} hosts only)", self.hosts) };
            rows.extend(value.map(|value| Row {
                measure,
                measured: text(value) + &over,
                reached: limit.map(|limit| value <= limit).filter(|_| enough),
            }));
        };
        let seconds = |value: f64| format!("{value:.2} s");
        let part = |value: f64| format!("{value:.3}");
        let per_host = 1000.0 / self.hosts as f64;
        let cost = |value: f64| {
            let all = self.middle(SlipwayCold, |turn| (turn.cost.own + turn.cost.children) * per_host);
            format!("{value:.2} s; {:.0} ms of processor time per host on the operator's side", all.unwrap_or_default())
        };
        add("warm", self.elapsed(SlipwayWarm), &seconds, Some(1.0));
        let times = |value: f64| format!("{value:.1} times as long");
        add("warm, against a bare round trip to every host", self.ratio(SlipwayWarm, Bare), &times, None);
        add("warm, against pyinfra", self.ratio(SlipwayWarm, Pyinfra), &part, Some(0.1));
        add("warm, against Ansible", self.ratio(SlipwayWarm, Ansible), &part, Some(0.05));
        add("cold", self.elapsed(SlipwayCold), &cost, None);
        add("cold, against pyinfra", self.ratio(SlipwayCold, Pyinfra), &part, Some(0.5));
        let own = self.middle(SlipwayWarm, |turn| turn.cost.own * per_host);
        add("engine's processor time per host, warm", own, &|value| format!("{value:.1} ms"), Some(5.0));
        rows
    }

    fn table(&self) -> String {
        let mut text = String::from(
            "| | seconds | median | own, per host | with children, per host | whole machine, per host | memory |\n\
             |---|---|---|---|---|---|---|\n",
        );
        let per_host = 1000.0 / self.hosts as f64;
        for who in Contestant::ALL {
            let own = self.turns.iter().filter(|turn| turn.who == who);
            let times: Vec<String> = own.map(|turn| format!("{:.2}", turn.cost.elapsed)).collect();
            let Some(elapsed) = self.elapsed(who) else { continue };
            let middle = |value: fn(&Turn) -> f64| self.middle(who, value).unwrap_or_default();
            let _ = writeln!(
                text,
                "| {} | {} | {elapsed:.2} s | {:.1} ms | {:.1} ms | {:.0} ms | {:.0} MiB |",
                who.title(),
                times.join(", "),
                middle(|turn| turn.cost.own) * per_host,
                middle(|turn| turn.cost.own + turn.cost.children) * per_host,
                middle(|turn| turn.work) * per_host,
                middle(|turn| turn.cost.memory),
            );
        }
        text
    }

    fn section(&self, machine: &Machine, description: &str) -> String {
        let versions: Vec<String> = VERSIONS.iter().map(|(name, version)| format!("{name} {version}")).collect();
        format!(
            "## Nothing to do, over {} hosts\n\n{}{}.\n\nEach host has {description}. {}\n\n{}{}",
            self.hosts,
            include_str!("many.md"),
            versions.join(" and "),
            machine.sentence(&self.loads),
            self.table(),
            AFTER,
        )
    }
}

const AFTER: &str = "
Processor time is given per host: the program's own threads; with the processes it started and
waited for (ssh masters that go on after a run are not in it); and all that the whole machine did
meanwhile, which is also the hosts' part and whatever else ran. All hosts share the machine's
processors, so the whole machine's column, and not the network, bounds every time here. On hosts of
their own the hosts' part is spread over all of them.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_hosts_reach_no_goal() {
        let cost = Cost { elapsed: 0.1, ..Cost::default() };
        let turns = vec![Turn { who: Contestant::SlipwayWarm, cost, work: 1.0 }];
        let rows = Results { hosts: 10, turns, loads: Vec::new() }.rows();
        assert_eq!((rows[0].measured.as_str(), rows[0].reached), ("0.10 s (over 10 hosts only)", None));
    }

    #[test]
    fn goals_are_judged_by_the_medians() {
        let turn = |who, elapsed| Turn { who, cost: Cost { elapsed, own: 0.4, ..Cost::default() }, work: 1.0 };
        let turns = vec![
            turn(Contestant::SlipwayWarm, 0.5),
            turn(Contestant::SlipwayWarm, 0.7),
            turn(Contestant::SlipwayWarm, 9.0),
            turn(Contestant::Pyinfra, 5.0),
        ];
        let rows = Results { hosts: 100, turns, loads: Vec::new() }.rows();
        let found: Vec<_> = rows.iter().map(|row| (row.measure, row.measured.as_str(), row.reached)).collect();
        assert_eq!(
            found,
            [
                ("warm", "0.70 s", Some(true)),
                ("warm, against pyinfra", "0.140", Some(false)),
                ("engine's processor time per host, warm", "4.0 ms", Some(true)),
            ]
        );
    }
}
