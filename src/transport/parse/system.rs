//! The text sections of a probe's answer: what a host is, its units, programs and runtime.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::ProbeRequest;
use super::{Sections, printable};
use crate::artifact::snapshot::Taken;
use crate::transport::probe::parameter_file;
use crate::facts::{Began, FoundPackage, FoundProgram, FoundUnit, InterfaceAddress, System};
use crate::names::{Mode, RemotePath};

/// What the host is.
pub(super) fn system(request: &ProbeRequest, sections: &Sections<'_>) -> System {
    let value = |key| printable(sections.value("system", key));
    let os = |key| printable(sections.value("os", key).trim_matches(['"', '\'']));
    System {
        hostname: value("hostname"),
        os_id: os("ID"),
        os_version: os("VERSION_ID"),
        os_name: os("PRETTY_NAME"),
        architecture: match sections.value("system", "machine") {
            "x86_64" => "amd64".into(),
            "aarch64" => "arm64".into(),
            // It stands in names of files of this machine (`upload: kubelet-{arch}`): a word, or nothing.
            other if is_word(other) => other.to_owned(),
            _ => "unknown".into(),
        },
        kernel: value("kernel"),
        cpus: count_of_list(of_process(sections, "Cpus_allowed_list").unwrap_or_default()),
        memory_bytes: number::<u64>(sections.value("system", "memory")).saturating_mul(1024),
        swap: sections
            .lines("swap")
            .filter_map(|line| line.split_whitespace().next())
            .filter(|device| *device != "Filename")
            .map(printable)
            .collect(),
        cgroup_version: if sections.value("system", "cgroup") == "2" { 2 } else { 1 },
        addresses: addresses(sections),
        machine_id: value("machine_id"),
        clock: seconds(clock(sections)).unwrap_or(0.0),
        listening: sections.lines("listening").filter_map(listening_port).map(|port| (port, String::new())).collect(),
        commands: sections.values("commands").filter(|(_, path)| is_plain_path(path)).map(|(name, path)| (printable(name), path.to_owned())).collect(),
        containerd_version: version_word(sections, "containerd", 2).trim_start_matches('v').to_owned(),
        runtime_answers: sections.has("runtime", "answers")
            || (sections.has("runtime", "socket") && !sections.has("runtime", "ctr")),
        kubelet_version: version_word(sections, "kubelet", 1),
        cni_directory: Some(value("cni")).filter(|directory| is_plain_path(directory)),
        systemd_resolved: sections.value("system", "resolved") == "yes" && resolved_runs(request, sections),
        ca_directories: sections.values("system").filter(|(key, _)| *key == "ca").map(|(_, path)| printable(path)).collect(),
        modules: modules(request, sections),
        sysctls: request.sysctls.iter().filter_map(|key| Some((key.clone(), printable(parameter(sections, key)?)))).collect(),
        root: of_process(sections, "Uid") == Some("0"),
        free_bytes: free_bytes(sections),
        systemd: sections.value("system", "init") == "systemd",
    }
}

/// The modules that were asked for and are there: `br_netfilter`, or `/br-netfilter.ko` in the kernel's list.
fn modules(request: &ProbeRequest, sections: &Sections<'_>) -> BTreeSet<String> {
    let plain = |name: &str| name.trim_start_matches('/').trim_end_matches(".ko").replace('-', "_");
    let there: BTreeSet<String> = sections.lines("modules").map(plain).collect();
    request.modules.iter().filter(|module| there.contains(&plain(module))).cloned().collect()
}

/// The units that were asked for; `systemctl show` answers in the order of the names.
pub(super) fn units(request: &ProbeRequest, sections: &Sections<'_>) -> BTreeMap<String, FoundUnit> {
    let blocks = unit_blocks(sections);
    let clock = clock(sections);
    let unit = |(index, name): (usize, &String)| {
        let block = blocks.get(index);
        let value = |key| block.and_then(|block| block.get(key)).copied().map(printable).unwrap_or_default();
        let stamp = sections.value("stamps", name).parse().ok();
        let began = block.and_then(|block| began(block, clock, sections.value("system", "uptime")));
        (name.clone(), FoundUnit { active: value("ActiveState"), enabled: value("UnitFileState"), stamp, began })
    };
    request.units.iter().enumerate().map(unit).collect()
}

