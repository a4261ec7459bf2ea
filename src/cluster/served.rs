//! What a component really presents: the certificate a port of a host answers a TLS handshake with,
//! seen through the connection to the host. Nothing is asked and no trust is decided on it: any
//! certificate is accepted and written down, only its holder must prove that it has the key.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, CryptoProvider};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::names::HostName;
use crate::plan::{Host, Plan};
use crate::transport::Transport;
use crate::trust::inspect::{self, Certificate};

/// How long one handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A port that presents a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Port {
    /// The API server.
    ApiServer,
    /// etcd, to its clients.
    EtcdClients,
    /// etcd, to its peers.
    EtcdPeers,
    /// The kubelet.
    Kubelet,
    /// The controller manager's health endpoint.
    ControllerManager,
    /// The scheduler's.
    Scheduler,
}

impl Port {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::ApiServer, Self::EtcdClients, Self::EtcdPeers, Self::Kubelet, Self::ControllerManager, Self::Scheduler];

    /// Where it is on that host, if the host has it. The ports are Kubernetes' and etcd's own, as the
    /// manifests slipway writes have them; the last two listen on the loopback only.
    #[must_use]
    pub fn of(self, plan: &Plan, host: &Host) -> Option<SocketAddr> {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let (there, address, port) = match self {
            Self::ApiServer => (host.is_control_plane(), host.address, plan.api_port()),
            Self::EtcdClients => (plan.has_etcd(host), host.address, 2379),
            Self::EtcdPeers => (plan.has_etcd(host), host.address, 2380),
            Self::Kubelet => (host.is_node(), host.address, 10250),
            Self::ControllerManager => (host.is_control_plane(), loopback, 10257),
            Self::Scheduler => (host.is_control_plane(), loopback, 10259),
        };
        there.then(|| SocketAddr::new(address, port))
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ApiServer => "API server",
            Self::EtcdClients => "etcd (clients)",
            Self::EtcdPeers => "etcd (peers)",
            Self::Kubelet => "kubelet",
            Self::ControllerManager => "controller manager",
            Self::Scheduler => "scheduler",
        })
    }
}

/// What each port of each host presents, or why it presents nothing.
pub type Served = BTreeMap<(HostName, Port), Result<Certificate, String>>;

/// Asks every port of these hosts, all at once.
pub async fn by<T: Transport>(transport: &T, plan: &Plan, hosts: impl IntoIterator<Item = &Host>) -> Served {
    let ports = hosts.into_iter().flat_map(|host| Port::ALL.into_iter().filter_map(move |port| Some((host, port, port.of(plan, host)?))));
    let answers = ports.map(|(host, port, address)| async move { ((host.name.clone(), port), presented(transport, &host.name, address).await) });
    join_all(answers).await.into_iter().collect()
}

/// The certificate that an address, as seen from the host, presents.
///
/// # Errors
/// Nobody answers, or not with TLS.
pub async fn presented<T: Transport>(transport: &T, host: &HostName, address: SocketAddr) -> Result<Certificate, String> {
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let recorder = Arc::new(Recorder { seen: Mutex::default(), provider: Arc::clone(&provider) });
    let verifier: Arc<dyn ServerCertVerifier> = Arc::clone(&recorder) as _;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    let handshake = async {
        let stream = transport.connect(host, address).await.map_err(|error| error.to_string())?;
        // An address is no server name (RFC 6066), so the server's own default answers.
        let name = ServerName::IpAddress(address.ip().into());
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.map(drop).map_err(|error| error.to_string())
    };
    let ended = timeout(HANDSHAKE, handshake).await.unwrap_or_else(|_| Err(format!("no answer within {} s", HANDSHAKE.as_secs())));
    let proven = recorder.seen.lock().expect("no panic while it is held").take();
    match (proven, ended) {
        // A server that wants a certificate of ours may end the handshake after its own part.
        (Some(Seen { der, proven: true }), _) => {
            inspect::certificate(inspect::pem_block("CERTIFICATE", &der).as_bytes()).map_err(|error| error.to_string())
        }
        (_, Err(reason)) => Err(reason),
        (_, Ok(())) => Err("it presented no certificate".to_owned()),
    }
}

/// The first certificate of a handshake.
#[derive(Debug)]
struct Seen {
    der: Vec<u8>,
    /// Whether its key signed the handshake.
    proven: bool,
}

/// Accepts every certificate and remembers it.
#[derive(Debug)]
struct Recorder {
    seen: Mutex<Option<Seen>>,
    provider: Arc<CryptoProvider>,
}

impl Recorder {
    fn proven(&self, valid: Result<HandshakeSignatureValid, Error>) -> Result<HandshakeSignatureValid, Error> {
        if let (Ok(_), Some(seen)) = (&valid, self.seen.lock().expect("no panic while it is held").as_mut()) {
            seen.proven = true;
        }
        valid
    }
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.seen.lock().expect("no panic while it is held") = Some(Seen { der: certificate.to_vec(), proven: false });
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.proven(crypto::verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.proven(crypto::verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
