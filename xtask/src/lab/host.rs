//! One host's life: boot, pull the plug, ask how it is.
//!
//! Booting goes through two hidden lab commands, because a process has to be
//! inside its control groups before it may make the namespace that hides
//! everything above them: [`enter_groups`], then [`become_host`], which at last
//! turns into systemd-nspawn. All three are the same process, whose id and start
//! time are noted, so that later exactly this process can be ended.

use super::address::{BRIDGE, address};
use super::cache::{Cache, create_directory, read_text, write_file};
use super::cgroup::Layout;
use super::command::{command, run};
use super::disk::Disk;
use super::keys::{identity_file, known_hosts};
use super::process::{Process, descendants, is_zombie, kill};
use crate::error::{Error, Explain, Result};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A host that does not answer after this time never will.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// What the lab notes about a host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// What its disk was made of, to make the same again at a reset.
    pub disk: Disk,
    /// The process that is the host, while it is switched on.
    pub process: Option<Process>,
}

/// How a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its SSH server answers.
    Running,
    /// Its process is there, its SSH server does not answer.
    Booting,
    /// It has a disk but no process.
    Off,
    /// There is no such host.
    Absent,
}

/// Reads what is noted about a host.
pub fn load(cache: &Cache, name: &str) -> Result<Option<Record>> {
    let path = record_path(cache, name);
    if !path.exists() {
        return Ok(None);
    }
    let record = serde_json::from_str(&read_text(&path)?)
        .explain(|| format!("cannot understand {}", path.display()))?;
    Ok(Some(record))
}

/// Notes a host, replacing what was noted.
pub fn save(cache: &Cache, name: &str, record: &Record) -> Result<()> {
    let text = serde_json::to_string_pretty(record).explain(|| "cannot note a host".into())?;
    let path = record_path(cache, name);
    let fresh = path.with_extension("new");
    write_file(&fresh, text)?;
    fs::rename(&fresh, &path).explain(|| format!("cannot write {}", path.display()))
}

fn record_path(cache: &Cache, name: &str) -> PathBuf {
    cache.host(name).join("host.json")
}

/// Where a host's console goes.
pub fn console_log(cache: &Cache, name: &str) -> PathBuf {
    cache.host(name).join("console.log")
}

/// How a host is now.
pub fn state(cache: &Cache, name: &str) -> Result<State> {
    let Some(record) = load(cache, name)? else {
        return Ok(State::Absent);
    };
    Ok(match record.process {
        Some(process) if process.lives() && answers(name, 500) => State::Running,
        Some(process) if process.lives() => State::Booting,
        _ => State::Off,
    })
}

/// Starts a host whose disk is ready; does not wait for it.
pub fn power_on(cache: &Cache, name: &str) -> Result<()> {
    let mut record =
        load(cache, name)?.ok_or_else(|| Error::new(format!("there is no host `{name}`")))?;
    if record.process.as_ref().is_some_and(Process::lives) {
        return Ok(());
    }
    let console = console_log(cache, name);
    let log = File::create(&console).explain(|| format!("cannot write {}", console.display()))?;
    let copy = log.try_clone().explain(|| "cannot share a log".into())?;
    let own = std::env::current_exe().explain(|| "cannot find this program".into())?;
    let child = command("setsid", [own.as_os_str()])
        .args(["lab", "enter-groups", name])
        .stdout(log)
        .stderr(copy)
        .spawn()
        .explain(|| "cannot start `setsid` (package util-linux)".into())?;
    record.process = Some(Process::of(child.id())?);
    save(cache, name, &record)
}

/// First half of booting: into the host's control groups.
pub fn enter_groups(name: &str) -> Result<()> {
    let layout = Layout::detect()?;
    layout.enter(name)?;
    let own = std::env::current_exe().explain(|| "cannot find this program".into())?;
    let mut unshare = command("unshare", ["-m", "--propagation", "private"]);
    if layout.is_manual() {
        unshare.arg("-C");
    }
    replace(unshare.arg(own).args(["lab", "become-host", name]))
}

/// Second half of booting: in the host's namespaces, mount and start systemd.
pub fn become_host(cache: &Cache, name: &str) -> Result<()> {
    let record =
        load(cache, name)?.ok_or_else(|| Error::new(format!("there is no host `{name}`")))?;
    let layout = Layout::detect()?;
    layout.mount()?;
    let directory = cache.host(name);
    let part = |name: &str| directory.join(name).display().to_string();
    let layers: Vec<String> = record
        .disk
        .layers
        .iter()
        .map(|layer| layer.display().to_string())
        .collect();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        layers.join(":"),
        part("upper"),
        part("work")
    );
    let root = part("root");
    run(&mut command(
        "mount",
        ["-t", "overlay", "overlay", "-o", &options, &root],
    ))?;
    let mut nspawn = command("systemd-nspawn", ["--boot", "--quiet", "--register=no"]);
    nspawn
        .args([
            "--settings=no",
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
        ])
        .args(["--capability=all", "--system-call-filter=@known"])
        .arg(format!("--directory={root}"))
        .arg(format!("--machine={name}"))
        .arg(format!("--network-bridge={BRIDGE}"))
        .arg(format!("--bind={}:/var/lib", part("data")))
        .arg("--bind=/dev/kmsg")
        .env("SYSTEMD_NSPAWN_LOCK", "0")
        // The network settings are the host's own; all others are the machine's.
        .env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "network");
    if layout.is_manual() {
        nspawn.args(["--keep-unit", "--bind=/sys/fs/cgroup"]);
    }
    if Path::new("/lib/modules").exists() {
        nspawn.arg("--bind-ro=/lib/modules");
    }
    if Path::new("/dev/fuse").exists() {
        nspawn.arg("--bind=/dev/fuse");
    }
    replace(&mut nspawn)
}

