//! Many hosts at once: up, down, reset.
//!
//! All steps of one host run in one thread, so the slowest host decides how
//! long a command takes.

use super::cache::{Cache, Lock, remove_directory};
use super::cgroup::Layout;
use super::disk::{self, Disk};
use super::host::{self, State};
use super::{address, keys, kubernetes, machine, packages, preload};
use crate::error::{Error, Explain, Result};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// What new hosts get beyond a bare Debian.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Options {
    /// Leave containerd without any image.
    #[arg(long)]
    pub bare_images: bool,
    /// Put kubelet, kubeadm and kubectl into the hosts' /usr/bin.
    #[arg(long, value_name = "VERSION", num_args = 0..=1, require_equals = true,
          default_missing_value = kubernetes::SOURCE_VERSION)]
    pub binaries: Option<String>,
    /// Put Python on the hosts, for other tools that need it there.
    #[arg(long)]
    pub python: bool,
}

/// All hosts that have a directory, sorted.
pub fn names(cache: &Cache) -> Result<Vec<String>> {
    let directory = cache.path("run");
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let entries =
        fs::read_dir(&directory).explain(|| format!("cannot list {}", directory.display()))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}

/// Boots the hosts that are not running.
pub fn up(cache: &Cache, wanted: &[String], options: &Options) -> Result<()> {
    let started = Instant::now();
    let _lock = cache.lock("lab", Lock::Exclusive)?;
    let present = names(cache)?;
    let all: Vec<String> = present.iter().chain(wanted).cloned().collect();
    address::check(all.iter().map(String::as_str))?;
    packages::ensure_installed(packages::MACHINE_PACKAGES)?;
    let disk = plan_disk(cache, options)?;
    keys::ensure(cache, wanted)?;
    machine::prepare(cache)?;
    each(wanted, |name| {
        match host::state(cache, name)? {
            State::Running | State::Booting => {}
            State::Off => host::power_on(cache, name)?,
            State::Absent => {
                // Leftovers of a command that was killed before it noted the host.
                host::power_off(cache, &Layout::detect()?, name)?;
                disk::create(cache, name, &disk, &all)?;
                host::create(cache, name, disk.clone())?;
                host::power_on(cache, name)?;
            }
        }
        ready(cache, name)
    })?;
    introduce(cache, &present, wanted)?;
    eprintln!(
        "lab: {} running after {:.1} s",
        wanted.join(" "),
        started.elapsed().as_secs_f32()
    );
    Ok(())
}

/// Gives hosts a fresh disk and boots them.
pub fn reset(cache: &Cache, wanted: &[String]) -> Result<()> {
    let started = Instant::now();
    let _lock = cache.lock("lab", Lock::Shared)?;
    let all = names(cache)?;
    let layout = Layout::detect()?;
    machine::prepare(cache)?;
    each(wanted, |name| {
        let _own = cache.lock(&format!("host-{name}"), Lock::Exclusive)?;
        let record = existing(cache, name)?;
        host::power_off(cache, &layout, name)?;
        disk::create(cache, name, &record.disk, &all)?;
        host::power_on(cache, name)?;
        ready(cache, name)
    })?;
    eprintln!(
        "lab: reset {} in {:.1} s",
        wanted.join(" "),
        started.elapsed().as_secs_f32()
    );
    Ok(())
}

/// Switches one host off or on; its disk stays as it is.
pub fn power(cache: &Cache, name: &str, on: bool) -> Result<()> {
    let _lock = cache.lock("lab", Lock::Shared)?;
    let _own = cache.lock(&format!("host-{name}"), Lock::Exclusive)?;
    existing(cache, name)?;
    if on {
        machine::prepare(cache)?;
        host::power_on(cache, name)?;
        ready(cache, name)
    } else {
        host::power_off(cache, &Layout::detect()?, name)
    }
}

