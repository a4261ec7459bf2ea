//! slipway's turn: `slipway apply` of the release build, from nothing but the plan file.
//!
//! Everything is inside its time: making the SSH connections, keys and
//! certificates, the hosts' kernel settings, containerd and units.

use super::finish;
use super::hosts::{CONTROL_PLANES, Hosts, KUBELET, WORKERS, endpoint};
use super::results::{Lap, Part};
use super::scratch::Scratch;
use crate::error::{Error, Explain, Result};
use crate::lab::address::address;
use crate::lab::kubernetes::SOURCE_VERSION;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Builds the release program and says where it is.
pub fn build() -> Result<PathBuf> {
    // This program is TARGET/PROFILE/xtask.
    let own = std::env::current_exe().explain(|| "cannot find this program".into())?;
    let target = own
        .ancestors()
        .nth(2)
        .ok_or_else(|| Error::new("this program was not built by cargo"))?;
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "build",
            "--release",
            "--package",
            "slipway",
            "--bin",
            "slipway",
            "--quiet",
        ])
        .arg("--target-dir")
        .arg(target)
        .status()
        .explain(|| "cannot start cargo".into())?;
    match status.success() {
        true => Ok(target.join("release/slipway")),
        false => Err(Error::new("slipway does not build")),
    }
}

/// Makes the cluster and says how long it took.
pub fn bootstrap(hosts: &Hosts, program: &Path) -> Result<Lap> {
    let scratch = Scratch::new("bench")?;
    let plan = scratch.path().join("plan.yaml");
    std::fs::write(&plan, plan_text(hosts))
        .explain(|| format!("cannot write {}", plan.display()))?;

    let start = Instant::now();
    let mut child = Command::new(program)
        .args(["apply", "--yes", "--output", "json"])
        .arg(&plan)
        // No connection, journal or other trace of an earlier run.
        .env("XDG_RUNTIME_DIR", scratch.path())
        .env("XDG_STATE_HOME", scratch.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .explain(|| format!("cannot start {}", program.display()))?;
    let output = child
        .stdout
        .take()
        .ok_or_else(|| Error::new("slipway has no standard output"))?;
    let mut line = TimeLine::default();
    for text in BufReader::new(output).lines() {
        let text = text.explain(|| "cannot read slipway's events".into())?;
        let event: Value = serde_json::from_str(&text)
            .explain(|| format!("slipway wrote a line that is no event: {text}"))?;
        line.record(&event, start.elapsed());
    }
    let status = child.wait().explain(|| "cannot wait for slipway".into())?;
    if !status.success() {
        return Err(Error::new(format!("slipway ended with {status}")));
    }
    let begun = start.elapsed();
    finish::wait(hosts)?;
    let mut parts = line.longest_path();
    parts.push(Part {
        title: "finish".into(),
        from: begun,
        to: start.elapsed(),
    });
    Ok(Lap {
        elapsed: start.elapsed(),
        parts,
    })
}

/// When steps began and ended, as seen here.
#[derive(Default)]
struct TimeLine {
    planned: Duration,
    steps: Vec<Part>,
    longest: Vec<String>,
}

impl TimeLine {
    fn record(&mut self, event: &Value, now: Duration) {
        let step = event["step"].as_str().unwrap_or_default();
        match event["event"].as_str() {
            Some("run-started") => self.planned = now,
            Some("step-started") => self.steps.push(Part {
                title: step.to_owned(),
                from: now,
                to: now,
            }),
            Some("step-finished") => {
                if let Some(part) = self.steps.iter_mut().find(|part| part.title == step) {
                    part.to = now;
                }
            }
            Some("run-finished") => {
                let path = event["longestPath"].as_array().into_iter().flatten();
                self.longest = path.filter_map(Value::as_str).map(str::to_owned).collect();
            }
            _ => {}
        }
    }

    /// What decided how long the run took: planning, then each step that the next one waited for.
    fn longest_path(self) -> Vec<Part> {
        let planning = Part {
            title: "planning".into(),
            from: Duration::ZERO,
            to: self.planned,
        };
        let on_path = |part: &Part| self.longest.contains(&part.title);
        let mut parts: Vec<Part> = self
            .steps
            .iter()
            .filter(|part| on_path(part))
            .cloned()
            .collect();
        parts.insert(0, planning);
        parts
    }
}

fn plan_text(hosts: &Hosts) -> String {
    let (identity, known_hosts) = hosts.keys();
    let mut text = format!(
        "version: 1
name: bench
kubernetes: {{version: {SOURCE_VERSION}}}
endpoint: {{external: {{address: {endpoint}}}}}
runtime:
  cgroupDriver: cgroupfs
  settings:
    plugins: {{io.containerd.grpc.v1.cri: {{restrict_oom_score_adj: true}}}}
kubeProxy:
  configuration:
    conntrack: {{maxPerCore: 0, min: 0}}
binaries: {{kubelet: preinstalled, kubectl: preinstalled}}
kubelet:
  configuration:
{kubelet}ssh:
  user: root
  identityFile: {identity}
  knownHostsFile: {known_hosts}
hosts:
",
        endpoint = endpoint(),
        kubelet = KUBELET
            .replace("evictionHard", "    evictionHard")
            .replace("imageGC", "    imageGC"),
        identity = identity.display(),
        known_hosts = known_hosts.display(),
    );
    for (names, role) in [
        (&CONTROL_PLANES[..], "control-plane"),
        (&WORKERS[..], "worker"),
    ] {
        for name in names {
            text.push_str(&format!(
                "  - {{name: {name}, address: {}, roles: [{role}]}}\n",
                address(name)
            ));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_time_line_has_planning_and_the_longest_path() {
        let mut line = TimeLine::default();
        let at = Duration::from_secs;
        line.record(&json!({"event": "run-started"}), at(1));
        for step in ["system@a", "system@b"] {
            line.record(&json!({"event": "step-started", "step": step}), at(2));
        }
        line.record(
            &json!({"event": "step-finished", "step": "system@b"}),
            at(3),
        );
        line.record(
            &json!({"event": "step-finished", "step": "system@a"}),
            at(5),
        );
        line.record(
            &json!({"event": "run-finished", "longestPath": ["system@a"]}),
            at(5),
        );
        let parts: Vec<(String, u64, u64)> = line
            .longest_path()
            .into_iter()
            .map(|part| (part.title, part.from.as_secs(), part.to.as_secs()))
            .collect();
        assert_eq!(
            parts,
            [("planning".into(), 0, 1), ("system@a".into(), 2, 5)]
        );
    }
}
