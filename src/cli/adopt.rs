//! `slipway adopt`: reads a cluster that kubeadm made and writes a plan file for it. Nothing is written
//! on any host. Then the new plan is planned as `diff` does it, so that what is left is shown and not
//! guessed.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{diff, sessions};
use crate::adopt::{self, AdoptError, Found, Objects, Remainder, components, nodes};
use crate::cluster::live::{LiveCluster, ask};
use crate::facts::Facts;
use crate::failure::{Failure, Kind};
use crate::names::{HostName, RemotePath};
use crate::plan::Plan;
use crate::planning::{self, LocalSource, Options, mutual};
use crate::report::difference::Difference;
use crate::report::visible::visible;
use crate::standing::API_SERVER_MANIFEST;
use crate::transport::Transport as _;
use crate::trust::decide::Requested;
use crate::trust::found;
use crate::trust::rotation::Aims;
use crate::yaml;

/// What can be asked of `adopt`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A control plane of the cluster
    #[arg(long, value_name = "USER@ADDRESS")]
    host: Login,
    /// Reach the host of this Node otherwise than as the same user at its address (may be repeated)
    #[arg(long = "node", value_name = "NAME=USER@ADDRESS", value_parser = named_login)]
    nodes: Vec<(HostName, Login)>,
    /// The port of the SSH servers
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// A private key file
    #[arg(long, value_name = "FILE")]
    identity_file: Option<PathBuf>,
    /// An SSH configuration file instead of the user's
    #[arg(long, value_name = "FILE")]
    config_file: Option<PathBuf>,
    /// A known-hosts file instead of the user's
    #[arg(long, value_name = "FILE")]
    known_hosts_file: Option<PathBuf>,
    /// Write the plan to this new file and show what is left to do with it; without, it is printed
    #[arg(long, value_name = "PLAN")]
    out: Option<PathBuf>,
}

/// `user@address` on the command line.
#[derive(Debug, Clone)]
struct Login {
    user: Option<String>,
    address: String,
}

impl std::str::FromStr for Login {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (user, address) = match text.rsplit_once('@') {
            Some((user, address)) => (Some(user.to_owned()), address),
            None => (None, text),
        };
        if address.is_empty() || user.as_deref() == Some("") {
            return Err("write it as USER@ADDRESS".to_owned());
        }
        Ok(Self { user, address: address.to_owned() })
    }
}

