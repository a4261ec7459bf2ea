//! `slipway certs approve`: kubelets' requests for certificates, approved if all that is in them is the
//! plan's own host, and left alone with the reason if not. Where the operator keeps the CA's key, the
//! cluster cannot sign what is approved, so it is signed here, and client certificates with it.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;

use super::super::cluster_authority::{self, ClusterAuthority};
use super::super::{Output, PlanFile, check, sessions, survey};
use crate::cluster::live::FIELD_MANAGER;
use crate::cluster::wire::describe;
use crate::failure::{Failure, Kind};
use crate::names::HostName;
use crate::plan::{Host, Plan};
use crate::report::visible::visible;
use crate::transport::Transport;
use crate::trust::approval::{Asked, KUBELET_CLIENT, KUBELET_SERVING, judge, judge_client};
use crate::trust::csr::{self, Request};
use crate::trust::issue::{Signer, Validity};
use crate::trust::specification::Usage;

const EXIT_CODES: &str = "\
Exit codes:
  0    every request that was open is approved (and signed), or there was none
  3    the plan file is wrong
  4    a request was refused; the others are approved
  10   the cluster does not answer";

/// What can be asked of `certs approve`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: PlanFile,
    /// Judge the requests and say what would be done, without doing it
    #[arg(long)]
    show: bool,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let plan = Arc::new(check::load_plan(&arguments.file, Output::Text)?.plan);
    let transport = sessions::open(&plan)?;
    let survey = survey::look(&plan, &transport, Host::is_control_plane, Timestamp::now()).await;
    let work = async {
        let (cluster, _) = survey.living()?;
        let client = cluster.client().await.map_err(|error| Failure::new(Kind::Cluster, error.message))?;
        settle(&plan, transport.as_ref(), &Api::all(client), arguments.show).await
    };
    let result = work.await;
    transport.close().await;
    result
}

async fn settle<T: Transport>(plan: &Plan, transport: &T, api: &Api<CertificateSigningRequest>, show: bool) -> Result<(), Failure> {
    let unanswered = |error: &kube::Error| Failure::new(Kind::Cluster, describe(error));
    let all = api.list(&ListParams::default()).await.map_err(|error| unanswered(&error))?;
    let mut refused = 0;
    let mut open = 0;
    let (in_store, mut signer) = (plan.pki.authority.store().is_some(), None);
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    for request in all.items.iter().filter(|request| if in_store { is_unsigned(request) } else { is_open(request) }) {
        open += 1;
        let name = request.metadata.name.as_deref().unwrap_or_default();
        match verdict(plan, request) {
            Ok(host) => {
                let mut done = if show { "would be approved" } else { "approved" };
                if !show {
                    let now = Timestamp::now();
                    // The store is only opened, and its passphrase asked for, if there is something to sign.
                    if in_store && signer.is_none() {
                        let ClusterAuthority { certificate, key, .. } = cluster_authority::fetch(plan, transport).await?;
                        signer = Some(Signer::load(&certificate, &key, now).map_err(|error| Failure::from_error(Kind::Refused, &error))?);
                    }
                    let patch = Patch::Merge(approval(request, now));
                    let approved = api.patch_approval(name, &parameters, &patch).await.map_err(|error| unanswered(&error))?;
                    if let Some(signer) = &signer {
                        let patch = Patch::Merge(signature(&approved, signer, plan, now)?);
                        api.patch_status(name, &parameters, &patch).await.map_err(|error| unanswered(&error))?;
                        done = "approved and signed";
                    }
                }
                println!("{name}: {done} for {host}");
            }
            Err(reason) => {
                refused += 1;
                println!("{}", visible(&format!("{name}: refused: {reason}")));
            }
        }
    }
    if open == 0 {
        println!("no kubelet waits for a certificate");
    }
    if refused == 0 {
        return Ok(());
    }
    Err(Failure::new(Kind::Refused, format!("{refused} of {open} requests are not what the plan says of their hosts; they stay open"))
        .hint("who sent them holds a kubelet's certificate: look at that host before anything is approved by hand"))
}

/// Neither approved, nor denied, nor failed.
fn is_open(request: &CertificateSigningRequest) -> bool {
    let conditions = request.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_none_or(Vec::is_empty) && request.spec.signer_name == KUBELET_SERVING
}

/// Without a certificate and not turned away, whether approved (the cluster does that by itself with
/// client certificates) or not.
fn is_unsigned(request: &CertificateSigningRequest) -> bool {
    let status = request.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    [KUBELET_SERVING, KUBELET_CLIENT].contains(&request.spec.signer_name.as_str())
        && status.and_then(|status| status.certificate.as_ref()).is_none_or(|certificate| certificate.0.is_empty())
        && conditions.iter().all(|condition| condition.type_ == "Approved")
}

/// The certificate as the signer of an approved request hands it out.
fn signature(approved: &CertificateSigningRequest, signer: &Signer, plan: &Plan, now: Timestamp) -> Result<serde_json::Value, Failure> {
    let failed = |error: &dyn std::error::Error| Failure::new(Kind::Refused, format!("a request that was approved cannot be signed: {error}"));
    let read = csr::read(&approved.spec.request.0).map_err(|error| failed(&error))?;
    let usage = if approved.spec.signer_name == KUBELET_SERVING { Usage::Server } else { Usage::Client };
    let request = Request { usages: [usage].into(), ..read };
    let certificate = signer.sign_request(&request, Validity { now, length: plan.pki.validity.0 }).map_err(|error| failed(&error))?;
    Ok(json!({
        "metadata": { "resourceVersion": approved.metadata.resource_version, "uid": approved.metadata.uid },
        "status": { "certificate": k8s_openapi::ByteString(certificate.into_bytes()) },
    }))
}

