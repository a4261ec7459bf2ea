//! Bootstrap tokens in the cluster: Secrets in `kube-system` whose names begin with
//! `bootstrap-token-`, of a type of their own (Kubernetes, "Authenticating with bootstrap tokens").

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ListParams, PostParams};
use serde::Serialize;

use super::ClusterError;
use super::live::{FIELD_MANAGER, failed};
use crate::kubernetes::objects::{BootstrapToken, token_secret};

const NAMESPACE: &str = "kube-system";

/// A token without its secret half.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedToken {
    /// Its public half.
    pub id: String,
    /// When it ends, as RFC 3339 text; null if never.
    pub expires: Option<String>,
    /// What it may be used for: `authentication`, `signing`.
    pub usages: Vec<String>,
    /// What somebody wrote about it.
    pub description: Option<String>,
}

/// Makes a token valid.
///
/// # Errors
/// There is one of that id, or the API does not answer.
pub async fn create(client: &kube::Client, token: &BootstrapToken) -> Result<(), ClusterError> {
    let what = format!("bootstrap token {}", token.id);
    let secret: Secret = serde_json::from_value(token_secret(token))
        .map_err(|error| ClusterError::plain(format!("cannot make {what}: {error}")))?;
    let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    api(client).create(&parameters, &secret).await.map_err(|error| failed("create", &what, &error))?;
    Ok(())
}

/// All tokens by id.
///
/// # Errors
/// The API does not answer.
pub async fn list(client: &kube::Client) -> Result<Vec<ListedToken>, ClusterError> {
    let parameters = ListParams::default().fields("type=bootstrap.kubernetes.io/token");
    let list = api(client).list(&parameters).await.map_err(|error| failed("list", "the bootstrap tokens", &error))?;
    let mut tokens: Vec<ListedToken> = list.items.into_iter().filter_map(|secret| listed(&secret.data?)).collect();
    tokens.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(tokens)
}

/// Makes a token invalid.
///
/// # Errors
/// There is no such token, or the API does not answer.
pub async fn delete(client: &kube::Client, id: &str) -> Result<(), ClusterError> {
    let deleted = api(client).delete(&format!("bootstrap-token-{id}"), &kube::api::DeleteParams::default()).await;
    deleted.map_err(|error| failed("delete", &format!("bootstrap token {id}"), &error))?;
    Ok(())
}

fn api(client: &kube::Client) -> Api<Secret> {
    Api::namespaced(client.clone(), NAMESPACE)
}

fn listed(data: &BTreeMap<String, ByteString>) -> Option<ListedToken> {
    let text = |key: &str| data.get(key).map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned());
    let usages = ["authentication", "signing"];
    Some(ListedToken {
        id: text("token-id")?,
        expires: text("expiration"),
        usages: usages
            .into_iter()
            .filter(|usage| text(&format!("usage-bootstrap-{usage}")).as_deref() == Some("true"))
            .map(str::to_owned)
            .collect(),
        description: text("description"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_listed_without_its_secret() {
        let token = crate::bootstrap_token::draw("2026-01-01T00:00:00Z".parse().unwrap(), crate::bootstrap_token::LIFE);
        let secret: Secret = serde_json::from_value(token_secret(&token)).unwrap();
        let listed = listed(&secret.data.unwrap()).unwrap();
        assert_eq!((listed.id.as_str(), listed.expires.as_deref()), (token.id.as_str(), Some("2026-01-02T00:00:00Z")));
        assert_eq!(listed.usages, ["authentication", "signing"]);
        assert!(!format!("{listed:?}").contains(token.secret.expose_text().unwrap()));
    }
}
