//! `slipway certs csr`: a request for every leaf certificate of the plan, for a CA that somebody else
//! keeps. The keys are drawn on this machine and lie apart from the requests, so that what is handed to
//! the signer holds no secret. Touches no host.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::super::{Output, PlanFile, check};
use super::renew;
use crate::failure::{Failure, Kind};
use crate::names::HostName;
use crate::plan::{AuthorityKeys, Plan};
use crate::trust::issue;
use crate::trust::specification::{self, Authority, Leaf};

/// What can be asked of `certs csr`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: PlanFile,
    /// Certificates to ask for, by their names in `certs list`; all if none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Only those of this host (may be repeated)
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<HostName>,
    /// A new or empty directory: `requests/` is for the signer, `keys/` stays here
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// The files of one leaf below the directory.
pub(super) struct Files {
    /// The request.
    pub request: PathBuf,
    /// What is signed, beside it.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// Where a leaf's files are: sorted by the CA that shall sign it.
pub(super) fn files(directory: &Path, leaf: &Leaf) -> Files {
    let authority = match leaf.authority {
        Authority::Kubernetes => "cluster",
        Authority::FrontProxy => "front-proxy",
        Authority::Etcd => "etcd",
    };
    let path = |kind: &str, suffix: &str| directory.join(kind).join(authority).join(format!("{}.{}.{suffix}", leaf.host, leaf.name.replace('/', "-")));
    Files { request: path("requests", "csr"), certificate: path("requests", "crt"), key: path("keys", "key") }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let plan = check::load_plan(&arguments.file, Output::Text)?.plan;
    if !matches!(plan.pki.authority, AuthorityKeys::External { .. }) {
        return Err(Failure::new(Kind::Refused, "slipway signs the certificates of this plan itself")
            .hint("`pki: { authority: { external: … } }` leaves that to somebody else"));
    }
    let leaves = chosen(&plan, &arguments.names, &arguments.hosts)?;
    write(&plan, &leaves, &arguments.out)?;
    println!("{}: {} requests, to be signed by the CA each directory is named after", arguments.out.join("requests").display(), leaves.len());
    println!("each certificate goes beside its request as .crt; then `slipway certs import {} {}`", arguments.file.plan.display(), arguments.out.display());
    println!("{} holds their keys: keep it here, and remove it after the import", arguments.out.join("keys").display());
    Ok(())
}

fn chosen(plan: &Plan, names: &[String], hosts: &[HostName]) -> Result<Vec<Leaf>, Failure> {
    let leaves = specification::leaves(plan, plan.kubernetes.version);
    let known = leaves.iter().map(|leaf| leaf.name).collect();
    if let Some(name) = names.iter().find(|name| !leaves.iter().any(|leaf| leaf.name == *name)) {
        return Err(renew::unknown(name, &known));
    }
    if let Some(host) = hosts.iter().find(|host| plan.host(host).is_none()) {
        return Err(Failure::new(Kind::Plan, format!("the plan has no host `{host}`")));
    }
    let is_chosen = |leaf: &Leaf| {
        (names.is_empty() || names.iter().any(|name| name == leaf.name)) && (hosts.is_empty() || hosts.contains(&leaf.host))
    };
    Ok(leaves.into_iter().filter(is_chosen).collect())
}

/// Draws the keys and writes them with their requests.
pub(super) fn write(plan: &Plan, leaves: &[Leaf], directory: &Path) -> Result<(), Failure> {
    if fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::new(Kind::LocalFile, format!("{} is not empty", directory.display())).hint("give a new directory: keys are never overwritten"));
    }
    let failed = |error: issue::IssueError| Failure::from_error(Kind::Bug, &error);
    let keys = issue::generate_keys(plan.pki.algorithm, leaves.len()).map_err(failed)?;
    for (leaf, key) in leaves.iter().zip(&keys) {
        let text = issue::request(leaf, key).map_err(failed)?;
        let files = files(directory, leaf);
        put(&files.key, key.private.expose())?;
        put(&files.request, text.as_bytes())?;
    }
    Ok(())
}

/// Writes a new file that only its owner can read, in directories of the same kind.
fn put(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let work = || {
        if let Some(parent) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    work().map_err(|error: std::io::Error| Failure::new(Kind::LocalFile, format!("cannot write {}: {error}", path.display())))
}
