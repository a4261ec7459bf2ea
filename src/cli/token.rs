//! `slipway token`: bootstrap tokens, for hosts that join with `kubeadm join`. slipway's own hosts
//! need none: the engine signs their first certificates.

use std::fmt::Write as _;
use std::sync::Arc;

use jiff::Timestamp;

use super::{Output, PlanFile, check, sessions, survey};
use crate::bootstrap_token;
use crate::cluster::tokens::{self, ListedToken};
use crate::cluster::ClusterError;
use crate::failure::{Failure, Kind};
use crate::names::{Digest, Span};
use crate::plan::Plan;
use crate::transport::Transport as _;
use crate::trust::inspect::{self, InspectError};

/// What can be asked of `token`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a bootstrap token and print it
    Create {
        #[command(flatten)]
        file: PlanFile,
        /// How long it is valid
        #[arg(long = "for", value_name = "TIME", default_value = "24h", value_parser = life)]
        life: Span,
        /// Print the whole `kubeadm join` command instead of the token
        #[arg(long)]
        print_join_command: bool,
    },
    /// List the bootstrap tokens, without their secret halves
    List {
        #[command(flatten)]
        file: PlanFile,
        /// How results are written
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Make a bootstrap token invalid
    Delete {
        #[command(flatten)]
        file: PlanFile,
        /// The token's id: its part before the dot (a whole token is accepted too)
        #[arg(value_name = "ID", value_parser = token_id)]
        id: String,
    },
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (Command::Create { file, .. } | Command::List { file, .. } | Command::Delete { file, .. }) = &arguments.command;
    let plan = Arc::new(check::load_plan(file, Output::Text)?.plan);
    let transport = sessions::open(&plan)?;
    let now = Timestamp::now();
    let survey = survey::look(&plan, &transport, crate::plan::Host::is_control_plane, now).await;
    let work = async {
        let (cluster, credentials) = survey.living()?;
        let client = cluster.client().await.map_err(unanswered)?;
        match &arguments.command {
            Command::Create { life, print_join_command, .. } => {
                let token = bootstrap_token::draw(now, life.0);
                // Everything that can fail comes before the token is made.
                let hashes = authority_hashes(&credentials.ca_pem)
                    .map_err(|error| Failure::new(Kind::Cluster, format!("the cluster's CA certificate cannot be used: {error}")))?;
                tokens::create(&client, &token).await.map_err(unanswered)?;
                let secret = token.secret.expose_text().expect("it is drawn from letters and digits");
                let text = format!("{}.{secret}", token.id);
                println!("{}", if *print_join_command { join_command(&plan, &text, &hashes) } else { text });
            }
            Command::List { output, .. } => {
                let tokens = tokens::list(&client).await.map_err(unanswered)?;
                match output {
                    Output::Json => println!("{}", crate::report::visible::json(&tokens, true)),
                    Output::Text => print!("{}", listed(&tokens)),
                }
            }
            Command::Delete { id, .. } => {
                tokens::delete(&client, id).await.map_err(unanswered)?;
                eprintln!("bootstrap token {id} is no longer valid");
            }
        }
        Ok(())
    };
    let result = work.await;
    transport.close().await;
    result
}

fn unanswered(error: ClusterError) -> Failure {
    Failure::new(Kind::Cluster, error.message)
}

/// kubeadm's `--discovery-token-ca-cert-hash`: SHA-256 over the public key of each CA certificate
/// (`SubjectPublicKeyInfo` in DER, RFC 7469).
fn authority_hashes(ca_pem: &str) -> Result<Vec<String>, InspectError> {
    let certificates = inspect::certificates(ca_pem.as_bytes())?;
    Ok(certificates.iter().map(|certificate| format!("sha256:{}", Digest::of(&certificate.public_key))).collect())
}

fn join_command(plan: &Plan, token: &str, hashes: &[String]) -> String {
    let url = plan.public_url();
    let address = url.strip_prefix("https://").unwrap_or(&url);
    let mut command = format!("kubeadm join {address} --token {token}");
    for hash in hashes {
        let _ = write!(command, " --discovery-token-ca-cert-hash {hash}");
    }
    command
}

