//! What tests and plan files need to know about the lab, for people and as JSON.

use super::address::{BRIDGE, GATEWAY, PREFIX_LENGTH, address};
use super::cache::Cache;
use super::host::{self, State};
use super::{hosts, images, keys, kubernetes};
use crate::error::{Explain, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// Hosts and paths together; the shape of `lab status --json`.
#[derive(Serialize)]
pub struct Status {
    hosts: Vec<HostStatus>,
    network: Network,
    #[serde(flatten)]
    paths: Paths,
}

#[derive(Serialize)]
struct HostStatus {
    name: String,
    address: Ipv4Addr,
    state: State,
    console_log: PathBuf,
}

#[derive(Serialize)]
struct Network {
    bridge: &'static str,
    gateway: Ipv4Addr,
    prefix_length: u8,
}

/// Where things are; the shape of `lab paths --json`.
#[derive(Serialize)]
pub struct Paths {
    cache: PathBuf,
    ssh: Ssh,
    /// By version, only what is built.
    kubernetes: BTreeMap<String, Release>,
}

#[derive(Serialize)]
struct Ssh {
    identity_file: PathBuf,
    known_hosts: PathBuf,
    users: [&'static str; 3],
    port: u16,
}

#[derive(Serialize)]
struct Release {
    /// kubelet, kubeadm, kubectl and the control plane's programs.
    binaries: PathBuf,
    /// One archive per image; absent until they are made.
    images: Option<PathBuf>,
}

/// Looks at every host.
pub fn collect(cache: &Cache) -> Result<Status> {
    let hosts = hosts::names(cache)?
        .into_iter()
        .map(|name| {
            Ok(HostStatus {
                address: address(&name),
                state: host::state(cache, &name)?,
                console_log: host::console_log(cache, &name),
                name,
            })
        })
        .collect::<Result<Vec<HostStatus>>>()?;
    let network = Network { bridge: BRIDGE, gateway: GATEWAY, prefix_length: PREFIX_LENGTH };
    Ok(Status { hosts, network, paths: paths(cache)? })
}

/// Lists what the cache holds.
pub fn paths(cache: &Cache) -> Result<Paths> {
    let mut kubernetes = BTreeMap::new();
    for version in kubernetes::versions(cache) {
        let images = images::directory(cache, &version)?.filter(|path| path.exists());
        let binaries = kubernetes::directory(cache, &version);
        kubernetes.insert(version, Release { binaries, images });
    }
    let ssh = Ssh {
        identity_file: keys::identity_file(cache),
        known_hosts: keys::known_hosts(cache),
        users: keys::USERS,
        port: 22,
    };
    Ok(Paths { cache: cache.path(""), ssh, kubernetes })
}

/// Prints the status for people or for programs.
pub fn print(cache: &Cache, json: bool) -> Result<()> {
    let status = collect(cache)?;
    if json {
        return print_json(&status);
    }
    if status.hosts.is_empty() {
        println!("no hosts; boot some with `cargo xtask lab up`");
    }
    for host in &status.hosts {
        let state = match host.state {
            State::Running => "running",
            State::Booting => "booting",
            State::Off => "off",
            State::Absent => "absent",
        };
        println!("{:<20} {:<14} {state}", host.name, host.address);
    }
    Ok(())
}

/// Prints where things are, for people or for programs.
pub fn print_paths(cache: &Cache, json: bool) -> Result<()> {
    let paths = paths(cache)?;
    if json {
        return print_json(&paths);
    }
    println!("cache          {}", paths.cache.display());
    println!("identity file  {}", paths.ssh.identity_file.display());
    println!("known hosts    {}", paths.ssh.known_hosts.display());
    for (version, release) in &paths.kubernetes {
        println!("{version} binaries  {}", release.binaries.display());
        if let Some(images) = &release.images {
            println!("{version} images    {}", images.display());
        }
    }
    Ok(())
}

fn print_json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).explain(|| "cannot write JSON".into())?;
    println!("{text}");
    Ok(())
}
