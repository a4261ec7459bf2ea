//! The disk of one host: a thin layer over the shared root file system.
//!
//! What makes a host this host (name, address, keys, users) is written straight
//! into the layer before it is mounted, so a reset needs no more than a fresh
//! layer. `/var/lib` is a real directory instead: containerd keeps container
//! layers there, and those cannot be stacked on an overlay.

use super::address::{GATEWAY, PREFIX_LENGTH, address, hosts_file};
use super::cache::{Cache, create_directory, hexadecimal, read_text, remove_directory, write_file};
use super::command::{command, run};
use super::keys::{USERS, host_key, identity_file, public};
use crate::error::{Explain, Result};
use aws_lc_rs::digest::{SHA256, digest};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

/// What a host is made of.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Disk {
    /// Read-only layers, the uppermost first.
    pub layers: Vec<PathBuf>,
    /// A containerd directory to start from; none means an empty one.
    pub containerd: Option<PathBuf>,
}

/// Units that only make a host without network and console slower or degraded.
const MASKED_UNITS: [&str; 8] = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "console-getty.service",
    "systemd-networkd-wait-online.service",
    "getty.target",
];

/// Where a host's writable layer is.
pub fn upper(cache: &Cache, name: &str) -> PathBuf {
    cache.host(name).join("upper")
}

/// Makes a fresh disk; nothing of an earlier one stays.
pub fn create(cache: &Cache, name: &str, disk: &Disk, all_names: &[String]) -> Result<()> {
    let directory = cache.host(name);
    for part in ["upper", "work", "root", "data"] {
        remove_directory(&directory.join(part))?;
        create_directory(&directory.join(part))?;
    }
    fill_data(disk, &directory.join("data"))?;
    let base = disk.layers.last().cloned().unwrap_or_default();
    identify(cache, name, &upper(cache, name), all_names)?;
    add_users(cache, &upper(cache, name), &base)
}

/// Copies the base's `/var/lib` and adds containerd's preloaded images.
///
/// Files of images never change once they are there, so they are shared by
/// hard links; only containerd's databases are copied.
fn fill_data(disk: &Disk, data: &Path) -> Result<()> {
    let base = disk.layers.last().cloned().unwrap_or_default();
    run(command("cp", ["-a"]).arg(base.join("var/lib/.")).arg(data))?;
    let Some(template) = &disk.containerd else {
        return Ok(());
    };
    let target = data.join("containerd");
    remove_directory(&target)?;
    run(command("cp", ["-al"]).arg(template).arg(&target))?;
    for database in databases(&target) {
        let copy = database.with_extension("copy");
        fs::copy(&database, &copy)
            .and_then(|_| fs::rename(&copy, &database))
            .explain(|| format!("cannot copy {}", database.display()))?;
    }
    Ok(())
}

fn databases(directory: &Path) -> Vec<PathBuf> {
    let list = |path: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    list(directory)
        .iter()
        .flat_map(|plugin| list(plugin))
        .filter(|path| path.extension().is_some_and(|extension| extension == "db"))
        .collect()
}