fn listed(tokens: &[ListedToken]) -> String {
    let mut text = String::from("TOKEN   EXPIRES               USAGES\n");
    for token in tokens {
        let expires = token.expires.as_deref().unwrap_or("never");
        let description = token.description.as_ref().map_or_else(String::new, |text| format!("  {text}"));
        let line = format!("{:6}  {expires:20}  {}{description}", token.id, token.usages.join(","));
        let _ = writeln!(text, "{}", crate::report::visible::visible(&line));
    }
    text
}

fn life(text: &str) -> Result<Span, String> {
    let span: Span = text.parse().map_err(|error: crate::names::NameError| error.to_string())?;
    if span.0.as_secs() < 60 { Err("a token that lives less than a minute is of no use".into()) } else { Ok(span) }
}

/// The public half of a token: 6 lower-case letters and digits.
fn token_id(text: &str) -> Result<String, String> {
    let id = text.split_once('.').map_or(text, |(id, _)| id);
    let good = id.len() == 6 && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    // The text is not repeated: it may hold a secret.
    if good { Ok(id.to_owned()) } else { Err("an id has 6 lower-case letters and digits".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with openssl, as is the digest below: `openssl x509 -pubkey -noout | openssl pkey -pubin
    /// -outform der | sha256sum`, which is what kubeadm's documentation says to do.
    const CA: &str = "\
-----BEGIN CERTIFICATE-----
MIIBgDCCASWgAwIBAgIUAuaVnZBlKMGzsnNh69MUEC7q6T0wCgYIKoZIzj0EAwIw
FTETMBEGA1UEAwwKa3ViZXJuZXRlczAeFw0yNjExMjEwMDIyMzVaFw0zNjExMTgw
MDIyMzVaMBUxEzARBgNVBAMMCmt1YmVybmV0ZXMwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAARkgN5NVTQK+6uwXLsjpjHQ5bn/hjwJ9jSJfig+OorqCX8UiDmG1Etp
6F1v//VTMFBOlWQZUXskfuhgUSYnq+JUo1MwUTAdBgNVHQ4EFgQUJ6W7+tEHYSPl
lgFq3QTVd+0VpDEwHwYDVR0jBBgwFoAUJ6W7+tEHYSPllgFq3QTVd+0VpDEwDwYD
VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNJADBGAiEApO9NW7nzCuvHOjncX7v6
s8w4HUnEjLdUhcoMDiLLch8CIQCddZO+ReMNv4491AC0M3fF+RKMwoqd5c6VUv+b
60hTvg==
-----END CERTIFICATE-----\n";

    #[test]
    fn the_join_command_has_a_hash_for_each_authority() {
        let hashes = authority_hashes(&CA.repeat(2)).unwrap();
        let plan = crate::graph::tests::plan(3, 0, 1);
        let command = join_command(&plan, "abcdef.0123456789abcdef", &hashes[..1]);
        assert_eq!(
            command,
            "kubeadm join 10.0.0.1:6443 --token abcdef.0123456789abcdef --discovery-token-ca-cert-hash \
             sha256:ec72482e19249b086bc29d50af273702cf9d08d4ebfea638f174045258a14003"
        );
        assert_eq!(hashes.len(), 2);
        assert!(authority_hashes("nothing").is_err());
    }

    #[test]
    fn ids_and_lives_are_checked() {
        assert_eq!(token_id("abc123"), Ok("abc123".into()));
        assert_eq!(token_id("abc123.0123456789abcdef"), Ok("abc123".into()));
        for bad in ["", "ABC123", "abc12", "../../x", "abc1234"] {
            assert!(token_id(bad).is_err(), "{bad}");
        }
        assert!(life("2h").is_ok() && life("0s").is_err() && life("1d").is_err() && life("59s").is_err());
    }
}
