//! `slipway kubeconfig user`: credentials for a person or program, signed by the cluster's CA, that end
//! by themselves. Nobody can take such a certificate back, so it is short-lived, says whom it names, and
//! is written into the journal before it is handed out.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::super::cluster_authority::{self, ClusterAuthority};
use super::super::{Output, PlanFile, check, sessions};
use super::write;
use crate::artifact::Secret;
use crate::failure::{Failure, Kind};
use crate::names::{Digest, Span};
use crate::plan::{KeyAlgorithm, Plan};
use crate::report::journal::{self, Issuance, Journal};
use crate::transport::Transport as _;
use crate::trust::inspect::{self, Certificate};
use crate::trust::issue::{self, IssueError, Signer, Validity};
use crate::trust::specification::Subject;
use crate::yaml;

/// The group whose members no rule of the cluster can refuse anything.
const MASTERS: &str = "system:masters";

/// What can be asked of `kubeconfig user`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    file: PlanFile,
    /// Whom the credentials name; Kubernetes knows the user by it
    #[arg(long, value_name = "NAME", value_parser = user_name)]
    name: String,
    /// A group the user is in (may be repeated)
    #[arg(long = "group", value_name = "GROUP", required = true)]
    groups: Vec<String>,
    /// How long they are valid (`8h`, at most `pki.validity`)
    #[arg(long = "for", value_name = "TIME", default_value = "24h", value_parser = crate::cli::certs::span)]
    life: Span,
    /// Allow the group system:masters, whose members can do everything whatever the cluster's rules say
    #[arg(long)]
    allow_masters: bool,
    /// Write to this file (mode 0600)
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Use this address of the API instead of the plan's
    #[arg(long, value_name = "URL")]
    server: Option<String>,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let loaded = check::load_plan(&arguments.file, Output::Text)?;
    let plan = &loaded.plan;
    let subject = subject(&arguments.name, &arguments.groups, arguments.allow_masters)?;
    check_life(arguments.life, plan)?;
    let transport = sessions::open(plan)?;
    let authority = cluster_authority::fetch(plan, transport.as_ref()).await;
    transport.close().await;
    let ClusterAuthority { certificate: ca, key, trusted } = authority?;
    let now = Timestamp::now();
    let failed = |error: IssueError| Failure::from_error(Kind::Refused, &error);
    let (certificate, pem, user_key) = sign(&ca, &key, &subject, arguments.life, now).map_err(failed)?;
    let server = arguments.server.clone().unwrap_or_else(|| plan.public_url());
    let text = yaml::write(&kubeconfig(plan.name.as_str(), &arguments.name, &server, &trusted, &pem, &user_key));
    let issuance = Issuance {
        name: subject.common_name.clone(),
        groups: subject.organizations.iter().cloned().collect(),
        serial: certificate.serial.clone(),
        not_after: certificate.not_after,
    };
    note(plan, Digest::of(&loaded.text), &issuance, now)?;
    write(&arguments.out, &text)?;
    eprintln!("{}: {subject} until {}", arguments.out.display(), certificate.not_after);
    Ok(())
}

/// Whom the certificate names. Names and groups below `system:` are Kubernetes' own: a certificate for
/// one of them would be a component, a node or a service account.
fn subject(name: &str, groups: &[impl AsRef<str>], allow_masters: bool) -> Result<Subject, Failure> {
    let refused = |message: String| Failure::new(Kind::Refused, message);
    if name.starts_with("system:") {
        return Err(refused(format!("`{name}` is a name of Kubernetes' own")));
    }
    for group in groups.iter().map(AsRef::as_ref) {
        // X.520, ub-organization-name: readers may refuse longer ones.
        if group.is_empty() || group.len() > 64 || group.chars().any(char::is_control) {
            return Err(refused("the name of a group has 1 to 64 characters".into()));
        }
        if group == MASTERS && !allow_masters {
            return Err(refused(format!("members of {MASTERS} can do everything, and no rule of the cluster can take that from them before the certificate ends"))
                .hint("give the user a group that a ClusterRoleBinding names, or pass --allow-masters"));
        }
        if group != MASTERS && group.starts_with("system:") {
            return Err(refused(format!("`{group}` is a group of Kubernetes' own")));
        }
    }
    Ok(Subject { common_name: name.to_owned(), organizations: groups.iter().map(|group| group.as_ref().to_owned()).collect() })
}

fn check_life(life: Span, plan: &Plan) -> Result<(), Failure> {
    if life.0.as_secs() < 60 {
        return Err(Failure::new(Kind::Refused, "credentials that live less than a minute are of no use"));
    }
    if life > plan.pki.validity {
        return Err(Failure::new(Kind::Refused, format!("{life} is longer than certificates of this cluster live ({}, `pki.validity`)", plan.pki.validity)));
    }
    Ok(())
}