fn named_login(text: &str) -> Result<(HostName, Login), String> {
    let (name, login) = text.split_once('=').ok_or("write it as NAME=USER@ADDRESS")?;
    Ok((name.parse().map_err(|error: crate::names::NameError| error.to_string())?, login.parse()?))
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    if let Some(path) = arguments.out.as_ref().filter(|path| path.exists()) {
        return Err(Failure::new(Kind::LocalFile, format!("{} is there already", path.display())).hint("name another file with `--out`"));
    }
    let ssh = ssh(arguments)?;
    let (first, objects) = first_look(arguments, &ssh).await?;
    let (host_ssh, provisional) = everyone(arguments, &ssh, &first, &objects)?;
    let transport = sessions::open(&provisional)?;
    let (facts, absent) = planning::probe(&provisional, transport.as_ref(), None, |_| true).await;
    transport.close().await;
    for error in absent.values() {
        eprint!("{}", visible(&format!("warning: {error}\n")));
    }
    let adoption = adopt::adopt(&Found { objects: &objects, facts: &facts, ssh: &ssh, host_ssh: &host_ssh }).map_err(|error| refused(&error))?;
    for Remainder { place, reason } in &adoption.left {
        eprint!("{}", visible(&format!("not in the plan: {place}: {reason}\n")));
    }
    let Some(path) = &arguments.out else {
        print!("{}", visible(&adoption.text));
        return Ok(());
    };
    let failed = |error: std::io::Error| Failure::new(Kind::LocalFile, format!("cannot write {}: {error}", path.display()));
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
    file.write_all(visible(&adoption.text).as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    println!("wrote {}: cluster {}, {} hosts", path.display(), adoption.plan.name, adoption.plan.hosts.len());
    if !absent.is_empty() {
        println!("what is left to do was not looked for, because hosts did not answer");
        return Ok(());
    }
    remaining(adoption.plan).await
}

fn refused(error: &AdoptError) -> Failure {
    Failure::from_error(Kind::Refused, error).hint(error.hint())
}

/// The plan's `ssh`. Its files have absolute paths, because a plan's relative ones count from the plan.
fn ssh(arguments: &Arguments) -> Result<Value, Failure> {
    let mut ssh = json!({});
    if let Some(user) = &arguments.host.user {
        ssh["user"] = json!(user);
    }
    if let Some(port) = arguments.port {
        ssh["port"] = json!(port);
    }
    let files = [("identityFile", &arguments.identity_file), ("configFile", &arguments.config_file), ("knownHostsFile", &arguments.known_hosts_file)];
    for (field, file) in files {
        if let Some(file) = file {
            let absolute = std::path::absolute(file).map_err(|error| Failure::new(Kind::LocalFile, format!("{}: {error}", file.display())))?;
            ssh[field] = json!(absolute);
        }
    }
    Ok(ssh)
}

/// A plan that is good for looking, and for nothing else.
fn looking(ssh: &Value, hosts: Vec<Value>) -> Result<Plan, Failure> {
    let document = json!({
        "version": 1,
        // Nothing is made of it: probes ask for the same files in every version.
        "kubernetes": { "version": "v1.36.0" },
        "network": { "cni": "none" },
        "runtime": { "managed": false },
        "ssh": ssh,
        "hosts": hosts,
    });
    serde_json::from_value(document).map_err(|error| Failure::from_error(Kind::Bug, &error))
}

/// What the host of the command line has, and what the API says through it.
async fn first_look(arguments: &Arguments, ssh: &Value) -> Result<(Facts, Objects), Failure> {
    let host = |address: &str| json!({ "name": "first", "address": address, "roles": ["control-plane"], "ssh": { "address": arguments.host.address } });
    let mut plan = looking(ssh, vec![host("127.0.0.1")])?;
    let transport = sessions::open(&plan)?;
    let (mut facts, absent) = planning::probe(&plan, transport.as_ref(), None, |_| true).await;
    if let Some(error) = absent.values().next() {
        return Err(Failure::from_error(Kind::Unreachable, error));
    }
    let manifest = facts.values().find_map(|facts| facts.state.text(&RemotePath::fixed(API_SERVER_MANIFEST)));
    let Some(address) = manifest.and_then(|text| components::flag(text, "advertise-address")) else {
        return Err(Failure::new(Kind::Refused, format!("{} has no API server of kubeadm's", arguments.host.address))
            .hint("name a control plane with `--host`"));
    };
    plan = looking(ssh, vec![host(&address)])?;
    let administrator = found::administrator(&plan, &facts, Timestamp::now())
        .ok_or_else(|| Failure::new(Kind::Refused, "the control plane has no admin.conf that can be read"))?;
    let cluster = LiveCluster::new(Arc::clone(&transport), Arc::new(plan), mutual(&administrator, "kubernetes"), None);
    let objects = objects(&cluster).await;
    transport.close().await;
    let facts = facts.pop_first().map(|(_, facts)| facts).unwrap_or_default();
    Ok((facts, objects?))
}

async fn objects<T: crate::transport::Transport + 'static>(cluster: &LiveCluster<T>) -> Result<Objects, Failure> {
    let unanswered = |what: &str, reason: &str| Failure::new(Kind::Cluster, format!("cannot read {what}: {reason}"));
    let client = cluster.client().await.map_err(|error| Failure::from_error(Kind::Cluster, &error))?;
    let get = async |path: &str| -> Result<Value, Failure> {
        let text = ask(&client, path).await.map_err(|reason| unanswered(path, &reason))?;
        serde_json::from_str(&text).map_err(|error| unanswered(path, &error.to_string()))
    };
    // A list tells what is not there from what cannot be read.
    let named = |list: &Value, name: &str| {
        let items = list["items"].as_array().into_iter().flatten();
        items.into_iter().find(|item| item.pointer("/metadata/name").and_then(Value::as_str) == Some(name)).cloned()
    };
    let maps = get("/api/v1/namespaces/kube-system/configmaps").await?;
    let deployments = get("/apis/apps/v1/namespaces/kube-system/deployments").await?;
    let nodes = get("/api/v1/nodes").await?;
    let configuration = named(&maps, "kubeadm-config")
        .ok_or_else(|| Failure::new(Kind::Refused, "the cluster has no ConfigMap kube-system/kubeadm-config: kubeadm did not make it"))?;
    let text = configuration["data"]["ClusterConfiguration"].as_str().unwrap_or_default();
    let cluster_configuration: Value = yaml::read(text).map_err(|error| unanswered("kubeadm-config", &error.to_string()))?;
    Ok(Objects {
        nodes: nodes["items"].as_array().cloned().unwrap_or_default(),
        cluster_configuration,
        kube_proxy: named(&maps, "kube-proxy"),
        core_dns: named(&maps, "coredns"),
        core_dns_deployment: named(&deployments, "coredns"),
    })
}

/// How each host is reached where that differs from the plan's `ssh`, and a plan that looks at all.
fn everyone(
    arguments: &Arguments,
    ssh: &Value,
    first: &Facts,
    objects: &Objects,
) -> Result<(BTreeMap<HostName, Value>, Plan), Failure> {
    let mut host_ssh = BTreeMap::new();
    let mut hosts = Vec::new();
    for place in nodes::places(&objects.nodes).map_err(|error| refused(&error))? {
        let login = arguments.nodes.iter().find(|(name, _)| *name == place.name).map(|(_, login)| login);
        let is_first = place.addresses.iter().any(|address| first.system.addresses.iter().any(|own| own.address == *address));
        let login = login.or_else(|| is_first.then_some(&arguments.host));
        let mut own = json!({});
        if let Some(Login { user, address }) = login {
            if *address != place.addresses[0].to_string() {
                own["address"] = json!(address);
            }
            if *user != arguments.host.user {
                own["user"] = json!(user);
            }
        }
        hosts.push(json!({
            "name": place.name,
            "address": place.addresses[0],
            "roles": [if place.control_plane { "control-plane" } else { "worker" }],
            "ssh": own,
        }));
        host_ssh.insert(place.name, own);
    }
    Ok((host_ssh, looking(ssh, hosts)?))
}

/// What `apply` would do with the new plan.
async fn remaining(plan: Plan) -> Result<(), Failure> {
    let transport = sessions::open(&plan)?;
    let options = Options {
        hosts: &[],
        phases: &[],
        renew: &Requested::NONE,
        lock: None,
        now: Timestamp::now(),
        local: LocalSource::Read,
        rotation: Aims::new(),
    };
    let planned = planning::plan(Arc::new(plan), transport.as_ref(), planning::live(&transport), options).await;
    transport.close().await;
    let planned = planned?;
    eprint!("{}", planned.warnings());
    let difference = Difference::of(&planned.graph);
    println!("what `slipway apply` would do now:");
    print!("{}", difference.to_text(diff::look(false)));
    Ok(())
}