/// Ends hosts and removes them; with the last one goes all the lab set up.
pub fn down(cache: &Cache, wanted: &[String]) -> Result<()> {
    let _lock = cache.lock("lab", Lock::Exclusive)?;
    let layout = Layout::detect()?;
    let mut known = names(cache)?;
    known.extend(layout.hosts());
    known.sort();
    known.dedup();
    let chosen = if wanted.is_empty() {
        known.clone()
    } else {
        wanted.to_vec()
    };
    each(&chosen, |name| {
        host::power_off(cache, &layout, name)?;
        remove_directory(&cache.host(name))
    })?;
    known.retain(|name| !chosen.contains(name));
    if !known.is_empty() {
        eprintln!(
            "lab: ended {}; still there: {}",
            chosen.join(" "),
            known.join(" ")
        );
        return Ok(());
    }
    machine::restore(cache)?;
    let mut left = machine::leftovers(cache);
    left.extend(
        layout
            .hosts()
            .iter()
            .map(|host| format!("control groups of host {host}")),
    );
    if left.is_empty() {
        eprintln!("lab: all ended, nothing left behind");
        return Ok(());
    }
    Err(Error::new(format!(
        "the lab could not remove everything:\n  {}",
        left.join("\n  ")
    )))
}

fn existing(cache: &Cache, name: &str) -> Result<host::Record> {
    host::load(cache, name)?.ok_or_else(|| {
        Error::new(format!(
            "there is no host `{name}`: boot it with `cargo xtask lab up {name}`"
        ))
    })
}

fn ready(cache: &Cache, name: &str) -> Result<()> {
    let failed = host::wait(cache, name)?;
    if !failed.is_empty() {
        eprintln!(
            "lab: {name} runs, but these units failed: {}",
            failed.join(" ")
        );
    }
    Ok(())
}

/// Makes everything hosts are made of: the first `up` after it takes seconds.
pub fn build(cache: &Cache) -> Result<()> {
    let _lock = cache.lock("lab", Lock::Exclusive)?;
    packages::ensure_installed(packages::MACHINE_PACKAGES)?;
    let options = Options {
        bare_images: false,
        binaries: Some(kubernetes::SOURCE_VERSION.into()),
        python: false,
    };
    plan_disk(cache, &options).map(drop)
}

/// Makes, where needed, all that a disk is built from.
fn plan_disk(cache: &Cache, options: &Options) -> Result<Disk> {
    let mut layers: Vec<PathBuf> = Vec::new();
    if let Some(version) = &options.binaries {
        layers.push(kubernetes::host_layer(cache, version)?);
    }
    layers.extend(machine::module_layer(cache)?);
    layers.push(match options.python {
        true => packages::host_root_with_python(cache)?,
        false => packages::host_root(cache)?,
    });
    let containerd = match options.bare_images {
        true => None,
        false => Some(preload::template(cache, kubernetes::SOURCE_VERSION)?),
    };
    Ok(Disk { layers, containerd })
}

/// Tells hosts that ran before about those that came now.
fn introduce(cache: &Cache, before: &[String], now: &[String]) -> Result<()> {
    let new: Vec<&String> = now.iter().filter(|name| !before.contains(name)).collect();
    let lines: String = new.iter().map(|name| address::hosts_line(name)).collect();
    if lines.is_empty() {
        return Ok(());
    }
    each(before, |name| {
        if host::state(cache, name)? != State::Running {
            return Ok(());
        }
        let failed = || format!("cannot extend /etc/hosts of `{name}`");
        let mut child = host::ssh(cache, "root", name)
            .arg("cat >> /etc/hosts")
            .stdin(Stdio::piped())
            .spawn()
            .explain(failed)?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(lines.as_bytes()).explain(failed)?;
        }
        match child.wait().explain(failed)?.success() {
            true => Ok(()),
            false => Err(Error::new(failed())),
        }
    })
}

/// Booting more than this at once only makes each of them slow enough to seem dead.
const AT_ONCE: usize = 16;

/// Runs the same on several hosts at once; reports all failures together.
fn each(names: &[String], action: impl Fn(&str) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut failures = Vec::new();
        while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
            failures.extend(action(name).err().map(|error| error.to_string()));
        }
        failures
    };
    let failures: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..names.len().min(AT_ONCE))
            .map(|_| scope.spawn(work))
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| vec!["a thread of the lab panicked".into()])
            })
            .collect()
    });
    match failures.is_empty() {
        true => Ok(()),
        false => Err(Error::new(failures.join("\n"))),
    }
}
