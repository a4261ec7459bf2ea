//! A status for people: plain columns that read the same on a terminal, in a pipe and in a mail.
//! Nothing is said by colour.

use std::fmt::Write as _;

use super::certificates::CertificateStatus;
use super::etcd::{EtcdStatus, MemberRole, MemberRow};
use super::host::{COMPONENTS, HostStatus, OK};
use super::{Problem, Status, Verdict};
use crate::phase::Stage;
use crate::report::visible::visible;

impl Status {
    /// The text, safe for a terminal.
    #[must_use]
    pub fn to_text(&self) -> String {
        let stage = match self.stage {
            Some(Stage::Living) => "living",
            Some(Stage::Fresh) => "fresh",
            None => "not known whether living",
        };
        let mut text = format!("cluster {}: Kubernetes {}, {stage}\n", self.cluster, self.kubernetes_version);
        let mut section = |table: String| {
            if !table.is_empty() {
                text.push('\n');
                text.push_str(&table);
            }
        };
        section(columns(&["HOST", "ROLES", "NODE", "KUBELET", "RUNTIME", "OS", "KERNEL", "UNITS"], self.hosts.iter().map(host_row)));
        section(columns(
            &["HOST", "KUBELET", "API SERVER", "CONTROLLERS", "SCHEDULER", "ETCD"],
            self.hosts.iter().filter(|host| !host.components.is_empty()).map(component_row),
        ));
        if let Some(etcd) = &self.etcd {
            section(columns(
                &["ETCD MEMBER", "ID", "ROLE", "VERSION", "DATABASE", "LAG", "HEALTH"],
                etcd.members.iter().map(member_row),
            ));
            section(quorum_line(etcd));
        }
        section(columns(
            &["HOST", "CERTIFICATE THAT ENDS FIRST", "ENDS", "DAYS", "CA THAT ENDS FIRST", "ENDS", "DAYS"],
            self.hosts.iter().filter(|host| !host.certificates.is_empty()).map(certificate_row),
        ));
        section(list("warning", &self.warnings));
        section(list("problem", &self.problems));
        let (hosts, problems) = (self.hosts.len(), self.problems.len());
        let unreachable = self.hosts.iter().filter(|host| host.unreachable.is_some()).count();
        let _ = match self.verdict {
            Verdict::Healthy => writeln!(text, "\nhealthy: {hosts} hosts"),
            Verdict::Unhealthy => writeln!(text, "\nunhealthy: {} in {hosts} hosts", counted(problems, "problem")),
            Verdict::Unreachable => {
                writeln!(text, "\nnot all seen: {unreachable} of {hosts} hosts cannot be reached, {}", counted(problems, "problem"))
            }
        };
        text
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn host_row(host: &HostStatus) -> Vec<String> {
    let roles: Vec<String> = host.roles.iter().map(ToString::to_string).collect();
    if host.unreachable.is_some() {
        return vec![host.name.to_string(), roles.join("+"), "unreachable".into()];
    }
    let node = match &host.node {
        None => "-".to_owned(),
        Some(node) if !node.registered => "missing".to_owned(),
        Some(node) => {
            let ready = if node.ready { "ready" } else { "not ready" };
            format!("{ready}{}", if node.cordoned { ", cordoned" } else { "" })
        }
    };
    let reported = host.node.as_ref().map(|node| node.kubelet_version.as_str()).filter(|version| !version.is_empty());
    let kubelet = match reported {
        Some(reported) if reported != host.kubelet_installed => format!("{reported} (installed: {})", dash(&host.kubelet_installed)),
        _ => dash(&host.kubelet_installed),
    };
    let down: Vec<String> = host
        .units
        .iter()
        .filter(|unit| unit.active != "active")
        .map(|unit| format!("{} {}", unit.name.trim_end_matches(".service"), unit.active))
        .collect();
    let units = if down.is_empty() { "active".to_owned() } else { down.join(", ") };
    vec![host.name.to_string(), roles.join("+"), node, kubelet, dash(&host.runtime), dash(&host.os), dash(&host.kernel), units]
}

/// A component that is not healthy gets a word here and its reason among the problems.
fn component_row(host: &HostStatus) -> Vec<String> {
    let word = |component: &&(&'static str, &str)| match host.components.get(component.0) {
        None => "-".to_owned(),
        Some(seen) if seen == OK => seen.clone(),
        Some(_) => "FAILED".to_owned(),
    };
    std::iter::once(host.name.to_string()).chain(COMPONENTS.iter().map(|component| word(&component))).collect()
}

fn member_row(row: &MemberRow) -> Vec<String> {
    let name = match (&row.host, row.name.as_str()) {
        (Some(host), "") => format!("{host} (no name)"),
        (None, "") => "(no name)".to_owned(),
        (_, name) => name.to_owned(),
    };
    let role = match row.role {
        MemberRole::Leader => "leader",
        MemberRole::Voter => "voter",
        MemberRole::Learner => "learner",
        MemberRole::Stranger => "unknown to etcd",
    };
    vec![
        name,
        row.id.map_or_else(|| "-".to_owned(), |id| id.to_string()),
        role.to_owned(),
        dash(&row.version),
        row.database_bytes.map_or_else(|| "-".to_owned(), size),
        row.lag.map_or_else(|| "-".to_owned(), |lag| lag.to_string()),
        row.health.clone(),
    ]
}

fn quorum_line(etcd: &EtcdStatus) -> String {
    let EtcdStatus { healthy, voters, quorum, .. } = etcd;
    let spare = match healthy.checked_sub(*quorum) {
        None => "no quorum".to_owned(),
        Some(0) => "none more may fail".to_owned(),
        Some(spare) => format!("{spare} more may fail"),
    };
    format!("etcd: {healthy} of {voters} voting members healthy, quorum is {quorum}: {spare}\n")
}

fn certificate_row(host: &HostStatus) -> Vec<String> {
    let mut row = vec![host.name.to_string()];
    for authority in [false, true] {
        row.extend(certificate_columns(host.first_to_end(authority)));
    }
    row
}

fn certificate_columns(certificate: Option<&CertificateStatus>) -> [String; 3] {
    let Some(certificate) = certificate else { return ["-", "-", "-"].map(str::to_owned) };
    let ends = certificate.not_after.map_or_else(|| "unreadable".to_owned(), |end| end.strftime("%Y-%m-%d").to_string());
    let days = certificate.days_left.map_or_else(|| "-".to_owned(), |days| days.to_string());
    [certificate.name.clone(), ends, days]
}

fn list(word: &str, problems: &[Problem]) -> String {
    problems.iter().fold(String::new(), |mut text, problem| {
        let place = problem.host.as_ref().map_or_else(String::new, |host| format!("{host}: "));
        let _ = writeln!(text, "{word}: {place}{}", visible(&problem.message));
        text
    })
}

fn dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

fn size(bytes: u64) -> String {
    let tenths = (bytes * 10).div_euclid(1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// Rows below a heading, each column as wide as its widest cell; nothing if there are no rows.
/// A table with a heading, safe for a terminal; empty without rows.
pub(crate) fn columns(heading: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut lines: Vec<Vec<String>> = vec![heading.iter().map(|&word| word.to_owned()).collect()];
    lines.extend(rows.map(|row| row.iter().map(|cell| visible(cell)).collect()));
    if lines.len() == 1 {
        return String::new();
    }
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..heading.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    text
}