fn replace(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    Err(Error::new(format!(
        "cannot start `{program}`: {}",
        command.exec()
    )))
}

/// Pulls the plug: ends all processes of the host at once.
pub fn power_off(cache: &Cache, layout: &Layout, name: &str) -> Result<()> {
    let record = load(cache, name)?;
    let process = record.as_ref().and_then(|record| record.process.clone());
    let limit = Instant::now() + Duration::from_secs(20);
    loop {
        let mut ids = layout.processes(name);
        if let Some(process) = process.as_ref().filter(|process| process.lives()) {
            ids.extend(descendants(process.id()));
        }
        ids.retain(|id| !is_zombie(*id));
        if ids.is_empty() {
            break;
        }
        if Instant::now() > limit {
            return Err(Error::new(format!(
                "processes of host `{name}` do not end: {ids:?}"
            )));
        }
        // The first process of a host takes all others with it.
        kill(&ids);
        sleep(Duration::from_millis(20));
    }
    layout.remove(name)?;
    // The kernel takes a network namespace apart some time after its last process; until then the
    // bridge's end of the cable is in the way of the next boot. (Names too long for an interface
    // get another one from nspawn, and have to wait for the kernel.)
    let cable = format!("vb-{name}");
    let _ = command("ip", ["link", "delete", cable.as_str()]).output();
    // nspawn leaves this behind when it is killed.
    for directory in ["propagate", "unix-export"] {
        let _ = fs::remove_dir(Path::new("/run/systemd/nspawn").join(directory).join(name));
    }
    if let Some(mut record) = record {
        record.process = None;
        save(cache, name, &record)?;
    }
    Ok(())
}

/// Waits until a host can be worked with; returns units that failed.
pub fn wait(cache: &Cache, name: &str) -> Result<Vec<String>> {
    let limit = Instant::now() + BOOT_LIMIT;
    let console = console_log(cache, name);
    while !answers(name, 200) {
        let process = load(cache, name)?.and_then(|record| record.process);
        let dead = !process.is_some_and(|process| process.lives());
        if dead || Instant::now() > limit {
            let text = fs::read(&console).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            return Err(Error::new(format!(
                "host `{name}` {}; its console is in {}, the end of it:\n{}",
                if dead {
                    "stopped while booting"
                } else {
                    "does not answer over SSH"
                },
                console.display(),
                lines[lines.len().saturating_sub(15)..].join("\n")
            )));
        }
        sleep(Duration::from_millis(50));
    }
    let script = "systemctl is-system-running --wait >/dev/null; \
        systemctl is-active --quiet containerd || exit 9; \
        systemctl list-units --state=failed --plain --no-legend | cut -d' ' -f1";
    let output = ssh(cache, "root", name)
        .arg(script)
        .output()
        .explain(|| "cannot start `ssh`".into())?;
    if !output.status.success() {
        return Err(Error::new(format!(
            "host `{name}` booted, but {}: {}",
            match output.status.code() {
                Some(9) => "containerd is not running",
                _ => "cannot be used over SSH",
            },
            String::from_utf8_lossy(&output.stderr).trim()
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(String::from)
        .collect())
}

/// An ssh command line to a host; the remote command is still to be added.
pub fn ssh(cache: &Cache, user: &str, name: &str) -> Command {
    let mut ssh = command("ssh", ["-F", "none", "-i"]);
    ssh.arg(identity_file(cache))
        .arg("-o")
        .arg(format!(
            "UserKnownHostsFile={}",
            known_hosts(cache).display()
        ))
        .args([
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "BatchMode=yes",
            "-o",
            "ConnectTimeout=10",
        ])
        .args(["-o", "StrictHostKeyChecking=yes"])
        .arg(format!("{user}@{}", address(name)));
    ssh
}

/// Makes the directory that marks a host as being there.
pub fn create(cache: &Cache, name: &str, disk: Disk) -> Result<()> {
    create_directory(&cache.host(name))?;
    save(
        cache,
        name,
        &Record {
            disk,
            process: None,
        },
    )
}

fn answers(name: &str, milliseconds: u64) -> bool {
    let target = SocketAddr::from((address(name), 22));
    TcpStream::connect_timeout(&target, Duration::from_millis(milliseconds)).is_ok()
}