fn sign(ca: &Certificate, key: &Secret, subject: &Subject, life: Span, now: Timestamp) -> Result<(Certificate, String, Secret), IssueError> {
    let signer = Signer::load(ca, key, now)?;
    // It would be refused from the moment the CA ends.
    let left = ca.not_after.duration_since(now);
    let length = SignedDuration::try_from(life.0).unwrap_or(SignedDuration::MAX).min(left);
    let user_key = issue::generate_key(KeyAlgorithm::EcdsaP256)?;
    let validity = Validity { now, length: length.try_into().unwrap_or_default() };
    let pem = signer.sign_client(subject, &user_key, validity)?;
    let certificate = inspect::certificate(pem.as_bytes()).map_err(|error| IssueError::Encode(error.to_string()))?;
    Ok((certificate, pem, user_key.private))
}

fn kubeconfig(cluster: &str, name: &str, server: &str, trusted: &str, certificate: &str, key: &Secret) -> Value {
    use base64::Engine as _;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let user = format!("{cluster}-{name}");
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": cluster, "cluster": { "server": server, "certificate-authority-data": encode(trusted.as_bytes()) } }],
        "users": [{ "name": user, "user": { "client-certificate-data": encode(certificate.as_bytes()), "client-key-data": encode(key.expose()) } }],
        "contexts": [{ "name": user, "context": { "cluster": cluster, "user": user } }],
        "current-context": user,
    })
}

/// Writes into the journal what is about to be handed out. Without that nothing is.
fn note(plan: &Plan, plan_digest: Digest, issuance: &Issuance, now: Timestamp) -> Result<(), Failure> {
    let directory = journal::directory(&plan.name, |name| std::env::var_os(name).map(Into::into))
        .ok_or_else(|| Failure::new(Kind::LocalFile, "there is no home directory for the journal, and no credentials are handed out without a note"))?;
    let start = journal::Start {
        version: env!("CARGO_PKG_VERSION").into(),
        command: "kubeconfig user".into(),
        plan: plan_digest,
        operator: sessions::operator(),
    };
    let failed = |error: journal::JournalError| Failure::from_error(Kind::LocalFile, &error).hint("no credentials were handed out");
    let mut journal = Journal::begin(&directory, now, &start).map_err(failed)?;
    journal.issued(now, issuance).map_err(failed)
}

fn user_name(text: &str) -> Result<String, String> {
    let good = !text.is_empty() && text.len() <= 64 && text.chars().all(|c| !c.is_control() && !c.is_whitespace());
    // RFC 5280, appendix A: ub-common-name is 64.
    if good { Ok(text.to_owned()) } else { Err("a name has 1 to 64 characters, and no white space".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::specification::Usage;
    use crate::trust::testing::{Hosts, day, epoch, plan};

    #[test]
    fn names_and_groups_of_kubernetes_are_refused_and_masters_need_a_word() {
        for (name, group, masters, good) in [
            ("olga", "developers", false, true),
            ("olga", "system:masters", false, false),
            ("olga", "system:masters", true, true),
            ("olga", "system:nodes", true, false),
            ("olga", "system:serviceaccounts", false, false),
            ("system:node:cp-1", "developers", false, false),
            ("system:kube-scheduler", "developers", true, false),
            ("olga", "", false, false),
        ] {
            assert_eq!(subject(name, &["developers", group], masters).is_ok(), good, "developers and {group}");
            assert_eq!(subject(name, &[group], masters).is_ok(), good, "{name} {group} {masters}");
        }
    }

    #[test]
    fn credentials_name_the_user_and_end_in_time_and_never_after_their_ca() {
        let hosts = Hosts::bootstrapped(plan("single"));
        let ca = inspect::certificate(&hosts.bytes("cp-1", "/etc/kubernetes/pki/ca.crt")).unwrap();
        let key = Secret::new(hosts.bytes("cp-1", "/etc/kubernetes/pki/ca.key"));
        let subject = subject("olga", &["testers", "developers", "Köche", "developers"], false).unwrap();
        let (certificate, pem, user_key) = sign(&ca, &key, &subject, Span::seconds(86_400), epoch()).unwrap();
        assert_eq!(certificate.subject.to_string(), "O=Köche, O=developers, O=testers, CN=olga");
        assert_eq!((certificate.not_after, certificate.usages.clone()), (day(1), [Usage::Client].into()));
        assert!(certificate.is_signed_by(&ca) && !certificate.is_authority);
        assert_eq!(inspect::public_half(&user_key), Ok(certificate.public_key));
        let (late, ..) = sign(&ca, &key, &subject, Span::seconds(86_400 * 5), day(3649)).unwrap();
        assert_eq!(late.not_after, ca.not_after);
        assert!(sign(&ca, &key, &subject, Span::seconds(60), day(4000)).is_err());

        let text = yaml::write(&kubeconfig("prod", "olga", "https://api:6443", &ca.pem(), &pem, &user_key));
        let read = crate::trust::kubeconfig::read(&text).unwrap();
        assert_eq!(read.server, "https://api:6443");
        assert_eq!(read.authority, Some(ca.pem().into_bytes()));
    }

    #[test]
    fn lives_have_limits() {
        let plan = plan("single");
        let good = |seconds| check_life(Span::seconds(seconds), &plan).is_ok();
        assert!(good(60) && good(86_400) && !good(59) && !good(366 * 86_400));
    }
}
