//! A handshake with a server of our own on the loopback, through a transport that connects there.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, crypto};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::artifact::Secret;
use crate::facts::Facts;
use crate::names::RemotePath;
use crate::transport::{ApplyError, ProbeRequest, Stream, TransportError, Work};

/// Connects to the loopback of this machine, whatever the host.
struct Loopback;

impl Transport for Loopback {
    async fn connect(&self, host: &HostName, address: SocketAddr) -> Result<Box<dyn Stream>, TransportError> {
        let lost = |_| TransportError::Lost { host: host.clone(), operation: "connect".into() };
        Ok(Box::new(TcpStream::connect(address).await.map_err(lost)?))
    }
    async fn probe(&self, host: &HostName, _: &ProbeRequest) -> Result<Facts, TransportError> {
        Err(TransportError::Lost { host: host.clone(), operation: "probe".into() })
    }
    async fn fetch(&self, host: &HostName, _: &[RemotePath]) -> Result<BTreeMap<RemotePath, Secret>, TransportError> {
        Err(TransportError::Lost { host: host.clone(), operation: "fetch".into() })
    }
    async fn apply(&self, host: &HostName, _: Work<'_>, _: impl Fn(usize) + Send + Sync) -> Result<(), ApplyError> {
        Err(TransportError::Lost { host: host.clone(), operation: "apply".into() }.into())
    }
    async fn diagnose(&self, host: &HostName, _: &str) -> Result<String, TransportError> {
        Err(TransportError::Lost { host: host.clone(), operation: "diagnose".into() })
    }
    fn round_trips(&self, _: &HostName) -> usize {
        0
    }
    async fn close(&self) {}
}

fn host() -> HostName {
    "cp-1".parse().unwrap()
}

/// A server with a fresh self-signed certificate; `strict`: it wants a certificate of its client, as
/// etcd does.
async fn server(strict: bool) -> (SocketAddr, Certificate) {
    let made = rcgen::generate_simple_self_signed(vec!["etcd".to_owned()]).unwrap();
    let certificate = inspect::certificate(made.cert.pem().as_bytes()).unwrap();
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let builder = if strict {
        builder.with_client_cert_verifier(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap())
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = Arc::new(builder.with_single_cert(vec![made.cert.der().clone()], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        // A strict server refuses us after its own part.
        let _ = TlsAcceptor::from(config).accept(stream).await;
    });
    (address, certificate)
}

#[tokio::test]
async fn what_is_presented_is_recorded_whoever_signed_it() {
    for strict in [false, true] {
        let (address, certificate) = server(strict).await;
        assert_eq!(presented(&Loopback, &host(), address).await, Ok(certificate), "strict: {strict}");
    }
}

#[tokio::test]
async fn a_port_without_tls_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    });
    let answer = presented(&Loopback, &host(), address).await;
    assert!(answer.is_err(), "{answer:?}");
}
