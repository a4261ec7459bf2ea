//! `slipway certs sign`: signs requests with a CA in a directory, on any machine, without a host. What
//! is asked for is kept to the last name or refused; with a plan it must be what the plan wants.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::super::{Output, PlanFile, check};
use super::span;
use crate::artifact::Secret;
use crate::failure::{Failure, Kind};
use crate::names::Span;
use crate::plan::Plan;
use crate::trust::csr::{self, Request};
use crate::trust::inspect::{self, Certificate};
use crate::trust::issue::{Signer, Validity};
use crate::trust::specification::{self, Authority};

/// The group whose members can do everything.
const MASTERS: &str = "system:masters";

/// What can be asked of `certs sign`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The directory with the CA: `ca.crt` and `ca.key`
    #[arg(long, value_name = "DIR")]
    ca: PathBuf,
    /// Sign only what this plan wants of one of its hosts
    #[arg(long, value_name = "PLAN")]
    plan: Option<PathBuf>,
    /// How long the certificates are valid
    #[arg(long = "for", value_name = "TIME", default_value = "365d", value_parser = span)]
    life: Span,
    /// Requests (PEM); each certificate is written beside its request, as `.crt`
    #[arg(value_name = "CSR", required = true)]
    requests: Vec<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let plan = match &arguments.plan {
        Some(plan) => Some(check::load_plan(&PlanFile { plan: plan.clone() }, Output::Text)?.plan),
        None => None,
    };
    let now = Timestamp::now();
    let signer = load(&arguments.ca, now)?;
    let mut signed = Vec::new();
    // Everything is judged and signed before the first file is written.
    for path in &arguments.requests {
        let wrong = |reason: String| Failure::new(Kind::Refused, format!("{}: {reason}", path.display())).hint("nothing was signed");
        let request = csr::read(&read(path)?).map_err(|error| wrong(error.to_string()))?;
        judge(&request, signer.certificate(), plan.as_ref()).map_err(wrong)?;
        let text = signer.sign_request(&request, Validity { now, length: arguments.life.0 }).map_err(|error| wrong(error.to_string()))?;
        let target = path.with_extension("crt");
        if target.exists() {
            return Err(Failure::new(Kind::LocalFile, format!("{} is there already", target.display())).hint("nothing was signed"));
        }
        signed.push((target, text, request));
    }
    for (target, text, request) in signed {
        write(&target, &text)?;
        println!("{}: {}", target.display(), request.subject);
    }
    Ok(())
}

/// What is wrong with a request, besides what no request may ask for.
fn judge(request: &Request, ca: &Certificate, plan: Option<&Plan>) -> Result<(), String> {
    if request.usages.is_empty() {
        return Err("it does not say whether it is for a server or a client (extended key usage)".into());
    }
    let Some(plan) = plan else {
        let masters = request.subject.organizations.contains(MASTERS);
        return if masters { Err(format!("its group {MASTERS} can do everything; it is signed only for a plan that wants it (--plan)")) } else { Ok(()) };
    };
    let leaves = specification::leaves(plan, plan.kubernetes.version);
    let same_subject: Vec<_> = leaves.iter().filter(|leaf| leaf.subject == request.subject).collect();
    if same_subject.is_empty() {
        return Err(format!("the plan wants no certificate of `{}`", request.subject));
    }
    let same_names = |leaf: &specification::Leaf| {
        let sorted = |names: &[specification::SubjectName]| names.iter().cloned().collect::<std::collections::BTreeSet<_>>();
        sorted(&leaf.names) == sorted(&request.names)
    };
    let Some(leaf) = same_subject.iter().find(|leaf| same_names(leaf) && leaf.usages == request.usages) else {
        let names: Vec<String> = request.names.iter().map(ToString::to_string).collect();
        let usages: Vec<String> = request.usages.iter().map(ToString::to_string).collect();
        return Err(format!("the plan wants no certificate of `{}` as {} for [{}]", request.subject, usages.join(" and "), names.join(", ")));
    };
    let other = Authority::ALL.into_iter().find(|authority| authority.common_name() == ca.subject.common_name);
    match other {
        Some(other) if other != leaf.authority => Err(format!("{} is signed by the {}, not by the {other}", leaf.name, leaf.authority)),
        _ => Ok(()),
    }
}

fn load(directory: &Path, now: Timestamp) -> Result<Signer, Failure> {
    let certificate = directory.join("ca.crt");
    let refused = |reason: String| Failure::new(Kind::Refused, format!("{}: {reason}", directory.display()));
    let ca = inspect::certificate(&read(&certificate)?).map_err(|error| refused(format!("ca.crt cannot be used: {error}")))?;
    let key = Secret::new(read(&directory.join("ca.key"))?);
    Signer::load(&ca, &key, now).map_err(|error| refused(error.to_string()))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure::new(Kind::LocalFile, format!("cannot read {}: {error}", path.display())))
}

/// Writes a certificate, whole or not at all.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt as _;
    let failed = |error: std::io::Error| Failure::new(Kind::LocalFile, format!("cannot write {}: {error}", path.display()));
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644)).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist_noclobber(path).map_err(|error| failed(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests;