fn identify(cache: &Cache, name: &str, root: &Path, all_names: &[String]) -> Result<()> {
    let own = address(name);
    let file = |path: &str, text: String| write_file(&root.join(path), text);
    file("etc/hostname", format!("{name}\n"))?;
    let machine = digest(&SHA256, format!("slipway-lab {name}").as_bytes());
    file(
        "etc/machine-id",
        format!("{}\n", hexadecimal(&machine.as_ref()[..16])),
    )?;
    file(
        "etc/hosts",
        hosts_file(name, all_names.iter().map(String::as_str)),
    )?;
    // No name server exists; an empty list makes lookups fail at once.
    file("etc/resolv.conf", String::new())?;
    // Old kubelets ask a cloud's metadata server at 169.254.169.254, and without a refusal wait
    // for an answer at every start.
    file(
        "etc/systemd/network/10-lab.network",
        format!(
            "[Match]\nName=host0\n[Network]\nAddress={own}/{PREFIX_LENGTH}\nGateway={GATEWAY}\n\
             LinkLocalAddressing=ipv6\nIPv6AcceptRA=no\n\
             [Route]\nDestination=169.254.0.0/16\nType=unreachable\n"
        ),
    )?;
    // Routes that others add must survive a restart of networkd.
    file(
        "etc/systemd/networkd.conf.d/lab.conf",
        "[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n".into(),
    )?;
    // Lookups of the client's name would wait for a name server.
    file(
        "etc/ssh/sshd_config.d/lab.conf",
        "UseDNS no\nMaxStartups 100:30:200\n".into(),
    )?;
    let units = root.join("etc/systemd/system");
    create_directory(&units.join("multi-user.target.wants"))?;
    link(
        "/lib/systemd/system/systemd-networkd.service",
        &units.join("multi-user.target.wants/systemd-networkd.service"),
    )?;
    for unit in MASKED_UNITS {
        link("/dev/null", &units.join(unit))?;
    }
    for (source, target, mode) in [
        (host_key(cache, name), "etc/ssh/ssh_host_ed25519_key", 0o600),
        (
            public(&host_key(cache, name)),
            "etc/ssh/ssh_host_ed25519_key.pub",
            0o644,
        ),
    ] {
        write_file(&root.join(target), read_text(&source)?)?;
        set_mode(&root.join(target), mode)?;
    }
    Ok(())
}

/// Users beside root, each with the lab's key and a home directory.
fn add_users(cache: &Cache, root: &Path, base: &Path) -> Result<()> {
    let authorized = read_text(&public(&identity_file(cache)))?;
    let mut accounts = [
        ("etc/passwd", read_text(&base.join("etc/passwd"))?, 0o644),
        ("etc/group", read_text(&base.join("etc/group"))?, 0o644),
        ("etc/shadow", read_text(&base.join("etc/shadow"))?, 0o640),
    ];
    for (number, user) in USERS.iter().enumerate() {
        let (home, id) = match *user {
            "root" => ("root".to_string(), 0),
            _ => (format!("home/{user}"), 1000 + number as u32),
        };
        if id != 0 {
            accounts[0].1 += &format!("{user}:x:{id}:{id}::/{home}:/bin/bash\n");
            accounts[1].1 += &format!("{user}:x:{id}:\n");
            accounts[2].1 += &format!("{user}:*:20000:0:99999:7:::\n");
        }
        let keys = root.join(&home).join(".ssh/authorized_keys");
        write_file(&keys, &authorized)?;
        for path in [root.join(&home), root.join(&home).join(".ssh"), keys] {
            chown(&path, Some(id), Some(id))
                .explain(|| format!("cannot set the owner of {}", path.display()))?;
            set_mode(&path, if path.is_dir() { 0o700 } else { 0o600 })?;
        }
    }
    for (path, text, mode) in accounts {
        write_file(&root.join(path), text)?;
        set_mode(&root.join(path), mode)?;
    }
    const SHADOW_GROUP: u32 = 42;
    chown(root.join("etc/shadow"), Some(0), Some(SHADOW_GROUP))
        .explain(|| "cannot set the owner of etc/shadow".into())?;
    let sudoers = root.join("etc/sudoers.d/operator");
    write_file(&sudoers, "operator ALL=(ALL) NOPASSWD: ALL\n")?;
    set_mode(&sudoers, 0o440)?;
    // As Debian ships it; a directory of the layer hides the base's mode.
    set_mode(&root.join("etc/sudoers.d"), 0o750)
}

fn link(target: &str, path: &Path) -> Result<()> {
    symlink(target, path).explain(|| format!("cannot link {}", path.display()))
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .explain(|| format!("cannot set the mode of {}", path.display()))
}
