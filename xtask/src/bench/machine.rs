//! What the numbers were measured on, and how busy it was.

use crate::error::{Error, Explain, Result};
use std::process::Command;

/// This machine, and the day.
pub struct Machine {
    /// The processor's own name.
    pub processor: String,
    /// How many of them.
    pub processors: usize,
    /// Memory in GiB.
    pub memory: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The day, in UTC.
    pub date: String,
}

impl Machine {
    /// Looks at it.
    pub fn look() -> Result<Self> {
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let processors = read("/proc/cpuinfo")?;
        let memory = field(&read("/proc/meminfo")?, "MemTotal").unwrap_or_default();
        let kibibytes: u64 = memory
            .trim_end_matches(" kB")
            .parse()
            .explain(|| "cannot understand /proc/meminfo".into())?;
        let date = Command::new("date").args(["-u", "+%F"]).output();
        let date = date.explain(|| "cannot run `date`".into())?;
        Ok(Self {
            processor: field(&processors, "model name").unwrap_or_else(|| "unknown".into()),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory: (kibibytes + (1 << 19)) >> 20,
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            date: String::from_utf8_lossy(&date.stdout).trim().to_owned(),
        })
    }
}

impl Machine {
    /// What the numbers of a section were measured on, with the machine's load before the turns.
    pub fn sentence(&self, loads: &[f64]) -> String {
        let Self { processor, processors, memory, kernel, date } = self;
        let least = loads.iter().copied().fold(f64::MAX, f64::min);
        let most = loads.iter().copied().fold(0.0, f64::max);
        let load = match loads {
            [] => String::new(),
            _ => format!(" The machine's load before a turn was between {least:.1} and {most:.1}."),
        };
        format!(
            "Measured on {date}, on {processors} processors ({processor}), {memory} GiB of memory, Linux {kernel}.{load}"
        )
    }
}

/// How many processes wanted a processor, on the average of the last minute.
pub fn load() -> Result<f64> {
    let text = read("/proc/loadavg")?;
    let first = text.split_whitespace().next().unwrap_or_default();
    first
        .parse()
        .explain(|| "cannot understand /proc/loadavg".into())
}

/// How much all processors have worked since the machine started, in seconds.
pub fn work() -> Result<f64> {
    let text = read("/proc/stat")?;
    let ticks: Option<Vec<f64>> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .map(|number| number.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq; proc(5): in hundredths of a second.
    match ticks.as_deref() {
        Some([user, nice, system, _, _, irq, softirq, ..]) => {
            Ok((user + nice + system + irq + softirq) / 100.0)
        }
        _ => Err(Error::new("cannot understand /proc/stat")),
    }
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(path).explain(|| format!("cannot read {path}"))
}