/// When a unit's program was started, by what `systemctl show` says of it, the clock and /proc/uptime. systemd
/// notes both what the clock said (in whole seconds) and how long the system had been up, in microseconds.
fn began(unit: &BTreeMap<&str, &str>, clock: &str, uptime: &str) -> Option<Began> {
    let value = |key| unit.get(key).copied().unwrap_or_default();
    if value("ActiveState") != "active" {
        return None;
    }
    // `Sat 2026-11-21 03:00:00 UTC`
    let words: Vec<&str> = value("ExecMainStartTimestamp").split_whitespace().collect();
    let [_, date, time, "UTC"] = words[..] else { return None };
    let noted = format!("{date}T{time}Z").parse::<jiff::Timestamp>().ok()?.as_second();
    let up_then: f64 = value("ExecMainStartTimestampMonotonic").parse().ok()?;
    let up_now: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    let reckoned = seconds(clock)? - (up_now - up_then / 1e6);
    #[expect(clippy::cast_possible_truncation, reason = "a number out of range becomes the largest, which is no time of anything")]
    let reckoned = reckoned.is_finite().then(|| reckoned.floor() as i64)?;
    Some(Began { noted, reckoned })
}

/// The answer to `probe::KUBELET_BEGAN`: whether it runs, and when it was started if that can be told.
pub(super) fn kubelet_began(answer: &str) -> (bool, Option<Began>) {
    let told: BTreeMap<&str, &str> = answer.lines().filter_map(|line| line.split_once('=')).collect();
    let value = |key| told.get(key).copied().unwrap_or_default();
    (value("ActiveState") == "active", began(&told, value("clock"), value("uptime")))
}

fn seconds(clock: &str) -> Option<f64> {
    clock.parse().ok().filter(|clock: &f64| clock.is_finite())
}

/// What is told of a file that is only looked at from outside: `/SIZE MODE DEVICE:INODE WRITTEN CHANGED NAME`.
struct Told<'a> {
    size: &'a str,
    mode: &'a str,
    /// Seconds since 1970, with a fraction.
    written: &'a str,
    name: &'a str,
}

impl<'a> Told<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let words: Vec<&str> = line.strip_prefix('/')?.splitn(6, ' ').collect();
        let [size, mode, _, written, _, name] = words[..] else { return None };
        Some(Self { size, mode, written, name })
    }
}

/// What the host's clock said, in seconds since 1970: /proc/self came to be when it was asked for.
fn clock<'a>(sections: &Sections<'a>) -> &'a str {
    let mut files = sections.lines("files").filter_map(Told::read);
    files.find(|told| told.name == "/proc/self").map_or("", |told| told.written)
}

/// systemd-resolved comes after the units that were asked for.
fn resolved_runs(request: &ProbeRequest, sections: &Sections<'_>) -> bool {
    unit_blocks(sections).get(request.units.len()).is_some_and(|block| block.get("ActiveState") == Some(&"active"))
}

fn unit_blocks<'a>(sections: &Sections<'a>) -> Vec<BTreeMap<&'a str, &'a str>> {
    let mut blocks = vec![BTreeMap::new()];
    for line in sections.all_lines("units") {
        if line.is_empty() {
            blocks.push(BTreeMap::new());
        } else if let (Some(block), Some((key, value))) = (blocks.last_mut(), line.split_once('=')) {
            block.insert(key, value);
        }
    }
    blocks
}

