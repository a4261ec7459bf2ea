//! `slipway kubeconfig`: an admin kubeconfig for people, taken from a control plane and pointed at
//! the address clients outside the cluster use.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Output, PlanFile, check, sessions};
use crate::artifact::Secret;
use crate::failure::{Failure, Kind};
use crate::names::RemotePath;
use crate::plan::Plan;
use crate::transport::Transport as _;
use crate::trust::inspect;
use crate::trust::kubeconfig::{self, Credentials};
use crate::yaml;

pub(super) mod user;

/// What can be asked of `kubeconfig`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The plan file
    #[arg(value_name = "PLAN", required = true)]
    plan: Option<PathBuf>,
    /// Write to this file (mode 0600) instead of the standard output
    #[arg(long, value_name = "FILE", conflicts_with = "merge")]
    out: Option<PathBuf>,
    /// Merge into this kubeconfig and make it the current context; without a value, into
    /// $KUBECONFIG or ~/.kube/config
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    merge: Option<Option<PathBuf>>,
    /// Use this address of the API instead of the plan's
    #[arg(long, value_name = "URL")]
    server: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make short-lived credentials for a person or program
    User(user::Arguments),
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    if let Some(Command::User(arguments)) = &arguments.command {
        return user::run(arguments).await;
    }
    let plan = arguments.plan.clone().expect("clap wants it where there is no subcommand");
    let loaded = check::load_plan(&PlanFile { plan }, Output::Text)?;
    let admin = fetch(&loaded.plan).await?;
    let server = arguments.server.clone().unwrap_or_else(|| loaded.plan.public_url());
    let text = admin.expose_text().ok_or_else(|| Failure::new(Kind::Cluster, "admin.conf of the control plane is not text"))?;
    let entry = pointed_at(text, loaded.plan.name.as_str(), &server)?;
    match (&arguments.out, &arguments.merge) {
        (Some(path), _) => write(path, &yaml::write(&entry)),
        (None, Some(path)) => {
            let path = path.clone().map_or_else(default_path, Ok)?;
            let existing = match std::fs::read_to_string(&path) {
                Ok(text) => yaml::read::<Value>(&text)
                    .map_err(|error| Failure::new(Kind::LocalFile, format!("{}: {error}", path.display())))?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => json!({}),
                Err(error) => return Err(Failure::new(Kind::LocalFile, format!("cannot read {}: {error}", path.display()))),
            };
            let context = entry["current-context"].as_str().unwrap_or_default().to_owned();
            write(&path, &yaml::write(&merged(existing, &entry)))?;
            eprintln!("merged into {}: context {context}", path.display());
            Ok(())
        }
        (None, None) => {
            print!("{}", yaml::write(&entry));
            Ok(())
        }
    }
}

/// admin.conf of the first control plane that has one.
async fn fetch(plan: &Plan) -> Result<Secret, Failure> {
    let transport = sessions::open(plan)?;
    let path = RemotePath::fixed("/etc/kubernetes/admin.conf");
    let mut reasons = Vec::new();
    let mut found = None;
    for host in plan.control_planes() {
        match transport.fetch(&host.name, std::slice::from_ref(&path)).await {
            Ok(mut files) => match files.remove(&path) {
                Some(file) => {
                    found = Some(file);
                    break;
                }
                None => reasons.push(format!("host {} has no {path}", host.name)),
            },
            Err(error) => reasons.push(error.to_string()),
        }
    }
    transport.close().await;
    found.ok_or_else(|| Failure::new(Kind::Cluster, reasons.join("\nerror: ")).hint("is the cluster made? `slipway apply` makes it"))
}

/// The one cluster, user and context of an admin kubeconfig, under names that tell clusters apart.
fn pointed_at(text: &str, cluster: &str, server: &str) -> Result<Value, Failure> {
    let wrong = |what: &str| Failure::new(Kind::Cluster, format!("admin.conf of the control plane has no {what}"));
    let admin = kubeconfig::read(text).map_err(|error| Failure::new(Kind::Cluster, format!("admin.conf of the control plane: {error}")))?;
    let authority = admin.authority.ok_or_else(|| wrong("embedded CA certificate"))?;
    let Credentials::Embedded { certificate, key } = admin.credentials else {
        return Err(wrong("embedded certificate and key"));
    };
    let unfit = |what: &str| Failure::new(Kind::Cluster, format!("admin.conf of the control plane: {what}"));
    inspect::certificates(&authority).map_err(|_| unfit("its CA certificate cannot be read"))?;
    let leaf = inspect::certificate(&certificate).map_err(|_| unfit("its certificate cannot be read"))?;
    if inspect::public_half(&key).ok().as_ref() != Some(&leaf.public_key) {
        return Err(unfit("its key does not fit its certificate"));
    }
    let user = json!({
        "client-certificate-data": STANDARD.encode(&certificate),
        "client-key-data": STANDARD.encode(key.expose()),
    });
    let authority = STANDARD.encode(&authority);
    let user_name = format!("{cluster}-admin");
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": cluster, "cluster": { "server": server, "certificate-authority-data": authority } }],
        "users": [{ "name": user_name, "user": user }],
        "contexts": [{ "name": cluster, "context": { "cluster": cluster, "user": user_name } }],
        "current-context": cluster,
    }))
}

