//! Kubeconfig files: written in kubeadm's shape, read in any. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

use super::specification::KubeconfigPlace;
use crate::artifact::Secret;
use crate::names::RemotePath;
use crate::yaml;

/// Why a text is not a usable kubeconfig. Never quotes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KubeconfigError {
    /// Not YAML, or not of the shape of a kubeconfig.
    #[error("it is not a kubeconfig: {0}")]
    Read(yaml::YamlError),
    /// Its current context, or what that refers to, is not there.
    #[error("its current context leads to no {0}")]
    Missing(&'static str),
    /// A field that should be base64 is not.
    #[error("its `{0}` is not base64")]
    Base64(&'static str),
}

/// How a kubeconfig's user proves who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Certificate and key are in the file.
    Embedded {
        /// The certificate's PEM.
        certificate: Vec<u8>,
        /// The key's PEM.
        key: Secret,
    },
    /// Certificate and key are in one other file.
    File(RemotePath),
    /// Anything else (a token, an exec plugin, nothing).
    Other,
}

/// What a kubeconfig says in its current context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubeconfig {
    /// The API server.
    pub server: String,
    /// The PEM of the CA it trusts, if it is in the file.
    pub authority: Option<Vec<u8>>,
    /// Who speaks.
    pub credentials: Credentials,
}

/// Writes a kubeconfig in kubeadm's shape.
#[must_use]
pub fn write(place: &KubeconfigPlace, authority: &str, credentials: &Credentials) -> String {
    write_with(place, &STANDARD.encode(authority), credentials)
}

/// As `write`, with a text in the place of the CA: what a reviewer reads while the CA is being made.
#[must_use]
pub fn write_review(place: &KubeconfigPlace, authority: &str, credentials: &Credentials) -> String {
    write_with(place, authority, credentials)
}

fn write_with(place: &KubeconfigPlace, authority: &str, credentials: &Credentials) -> String {
    let KubeconfigPlace { server, cluster, user, .. } = place;
    let context = format!("{user}@{cluster}");
    let credentials = match credentials {
        Credentials::Embedded { certificate, key } => json!({
            "client-certificate-data": STANDARD.encode(certificate),
            "client-key-data": STANDARD.encode(key.expose()),
        }),
        Credentials::File(path) => json!({ "client-certificate": path, "client-key": path }),
        Credentials::Other => json!({}),
    };
    yaml::write(&json!({
        "apiVersion": "v1",
        "clusters": [{ "cluster": { "certificate-authority-data": authority, "server": server }, "name": cluster }],
        "contexts": [{ "context": { "cluster": cluster, "user": user }, "name": context }],
        "current-context": context,
        "kind": "Config",
        "users": [{ "name": user, "user": credentials }],
    }))
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    #[serde(default)]
    clusters: Vec<Named<Cluster>>,
    #[serde(default)]
    contexts: Vec<Named<Context>>,
    #[serde(default)]
    users: Vec<Named<User>>,
    #[serde(default)]
    current_context: String,
}

/// An entry of one of the three lists; each keeps its value under a name of its own.
#[derive(Deserialize)]
struct Named<T> {
    name: String,
    #[serde(alias = "cluster", alias = "context", alias = "user")]
    value: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    #[serde(default)]
    server: String,
    certificate_authority_data: Option<String>,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
    user: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate: Option<String>,
    client_key: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

/// Reads what a kubeconfig says in its current context.
///
/// # Errors
/// It says nothing that holds together.
pub fn read(text: &str) -> Result<Kubeconfig, KubeconfigError> {
    let document: Document = yaml::read(text).map_err(KubeconfigError::Read)?;
    let context = find(&document.contexts, &document.current_context).ok_or(KubeconfigError::Missing("context"))?;
    let cluster = find(&document.clusters, &context.cluster).ok_or(KubeconfigError::Missing("cluster"))?;
    let user = find(&document.users, &context.user).ok_or(KubeconfigError::Missing("user"))?;
    let authority = cluster.certificate_authority_data.as_deref();
    Ok(Kubeconfig {
        server: cluster.server.clone(),
        authority: authority.map(|data| decode(data, "certificate-authority-data")).transpose()?,
        credentials: credentials(user)?,
    })
}

fn credentials(user: &User) -> Result<Credentials, KubeconfigError> {
    if let (Some(certificate), Some(key)) = (&user.client_certificate_data, &user.client_key_data) {
        return Ok(Credentials::Embedded {
            certificate: decode(certificate, "client-certificate-data")?,
            key: Secret::new(decode(key, "client-key-data")?),
        });
    }
    let same_file = user.client_certificate.as_ref().filter(|path| user.client_key.as_ref() == Some(path));
    Ok(same_file.and_then(|path| path.parse().ok()).map_or(Credentials::Other, Credentials::File))
}

fn find<'a, T>(list: &'a [Named<T>], name: &str) -> Option<&'a T> {
    list.iter().find(|entry| entry.name == name).map(|entry| &entry.value)
}

fn decode(data: &str, field: &'static str) -> Result<Vec<u8>, KubeconfigError> {
    STANDARD.decode(data.trim()).map_err(|_| KubeconfigError::Base64(field))
}

#[cfg(test)]
mod tests;
