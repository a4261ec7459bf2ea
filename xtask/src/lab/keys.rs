//! The lab's SSH keys: one for the people who log in, one for each host.
//!
//! Host keys belong to the name of a host and outlive it, so a host that was
//! reset is still the host that known_hosts describes.

use super::address::address;
use super::cache::{Cache, create_directory, read_text, write_file};
use super::command::{command, run};
use crate::error::{Explain, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Everybody who can log in with the lab's key.
pub const USERS: [&str; 3] = ["root", "operator", "nosudo"];

/// The private key that opens every host.
pub fn identity_file(cache: &Cache) -> PathBuf {
    cache.path("keys/id_ed25519")
}

/// The host keys of all hosts the lab ever had.
pub fn known_hosts(cache: &Cache) -> PathBuf {
    cache.path("keys/known_hosts")
}

/// The private key of one host.
pub fn host_key(cache: &Cache, name: &str) -> PathBuf {
    cache.path("keys/hosts").join(name)
}

/// The public half of a private key file.
pub fn public(key: &Path) -> PathBuf {
    key.with_extension("pub")
}

/// Makes the keys that are missing and writes known_hosts.
pub fn ensure(cache: &Cache, names: &[String]) -> Result<()> {
    let hosts = cache.path("keys/hosts");
    create_directory(&hosts)?;
    fs::set_permissions(cache.path("keys"), fs::Permissions::from_mode(0o700))
        .explain(|| "cannot protect the key directory".into())?;
    generate(&identity_file(cache), "slipway-lab")?;
    for name in names {
        generate(&host_key(cache, name), name)?;
    }
    let mut lines = Vec::new();
    let entries = fs::read_dir(&hosts).explain(|| format!("cannot list {}", hosts.display()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if path.extension().is_none() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let public = read_text(&public(&path))?;
            let key: Vec<&str> = public.split_whitespace().take(2).collect();
            lines.push(format!("{name},{} {}\n", address(&name), key.join(" ")));
        }
    }
    lines.sort();
    write_file(&known_hosts(cache), lines.concat())
}

fn generate(path: &Path, comment: &str) -> Result<()> {
    if path.exists() && public(path).exists() {
        return Ok(());
    }
    let _ = fs::remove_file(path);
    run(command("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"]).arg(path))
}
