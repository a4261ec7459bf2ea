//! Fetches what a plan names by an address, with the operator's own curl: its proxies and CAs apply, and a plan
//! without addresses needs none. Invariants: only over HTTPS, also after a redirection; never more than a
//! bound is read, whatever a server sends; nothing is written, so `diff` stays a look and nobody else can
//! put something into a cache.

use std::io::Read as _;
use std::process::{Command, Stdio};

use super::LocalFileError;

/// The largest manifest, in bytes.
pub(super) const LARGEST_MANIFEST: u64 = 16 << 20;
/// The largest key that signs packages, in bytes. Those of Kubernetes have about a thousand.
pub(super) const LARGEST_KEY: u64 = 256 << 10;
/// How long it may take, in seconds.
const LIMIT: &str = "60";

/// What is at an address, at most that many bytes.
pub(super) fn bytes(address: &str, most: u64) -> Result<Vec<u8>, LocalFileError> {
    with(Command::new("curl"), address, most)
}

fn with(mut curl: Command, address: &str, most: u64) -> Result<Vec<u8>, LocalFileError> {
    let failed = |reason: String| LocalFileError::Fetch { address: address.to_owned(), reason };
    curl.args(["--fail", "--silent", "--show-error", "--location", "--globoff", "--proto", "=https", "--max-time", LIMIT, "--", address]);
    curl.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut curl = curl.spawn().map_err(|error| failed(format!("curl cannot be started: {error}")))?;
    let mut found = Vec::new();
    let output = curl.stdout.take().expect("it was started with pipes");
    let read = output.take(most + 1).read_to_end(&mut found);
    let is_larger = found.len() as u64 > most;
    if is_larger {
        // It may have ended meanwhile.
        let _ended = curl.kill();
    }
    // Silent but for its errors, so what it says fits into the pipe.
    let ended = curl.wait_with_output().map_err(|error| failed(error.to_string()))?;
    read.map_err(|error| failed(error.to_string()))?;
    if is_larger {
        return Err(failed(format!("it is larger than {} KiB, which is no size for it", most >> 10)));
    }
    if !ended.status.success() {
        let said = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
        return Err(failed(if said.is_empty() { format!("curl ended with {}", ended.status) } else { said }));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::{SocketAddr, TcpListener};
    use std::path::PathBuf;
    use std::sync::Arc;

    use rustls::crypto::aws_lc_rs::default_provider;
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use rustls::{ServerConfig, ServerConnection, StreamOwned};

    use super::*;

    /// An HTTPS server on the loopback interface, and the certificate by which curl knows it.
    struct Server {
        address: SocketAddr,
        directory: tempfile::TempDir,
    }

    impl Server {
        fn start() -> Self {
            let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
            let directory = tempfile::tempdir().unwrap();
            std::fs::write(directory.path().join("ca.crt"), certified.cert.pem()).unwrap();
            let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
            let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certified.cert.der().clone()], key.into())
                .unwrap();
            let config = Arc::new(config);
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            // It ends with the test's process; each connection is answered once.
            std::thread::spawn(move || {
                for connection in listener.incoming().flatten() {
                    let tls = ServerConnection::new(Arc::clone(&config)).unwrap();
                    _ = answer(StreamOwned::new(tls, connection));
                }
            });
            Self { address, directory }
        }

        fn certificate(&self) -> PathBuf {
            self.directory.path().join("ca.crt")
        }

        fn get(&self, path: &str, most: u64) -> Result<String, String> {
            let mut curl = Command::new("curl");
            curl.arg("--disable").arg("--noproxy").arg("*").arg("--cacert").arg(self.certificate());
            let found = with(curl, &format!("https://{}{path}", self.address), most);
            found.map(|bytes| String::from_utf8(bytes).unwrap()).map_err(|error| error.to_string())
        }
    }

    fn answer(mut stream: StreamOwned<ServerConnection, std::net::TcpStream>) -> std::io::Result<()> {
        let mut path = String::new();
        let mut lines = BufReader::new(&mut stream);
        lines.read_line(&mut path)?;
        let mut line = String::new();
        while lines.read_line(&mut line)? > 2 {
            line.clear();
        }
        match path.split(' ').nth(1).unwrap_or_default() {
            "/key" => stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nthis\n")?,
            "/elsewhere" => stream.write_all(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/key\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?,
            "/endless" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
                // Until curl is ended.
                while stream.write_all(&[b'x'; 4096]).is_ok() {}
            }
            _ => stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?,
        }
        stream.conn.send_close_notify();
        stream.flush()
    }

    #[test]
    fn what_is_there_is_read_to_a_bound_and_only_over_https() {
        if Command::new("curl").arg("--version").output().is_err() {
            eprintln!("skipped: curl is not installed");
            return;
        }
        let server = Server::start();
        assert_eq!(server.get("/key", 5).unwrap(), "this\n");
        let place = format!("cannot fetch https://{}", server.address);
        assert_eq!(server.get("/key", 4).unwrap_err(), format!("{place}/key: it is larger than 0 KiB, which is no size for it"));
        assert_eq!(server.get("/endless", LARGEST_KEY).unwrap_err(), format!("{place}/endless: it is larger than 256 KiB, which is no size for it"));
        let missing = server.get("/missing", 5).unwrap_err();
        assert!(missing.starts_with(&format!("{place}/missing: ")) && missing.contains("404"), "{missing}");
        // Nothing in the address is a pattern of curl's.
        assert!(server.get("/{key,key}", 50).unwrap_err().contains("404"));
        let elsewhere = server.get("/elsewhere", 5).unwrap_err();
        assert!(elsewhere.contains("rotocol"), "{elsewhere}");
    }

    #[test]
    fn a_server_that_nobody_vouches_for_or_that_is_not_there_is_said() {
        if Command::new("curl").arg("--version").output().is_err() {
            eprintln!("skipped: curl is not installed");
            return;
        }
        let server = Server::start();
        let mut curl = Command::new("curl");
        curl.arg("--disable").arg("--noproxy").arg("*");
        let error = with(curl, &format!("https://{}/key", server.address), 5).unwrap_err().to_string();
        assert!(error.contains("certificate"), "{error}");
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut curl = Command::new("curl");
        curl.arg("--disable").arg("--noproxy").arg("*");
        let error = with(curl, &format!("https://{free}/key"), 5).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot fetch https://{free}/key: curl")), "{error}");
        let missing = with(Command::new("/nonexistent/curl"), "https://example.test/key", 5).unwrap_err().to_string();
        assert!(missing.starts_with("cannot fetch https://example.test/key: curl cannot be started"), "{missing}");
    }
}
