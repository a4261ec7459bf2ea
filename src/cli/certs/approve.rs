//! `slipway certs approve`: kubelets' requests for serving certificates, approved if all that is in
//! them is the plan's own host, and left alone with the reason if not.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;

use super::super::{Output, PlanFile, check, sessions, survey};
use crate::cluster::live::FIELD_MANAGER;
use crate::cluster::wire::describe;
use crate::failure::{Failure, Kind};
use crate::names::HostName;
use crate::plan::{Host, Plan};
use crate::report::visible::visible;
use crate::transport::Transport as _;
use crate::trust::approval::{Asked, KUBELET_SERVING, judge};

const EXIT_CODES: &str = "\
Exit codes:
  0    every request that was open is approved, or there was none
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
        settle(&plan, &Api::all(client), arguments.show).await
    };
    let result = work.await;
    transport.close().await;
    result
}

async fn settle(plan: &Plan, api: &Api<CertificateSigningRequest>, show: bool) -> Result<(), Failure> {
    let unanswered = |error: &kube::Error| Failure::new(Kind::Cluster, describe(error));
    let parameters = ListParams::default().fields(&format!("spec.signerName={KUBELET_SERVING}"));
    let all = api.list(&parameters).await.map_err(|error| unanswered(&error))?;
    let mut refused = 0;
    let mut open = 0;
    for request in all.items.iter().filter(|request| is_open(request)) {
        open += 1;
        let name = request.metadata.name.as_deref().unwrap_or_default();
        match verdict(plan, request) {
            Ok(host) => {
                if !show {
                    let patch = Patch::Merge(approval(request, Timestamp::now()));
                    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
                    api.patch_approval(name, &parameters, &patch).await.map_err(|error| unanswered(&error))?;
                }
                println!("{name}: {} for {host}", if show { "would be approved" } else { "approved" });
            }
            Err(reason) => {
                refused += 1;
                println!("{}", visible(&format!("{name}: refused: {reason}")));
            }
        }
    }
    if open == 0 {
        println!("no kubelet waits for a serving certificate");
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

fn verdict(plan: &Plan, request: &CertificateSigningRequest) -> Result<HostName, String> {
    let spec = &request.spec;
    let asked = Asked {
        username: spec.username.as_deref().unwrap_or_default(),
        groups: spec.groups.as_deref().unwrap_or_default(),
        usages: spec.usages.as_deref().unwrap_or_default(),
        request: &spec.request.0,
    };
    judge(plan, &asked).map_err(|refusal| refusal.to_string())
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
