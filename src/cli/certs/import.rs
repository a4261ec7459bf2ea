//! `slipway certs import`: what somebody else signed, judged to the last name and brought into the
//! cluster: as its first certificates, or through the renewal of a living one.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::super::apply::Consent;
use super::super::{Output, PlanFile, check, sessions};
use super::{csr, renew};
use crate::artifact::Secret;
use crate::failure::{Failure, Kind};
use crate::local_files;
use crate::plan::{AuthorityKeys, Plan};
use crate::transport::Transport as _;
use crate::trust::authorities::Given;
use crate::trust::specification::ClusterPair;
use crate::trust::decide::{FoundLeaf, Requested};
use crate::trust::import::{Wanted, judge};
use crate::trust::inspect;
use crate::trust::specification::{self, Leaf};

/// What can be asked of `certs import`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: PlanFile,
    /// The directory of `certs csr`, with the certificates beside their requests
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    #[command(flatten)]
    consent: Consent,
    /// How events and results are written
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let loaded = check::load_plan(&arguments.file, arguments.output)?;
    if !matches!(loaded.plan.pki.authority, AuthorityKeys::External { .. }) {
        return Err(Failure::new(Kind::Refused, "slipway signs the certificates of this plan itself").hint("`slipway certs renew` renews them"));
    }
    let given = local_files::authorities(&loaded.plan).map_err(|error| Failure::from_error(Kind::LocalFile, &error))?;
    let brought = read(&loaded.plan, &given, &arguments.directory, Timestamp::now())?;
    if arguments.output == Output::Text {
        eprintln!("{} certificates are what the plan wants", brought.len());
    }
    let requested = Requested::brought(brought);
    let transport = sessions::open(&loaded.plan)?;
    let job = renew::Job { command: "certs import", hosts: &[], consent: &arguments.consent, output: arguments.output, requested: &requested, makes_cluster: true };
    let result = renew::work(&job, loaded, &transport).await;
    transport.close().await;
    result
}

/// Every certificate that is there, judged. One that is not as it should be ends the import.
pub(super) fn read(plan: &Plan, given: &Given, directory: &Path, now: Timestamp) -> Result<Vec<(Leaf, FoundLeaf)>, Failure> {
    let mut brought = Vec::new();
    let mut problems = Vec::new();
    for leaf in specification::leaves(plan, plan.kubernetes.version) {
        let files = csr::files(directory, &leaf);
        if !files.certificate.exists() {
            continue;
        }
        let (certificate, key) = (bytes(&files.certificate)?, Secret::new(bytes(&files.key)?));
        let text = given.get(&ClusterPair::Authority(leaf.authority)).map(String::as_bytes).unwrap_or_default();
        let authority = inspect::certificate(text).map_err(|error| Failure::new(Kind::LocalFile, format!("the {} cannot be used: {error}", leaf.authority)))?;
        let wanted = Wanted { leaf: &leaf, authority: &authority, renew_before: plan.pki.renew_before, now };
        match judge(wanted, &certificate, &key) {
            Ok(found) => brought.push((leaf, found)),
            Err(error) => problems.push(format!("{}: {error}", files.certificate.display())),
        }
    }
    if !problems.is_empty() {
        return Err(Failure::new(Kind::Refused, problems.join("\nerror: ")).hint("nothing was changed"));
    }
    if brought.is_empty() {
        return Err(Failure::new(Kind::LocalFile, format!("{} holds no certificate that the plan wants", directory.display()))
            .hint("`slipway certs csr` writes requests; each certificate goes beside its request, as .crt"));
    }
    Ok(brought)
}

fn bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure::new(Kind::LocalFile, format!("cannot read {}: {error}", path.display())))
}

#[cfg(test)]
mod tests;