/// How many containers run, of the table `ctr tasks ls` prints.
pub(super) fn running(sections: &Sections<'_>) -> u32 {
    let count = sections.lines("tasks").filter(|line| line.split_whitespace().nth(2) == Some("RUNNING")).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The programs that are there, with slipway's note if it still fits.
pub(super) fn programs(request: &ProbeRequest, sections: &Sections<'_>) -> BTreeMap<RemotePath, FoundProgram> {
    let mut notes: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    let mut path = "";
    for (key, value) in sections.values("notes") {
        if key == "path" {
            path = value;
        }
        notes.entry(path).or_default().insert(key, value);
    }
    let found = |told: Told<'_>| {
        let path: RemotePath = told.name.strip_prefix('.')?.parse().ok()?;
        let (written, _) = told.written.split_once('.')?;
        let noted = notes
            .get(path.as_str())
            .filter(|note| note.get("size") == Some(&told.size) && note.get("mtime") == Some(&written))
            .and_then(|note| note.get("digest")?.parse().ok());
        let mode = Mode(u32::from_str_radix(told.mode, 8).ok()? & 0o7777);
        request.programs.contains(&path).then_some(())?;
        Some((path, FoundProgram { size: told.size.parse().ok()?, mode, noted }))
    };
    sections.lines("files").filter_map(Told::read).filter_map(found).collect()
}

/// The packages that are installed, of those that were asked for: name, version, what is wanted of it, and
/// how it is, as dpkg says it.
pub(super) fn packages(request: &ProbeRequest, sections: &Sections<'_>) -> BTreeMap<String, FoundPackage> {
    let found = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, version, wanted, "installed"] = words[..] else { return None };
        let known = request.packages.iter().any(|asked| asked == name);
        known.then(|| (name.to_owned(), FoundPackage { version: printable(version), held: wanted == "hold" }))
    };
    sections.lines("packages").filter_map(found).collect()
}

/// `N` of `--version` output: a word of its first line.
fn version_word(sections: &Sections<'_>, section: &str, word: usize) -> String {
    printable(sections.lines(section).next().and_then(|line| line.split_whitespace().nth(word)).unwrap_or_default())
}

fn number<T: std::str::FromStr + Default>(text: &str) -> T {
    text.trim().parse().unwrap_or_default()
}

/// A word that can stand in the name of a file and means nothing to anybody there.
fn is_word(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// A path that needs no quotes anywhere: it ends in units and configurations, which have rules of
/// their own for `%`, `$` and quotes. Programs in stranger places count as not there.
fn is_plain_path(path: &str) -> bool {
    path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._+-".contains(&b)) && path.parse::<RemotePath>().is_ok()
}

/// How many numbers the kernel's list notation `0-3,8` names.
fn count_of_list(list: &str) -> u32 {
    let count = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (first.trim().parse::<u32>(), last.trim().parse::<u32>()) {
            (Ok(first), Ok(last)) if last >= first => (last - first).saturating_add(1),
            _ => 0,
        }
    };
    list.split(',').map(count).fold(0, u32::saturating_add)
}

/// The port of a line of `ss`, `LISTEN 0 128 0.0.0.0:22 0.0.0.0:*`, or of /proc/net/tcp and tcp6:
/// `0: 0100007F:1F90 00000000:0000 0A …`.
fn listening_port(line: &str) -> Option<u16> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        ["LISTEN", _, _, local, ..] => local.rsplit_once(':')?.1.parse().ok(),
        [_, local, _, "0A", ..] => u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok(),
        _ => None,
    }
}

/// The free bytes that a row of `df -P -k` tells.
pub(super) fn free_of(row: &str) -> Option<u64> {
    row.split_whitespace().nth(3)?.parse::<u64>().ok().map(|blocks| blocks.saturating_mul(1024))
}

/// Snapshots from before upgrades; other names in their directory are somebody else's.
pub(super) fn snapshots(sections: &Sections<'_>) -> BTreeSet<Taken> {
    let found = |line: &str| match line.split_once(' ')? {
        ("etcd", name) => Taken::read(name, true),
        ("files", name) => Taken::read(name, false),
        _ => None,
    };
    sections.lines("snapshots").filter_map(found).collect()
}