/// `existing` with the entries of `new` in or over its own; everything else stays.
fn merged(mut existing: Value, new: &Value) -> Value {
    if !existing.is_object() {
        existing = json!({});
    }
    for key in ["clusters", "users", "contexts"] {
        if !existing[key].is_array() {
            existing[key] = json!([]);
        }
        for entry in new[key].as_array().into_iter().flatten() {
            let list = existing[key].as_array_mut().expect("it was made one above");
            match list.iter_mut().find(|old| old["name"] == entry["name"]) {
                Some(old) => *old = entry.clone(),
                None => list.push(entry.clone()),
            }
        }
    }
    existing["apiVersion"] = json!("v1");
    existing["kind"] = json!("Config");
    existing["current-context"] = new["current-context"].clone();
    existing
}

fn default_path() -> Result<PathBuf, Failure> {
    if let Some(first) = std::env::var_os("KUBECONFIG").and_then(|paths| std::env::split_paths(&paths).next()) {
        return Ok(first);
    }
    std::env::home_dir()
        .map(|home| home.join(".kube/config"))
        .ok_or_else(|| Failure::new(Kind::LocalFile, "there is no home directory").hint("name the file: --merge=FILE"))
}

/// Writes a file with mode 0600, whole or not at all.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::new(Kind::LocalFile, format!("cannot write {}: {error}", path.display()));
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory).map_err(failed)?;
    // A temporary file has mode 0600 from the start.
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An admin.conf with real credentials, and `more` in its user and cluster.
    fn admin(more: Value) -> String {
        let pair = rcgen::generate_simple_self_signed(["kubernetes-admin".to_owned()]).unwrap();
        let (certificate, key) = (STANDARD.encode(pair.cert.pem()), STANDARD.encode(pair.signing_key.serialize_pem()));
        let mut cluster = json!({ "certificate-authority-data": certificate, "server": "https://x:1" });
        let mut user = json!({ "client-certificate-data": certificate, "client-key-data": key });
        for (name, value) in more.as_object().unwrap() {
            cluster[name] = value.clone();
            user[name] = value.clone();
        }
        yaml::write(&json!({
            "clusters": [{ "name": "c", "cluster": cluster }],
            "users": [{ "name": "u", "user": user }],
            "contexts": [{ "name": "x", "context": { "cluster": "c", "user": "u" } }],
            "current-context": "x",
        }))
    }

    #[test]
    fn a_hostile_control_plane_gives_credentials_and_nothing_else() {
        let hostile = admin(json!({
            "exec": { "apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/sh", "args": ["-c", "id"], "interactiveMode": "Never" },
            "auth-provider": { "name": "gcp", "config": { "cmd-path": "/bin/sh" } },
            "client-key": "/home/ann/.ssh/id_ed25519",
            "tokenFile": "/etc/shadow",
            "certificate-authority": "/etc/passwd",
            "proxy-url": "http://192.0.2.66",
            "insecure-skip-tls-verify": true,
            "as": "root",
        }));
        let entry = pointed_at(&hostile, "a", "https://new:6443").unwrap();
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&entry["users"][0]["user"]), ["client-certificate-data", "client-key-data"]);
        assert_eq!(keys(&entry["clusters"][0]["cluster"]), ["server", "certificate-authority-data"]);
        assert_eq!(entry["clusters"][0]["cluster"]["server"], "https://new:6443");
    }

    #[test]
    fn references_to_files_and_keys_of_others_are_refused() {
        let replaced = |name: &str, value: &str| {
            let mut file: Value = yaml::read(&admin(json!({}))).unwrap();
            let (list, entry) = if name.starts_with("certificate") { ("clusters", "cluster") } else { ("users", "user") };
            file[list][0][entry][name] = json!(value);
            pointed_at(&yaml::write(&file), "a", "https://new:6443").unwrap_err().to_string()
        };
        let other: Value = yaml::read(&admin(json!({}))).unwrap();
        let other = other["users"][0]["user"]["client-key-data"].as_str().unwrap().to_owned();
        assert!(replaced("client-key-data", &other).contains("does not fit"));
        assert!(replaced("client-key-data", "QQ==").contains("does not fit"));
        assert!(replaced("certificate-authority-data", "QQ==").contains("cannot be read"));
        assert!(replaced("certificate-authority-data", "$(id)").contains("not base64"));
        let files = "clusters: [{name: c, cluster: {certificate-authority: /etc/passwd}}]\ncontexts: [{name: x, context: {cluster: c, user: u}}]\n\
                     users: [{name: u, user: {exec: {command: sh}}}]\ncurrent-context: x\n";
        assert!(pointed_at(files, "a", "https://new:6443").unwrap_err().to_string().contains("embedded"));
    }

    #[test]
    fn merging_replaces_only_the_clusters_own_entries() {
        let existing = json!({
            "preferences": { "colors": true },
            "clusters": [{ "name": "a", "cluster": { "server": "old" } }, { "name": "b", "cluster": {} }],
            "current-context": "b",
        });
        let entry = pointed_at(&admin(json!({})), "a", "https://new:6443").unwrap();
        let result = merged(existing, &entry);
        assert_eq!(result["clusters"][0]["cluster"]["server"], "https://new:6443");
        assert_eq!(result["clusters"][1]["name"], "b");
        assert_eq!(result["current-context"], "a");
        assert_eq!(result["preferences"]["colors"], true);
        assert_eq!(merged(result.clone(), &entry), result);
    }
}