fn verdict(plan: &Plan, request: &CertificateSigningRequest) -> Result<HostName, String> {
    let spec = &request.spec;
    let asked = Asked {
        username: spec.username.as_deref().unwrap_or_default(),
        groups: spec.groups.as_deref().unwrap_or_default(),
        usages: spec.usages.as_deref().unwrap_or_default(),
        request: &spec.request.0,
    };
    let judged = if spec.signer_name == KUBELET_CLIENT { judge_client(plan, &asked) } else { judge(plan, &asked) };
    judged.map_err(|refusal| refusal.to_string())
}

/// The condition that approves. The version that was judged goes with it: the API server refuses the
/// patch if the object is another one by now.
fn approval(request: &CertificateSigningRequest, now: Timestamp) -> serde_json::Value {
    json!({
        "metadata": { "resourceVersion": request.metadata.resource_version, "uid": request.metadata.uid },
        "status": { "conditions": [{
            "type": "Approved",
            "status": "True",
            "reason": "SlipwayApprove",
            "message": "names and addresses are those of the plan",
            "lastUpdateTime": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }] },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::csr::tests::request;
    use crate::trust::testing::plan;

    fn object(signer: &str, username: &str, conditions: serde_json::Value) -> CertificateSigningRequest {
        let text = request("/O=system:nodes/CN=system:node:worker-1", &["subjectAltName=DNS:worker-1,IP:192.0.2.21"]);
        use base64::Engine as _;
        let encoded = base64::engine::general_purpose::STANDARD.encode(text);
        serde_json::from_value(json!({
            "metadata": { "name": "csr-abc", "resourceVersion": "7", "uid": "u" },
            "spec": {
                "signerName": signer, "request": encoded, "username": username, "groups": ["system:nodes"],
                "usages": ["digital signature", "server auth"],
            },
            "status": { "conditions": conditions },
        }))
        .unwrap()
    }

    #[test]
    fn only_open_requests_of_kubelets_for_serving_are_judged() {
        let node = "system:node:worker-1";
        assert!(is_open(&object(KUBELET_SERVING, node, json!([]))));
        assert!(!is_open(&object("kubernetes.io/kube-apiserver-client-kubelet", node, json!([]))));
        for condition in ["Approved", "Denied", "Failed"] {
            assert!(!is_open(&object(KUBELET_SERVING, node, json!([{ "type": condition, "status": "True" }]))), "{condition}");
        }
    }

    #[test]
    fn where_the_operator_signs_approved_requests_without_a_certificate_are_open_too() {
        let node = "system:node:worker-1";
        let with = |conditions| is_unsigned(&object(KUBELET_CLIENT, node, conditions));
        assert!(with(json!([])) && with(json!([{ "type": "Approved", "status": "True" }])));
        assert!(!with(json!([{ "type": "Approved", "status": "True" }, { "type": "Failed", "status": "True" }])));
        assert!(!with(json!([{ "type": "Denied", "status": "True" }])));
        assert!(!is_unsigned(&object("example.test/own", node, json!([]))));
        let mut signed = object(KUBELET_SERVING, node, json!([]));
        signed.status.as_mut().unwrap().certificate = Some(k8s_openapi::ByteString(b"x".to_vec()));
        assert!(!is_unsigned(&signed));
    }

    #[test]
    fn the_signature_is_for_the_requests_key_name_and_use() {
        let hosts = crate::trust::testing::Hosts::bootstrapped(plan("external"));
        let ca = crate::trust::inspect::certificate(&hosts.bytes("cp-1", "/etc/kubernetes/pki/ca.crt")).unwrap();
        let key = crate::artifact::Secret::new(hosts.bytes("cp-1", "/etc/kubernetes/pki/ca.key"));
        let now = crate::trust::testing::day(1);
        let signer = Signer::load(&ca, &key, now).unwrap();
        for (kind, usage) in [(KUBELET_SERVING, Usage::Server), (KUBELET_CLIENT, Usage::Client)] {
            let object = object(kind, "system:node:worker-1", json!([]));
            let status = signature(&object, &signer, &hosts.plan, now).unwrap();
            assert_eq!(status["metadata"]["resourceVersion"], "7");
            let bytes: k8s_openapi::ByteString = serde_json::from_value(status["status"]["certificate"].clone()).unwrap();
            let certificate = crate::trust::inspect::certificate(&bytes.0).unwrap();
            assert!(certificate.is_signed_by(&ca) && certificate.usages == [usage].into());
            assert_eq!(certificate.subject.to_string(), "O=system:nodes, CN=system:node:worker-1");
        }
    }

    #[test]
    fn the_requester_of_the_object_counts() {
        let plan = plan("external");
        assert_eq!(verdict(&plan, &object(KUBELET_SERVING, "system:node:worker-1", json!([]))), Ok("worker-1".parse().unwrap()));
        let refused = verdict(&plan, &object(KUBELET_SERVING, "system:node:cp-1", json!([])));
        assert!(refused.unwrap_err().contains("it names"));
        let patch = approval(&object(KUBELET_SERVING, "x", json!([])), crate::trust::testing::day(1));
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(patch["status"]["conditions"][0]["type"], "Approved");
    }
}