/// The first word of a line `/proc/self/status:KEY:\tVALUE`.
fn of_process<'a>(sections: &Sections<'a>, key: &str) -> Option<&'a str> {
    let of = |line: &'a str| line.strip_prefix("/proc/self/status:")?.strip_prefix(key)?.strip_prefix(':');
    sections.lines("kernel").find_map(of)?.split_whitespace().next()
}

/// A `FILE:VALUE` line.
fn parameter<'a>(sections: &Sections<'a>, key: &str) -> Option<&'a str> {
    let file = parameter_file(key);
    sections.lines("kernel").find_map(|line| line.strip_prefix(&file)?.strip_prefix(':'))
}

/// `df -P -k`: the paths are told by the mount points they are on, in the order asked for.
fn free_bytes(sections: &Sections<'_>) -> BTreeMap<String, u64> {
    let rows: Vec<u64> = sections.lines("free").filter_map(free_of).collect();
    // A path that is not there has no row, and rows do not name their paths: only where programs
    // go may be missing, and it comes last. Otherwise nothing is known.
    let paths = ["/var/lib", "/etc", "/run", "/usr/local/bin"];
    let told = (paths.len() - 1..=paths.len()).contains(&rows.len());
    if told { paths.map(str::to_owned).into_iter().zip(rows).collect() } else { BTreeMap::new() }
}

/// With their interfaces, if `ip` told of them.
fn addresses(sections: &Sections<'_>) -> Vec<InterfaceAddress> {
    let told: Vec<InterfaceAddress> = sections.lines("addresses").filter_map(address_of_ip).collect();
    if !told.is_empty() {
        return told;
    }
    let mut found = addresses_of_fib(sections);
    found.extend(sections.lines("kernel").filter_map(|line| address_of_inet6(line.strip_prefix("proc/net/if_inet6:")?)));
    found
}

/// A line of `ip -o addr`: `2: eth0    inet 10.0.0.5/24 brd … scope global eth0\…`.
fn address_of_ip(line: &str) -> Option<InterfaceAddress> {
    let mut words = line.split_whitespace().skip(1);
    let interface = words.next()?;
    matches!(words.next()?, "inet" | "inet6").then_some(())?;
    let told = words.next()?;
    let (address, prefix) = told.split_once('/').unwrap_or((told, if told.contains(':') { "128" } else { "32" }));
    let interface = printable(interface.split('@').next().unwrap_or(interface));
    Some(InterfaceAddress { interface, address: address.parse().ok()?, prefix: prefix.parse().ok()? })
}

/// /proc/net/fib_trie tells local addresses as `|-- 10.0.0.5` followed by `/32 host LOCAL`, and
/// names no interface.
fn addresses_of_fib(sections: &Sections<'_>) -> Vec<InterfaceAddress> {
    let mut last = None;
    let mut found = Vec::new();
    for line in sections.lines("kernel").filter_map(|line| line.strip_prefix("proc/net/fib_trie:")) {
        if let Some(leaf) = line.trim().strip_prefix("|-- ") {
            last = leaf.parse::<Ipv4Addr>().ok();
        } else if line.contains("/32 host LOCAL") && let Some(address) = last {
            let entry = InterfaceAddress { interface: String::new(), address: IpAddr::V4(address), prefix: 32 };
            if !found.contains(&entry) {
                found.push(entry);
            }
        }
    }
    found
}

/// A line of /proc/net/if_inet6: `fe80…(32 digits) 02 40 20 80     eth0`.
fn address_of_inet6(line: &str) -> Option<InterfaceAddress> {
    let mut words = line.split_whitespace();
    let digits = words.next()?;
    if digits.len() != 32 {
        return None;
    }
    let address = Ipv6Addr::from(u128::from_str_radix(digits, 16).ok()?);
    let prefix = u8::from_str_radix(words.nth(1)?, 16).ok()?;
    Some(InterfaceAddress { interface: printable(words.nth(2)?), address: IpAddr::V6(address), prefix })
}
