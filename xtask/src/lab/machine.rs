//! What the lab changes on the machine itself: a bridge and a few kernel
//! settings. Both are undone when the last host is gone.
//!
//! The settings are those a kubelet wants to write but cannot, because the
//! hosts see them read-only, and limits that several hosts share. The values
//! found are saved first, so that `down` can put them back even when the
//! command that changed them was killed.

use super::address::{BRIDGE, GATEWAY, PREFIX_LENGTH};
use super::cache::{Cache, create_directory, read_text, write_file};
use super::command::{command, read, run, succeeds};
use crate::error::{Error, Explain, Result};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Kernel settings and the value the lab needs; `true` means "at least".
const SETTINGS: [(&str, u64, bool); 11] = [
    ("vm/overcommit_memory", 1, false),
    ("vm/panic_on_oom", 0, false),
    ("kernel/panic", 10, false),
    ("kernel/panic_on_oops", 1, false),
    ("kernel/keys/root_maxkeys", 1_000_000, true),
    ("kernel/keys/root_maxbytes", 25_000_000, true),
    ("fs/inotify/max_user_instances", 8192, true),
    ("fs/inotify/max_user_watches", 524_288, true),
    ("fs/file-max", 1_000_000, true),
    // Traffic between hosts must not pass this machine's own packet filter.
    ("net/bridge/bridge-nf-call-iptables", 0, false),
    ("net/bridge/bridge-nf-call-ip6tables", 0, false),
];

/// Fails unless run by root.
pub fn require_root() -> Result<()> {
    let owner = fs::metadata("/proc/self").explain(|| "cannot read /proc/self".into())?;
    if owner.uid() == 0 {
        return Ok(());
    }
    Err(Error::new(
        "the lab needs root: it mounts file systems, makes a network bridge and boots hosts. \
         Run the same command as root",
    ))
}

/// Makes the bridge and the kernel settings; does nothing where they are right.
pub fn prepare(cache: &Cache) -> Result<()> {
    let saved = saved_settings(cache);
    if !saved.exists() {
        let mut old = BTreeMap::new();
        for (name, _, _) in SETTINGS {
            if let Ok(value) = fs::read_to_string(setting(name)) {
                old.insert(name, value.trim().to_string());
            }
        }
        let text = serde_json::to_string_pretty(&old).explain(|| "cannot save settings".into())?;
        write_file(&saved, text)?;
    }
    for (name, wanted, at_least) in SETTINGS {
        let Ok(now) = fs::read_to_string(setting(name)) else {
            continue;
        };
        let now: i128 = now.trim().parse().unwrap_or(-1);
        let fits = now == i128::from(wanted) || (at_least && now > i128::from(wanted));
        if !fits {
            fs::write(setting(name), wanted.to_string())
                .explain(|| format!("cannot set the kernel setting {name}"))?;
        }
    }
    if !bridge_exists() {
        let no_delay = ["type", "bridge", "forward_delay", "0", "stp_state", "0"];
        run(command("ip", ["link", "add", "name", BRIDGE]).args(no_delay))?;
    }
    let address = format!("{GATEWAY}/{PREFIX_LENGTH}");
    run(&mut command("ip", ["address", "replace", &address, "dev", BRIDGE]))?;
    run(&mut command("ip", ["link", "set", BRIDGE, "up"]))
}

/// Takes the bridge away and puts the kernel settings back.
pub fn restore(cache: &Cache) -> Result<()> {
    if bridge_exists() {
        run(&mut command("ip", ["link", "delete", BRIDGE]))?;
    }
    let saved = saved_settings(cache);
    if saved.exists() {
        let old: BTreeMap<String, String> = serde_json::from_str(&read_text(&saved)?)
            .explain(|| format!("cannot understand {}", saved.display()))?;
        for (name, value) in old {
            fs::write(setting(&name), value)
                .explain(|| format!("cannot put the kernel setting {name} back"))?;
        }
        fs::remove_file(&saved).explain(|| format!("cannot remove {}", saved.display()))?;
    }
    Ok(())
}

/// What of the lab is still on this machine, one line for each thing.
pub fn leftovers(cache: &Cache) -> Vec<String> {
    let mut found = Vec::new();
    let links = read(&mut command("ip", ["-o", "link", "show"])).unwrap_or_default();
    for line in links.lines() {
        if line.contains(&format!("master {BRIDGE}")) || line.contains(&format!(" {BRIDGE}:")) {
            found.push(format!("network interface: {line}"));
        }
    }
    let own = cache.path("");
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for line in mounts.lines() {
        let target = line.split(' ').nth(1).unwrap_or_default();
        if Path::new(target).starts_with(&own) {
            found.push(format!("mount: {target}"));
        }
    }
    if saved_settings(cache).exists() {
        found.push(format!("kernel settings not put back: {}", saved_settings(cache).display()));
    }
    found
}

/// A layer for the hosts that lets `modprobe` find what this kernel has.
///
/// On a machine with modules the hosts use the machine's own directory. A
/// kernel built without modules has no such directory, and `modprobe` would
/// then fail even for what is built in.
pub fn module_layer(cache: &Cache) -> Result<Option<PathBuf>> {
    let release = read_text(Path::new("/proc/sys/kernel/osrelease"))?;
    let release = release.trim();
    if Path::new("/lib/modules").join(release).exists() {
        return Ok(None);
    }
    let layer = cache.path("modules").join(release);
    super::cache::build_once(&layer, "a list of built-in kernel modules", |partial| {
        let directory = partial.join("lib/modules").join(release);
        create_directory(&directory)?;
        let evidence = [
            ("overlay", "fs/overlayfs/overlay.ko", "/sys/module/overlay"),
            ("br_netfilter", "net/bridge/br_netfilter.ko", "/proc/sys/net/bridge"),
            ("bridge", "net/bridge/bridge.ko", "/sys/module/bridge"),
            ("nf_conntrack", "net/netfilter/nf_conntrack.ko", "/sys/module/nf_conntrack"),
            ("vxlan", "drivers/net/vxlan/vxlan.ko", "/sys/module/vxlan"),
            ("ip_set", "net/netfilter/ipset/ip_set.ko", "/sys/module/ip_set"),
            ("ip_vs", "net/netfilter/ipvs/ip_vs.ko", "/sys/module/ip_vs"),
        ];
        let list: String = evidence
            .iter()
            .filter(|(_, _, sign)| Path::new(sign).exists())
            .map(|(_, path, _)| format!("kernel/{path}\n"))
            .collect();
        write_file(&directory.join("modules.builtin"), &list)?;
        write_file(&directory.join("modules.order"), "")?;
        run(command("depmod", ["-b"]).arg(partial).arg(release))?;
        // The hosts' /lib is a link to /usr/lib.
        create_directory(&partial.join("usr/lib"))?;
        fs::rename(partial.join("lib/modules"), partial.join("usr/lib/modules"))
            .and_then(|()| fs::remove_dir(partial.join("lib")))
            .explain(|| "cannot move the module list".into())
    })?;
    Ok(Some(layer))
}

/// Whether the lab's bridge is there.
pub fn bridge_exists() -> bool {
    succeeds(&mut command("ip", ["link", "show", BRIDGE]))
}

fn saved_settings(cache: &Cache) -> PathBuf {
    cache.path("saved-settings.json")
}

fn setting(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name)
}
