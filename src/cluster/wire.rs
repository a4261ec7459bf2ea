//! HTTP clients whose bytes travel through the SSH connection to a host: for the API servers, for
//! etcd's JSON gateway, and for health endpoints on a host's loopback. The operator's machine
//! needs no route to the cluster's network, and hosts need no client program.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use base64::Engine as _;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::ConfigExt as _;
use kube::config::AuthInfo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower::{Layer as _, Service, ServiceExt as _};

use super::ClusterError;
use crate::artifact::Secret;
use crate::names::HostName;
use crate::transport::parse::printable;
use crate::transport::{Stream, Transport, TransportError};

/// No answer of an API server or of etcd may be longer, in bytes. A page of 500 Nodes of a big
/// cluster has a tenth of it.
const LARGEST_BODY: usize = 64 << 20;
/// What an error says is for people, and comes from a host.
const LONGEST_REASON: usize = 2000;

/// Who a client is and whom it trusts.
#[derive(Debug, Clone)]
pub enum Tls {
    /// Plain HTTP, for health endpoints that speak it.
    None,
    /// TLS without a check of the server: health endpoints on a host's own loopback, whose
    /// certificates are self-signed and which are asked nothing secret.
    Unverified,
    /// TLS with both sides known.
    Mutual {
        /// CA certificates, PEM.
        authority: String,
        /// The client's certificate, PEM.
        certificate: String,
        /// Its key, PEM.
        key: Secret,
        /// A name the server's certificate must carry.
        server_name: &'static str,
    },
}

/// A client for one port of one host.
///
/// # Errors
/// The certificates or the key cannot be read.
pub fn client<T: Transport + 'static>(
    transport: &Arc<T>,
    host: &HostName,
    address: SocketAddr,
    tls: &Tls,
) -> Result<kube::Client, ClusterError> {
    let scheme = if matches!(tls, Tls::None) { "http" } else { "https" };
    let uri = format!("{scheme}://{address}").parse().expect("a socket address makes a URI");
    let mut config = kube::Config::new(uri);
    match tls {
        Tls::None => {}
        Tls::Unverified => config.accept_invalid_certs = true,
        Tls::Mutual { authority, certificate, key, server_name } => {
            let authorities = pem::parse_many(authority)
                .map_err(|error| ClusterError::plain(format!("cannot read the CA certificate: {error}")))?;
            config.root_cert = Some(authorities.into_iter().map(pem::Pem::into_contents).collect());
            config.tls_server_name = Some((*server_name).to_owned());
            let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
            config.auth_info = AuthInfo {
                client_certificate_data: Some(encode(certificate.as_bytes())),
                client_key_data: Some(encode(key.expose()).into()),
                ..AuthInfo::default()
            };
        }
    }
    let wire = Wire { transport: Arc::clone(transport), host: host.clone(), address };
    let connector = config
        .rustls_https_connector_with_connector(wire)
        .map_err(|error| ClusterError::plain(format!("cannot set up TLS to {host}: {error}")))?;
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector);
    // An answer is read whole before it is looked at.
    let bounded = config.base_uri_layer().layer(http).map_response(|response: http::Response<_>| {
        response.map(|body| http_body_util::Limited::new(body, LARGEST_BODY))
    });
    Ok(kube::Client::new(bounded, "default"))
}

/// Opens streams through a host's SSH connection, for hyper.
struct Wire<T> {
    transport: Arc<T>,
    host: HostName,
    address: SocketAddr,
}

impl<T> Clone for Wire<T> {
    fn clone(&self) -> Self {
        Self { transport: Arc::clone(&self.transport), host: self.host.clone(), address: self.address }
    }
}

impl<T: Transport + 'static> Service<http::Uri> for Wire<T> {
    type Response = TokioIo<Pipe>;
    type Error = TransportError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, TransportError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let wire = self.clone();
        Box::pin(async move { Ok(TokioIo::new(Pipe(wire.transport.connect(&wire.host, wire.address).await?))) })
    }
}

/// A stream that hyper accepts.
struct Pipe(Box<dyn Stream>);

impl Connection for Pipe {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// The text of a `kube` error with its causes, on one line, safe to show.
#[must_use]
pub fn describe(error: &kube::Error) -> String {
    printable(&told(error)).chars().take(LONGEST_REASON).collect()
}

fn told(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return status.message.clone();
    }
    // kube's name for whatever happened below it tells nobody anything.
    let text = error.to_string();
    let mut text = text.strip_prefix("ServiceError: ").unwrap_or(&text).to_owned();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(closed) = cause.downcast_ref::<std::io::Error>().and_then(closed_at_once) {
            return closed;
        }
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = cause.source();
    }
    text
}

/// SSH opens the stream first and closes it when the host's port refuses, so a refusal looks like
/// a connection that breaks during TLS.
fn closed_at_once(error: &std::io::Error) -> Option<String> {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
        .then(|| format!("the connection was closed at once, as when nothing listens ({error})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_port_is_told_as_such() {
        let refused = std::io::Error::new(std::io::ErrorKind::BrokenPipe, "Broken pipe");
        let text = describe(&kube::Error::Service(Box::new(refused)));
        assert_eq!(text, "the connection was closed at once, as when nothing listens (Broken pipe)");
        let other = std::io::Error::other("certificate has expired");
        assert_eq!(describe(&kube::Error::Service(Box::new(other))), "certificate has expired");
    }
}
