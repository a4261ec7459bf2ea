//! Ports of a host that are reached here, through sockets on which the connection's master listens.
//!
//! Invariant: every socket is of the session that is in use. Forwards end with their session, so those of a
//! connection that was made anew are asked for again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use openssh::{ForwardType, Session, Socket};

use super::super::TransportError;
use super::session::Connection;

/// What is forwarded to the host's addresses, and by which session.
#[derive(Default)]
pub(super) struct Forwards {
    session: usize,
    sockets: BTreeMap<SocketAddr, PathBuf>,
}

impl Forwards {
    /// The socket in `directory` that leads to that address as the host sees it; made if need be. `number`
    /// counts the sessions of the connection.
    pub(super) async fn socket(
        &mut self,
        connection: &Connection,
        (session, number): (&Session, usize),
        address: SocketAddr,
        directory: &Path,
    ) -> Result<PathBuf, TransportError> {
        if self.session < number {
            *self = Self { session: number, ..Self::default() };
        }
        if let Some(path) = self.sockets.get(&address) {
            return Ok(path.clone());
        }
        let path = directory.join(format!("{}-{number}-{}", connection.short_name(), self.sockets.len()));
        let there = Socket::new(address.ip().to_string(), address.port());
        if let Err(error) = session.request_port_forward(ForwardType::Local, path.as_path(), there).await {
            return Err(connection.broken(session, &format!("connect to {address}"), &error).await);
        }
        self.sockets.insert(address, path.clone());
        Ok(path)
    }

    /// Ends all of them.
    pub(super) async fn close(&mut self, session: &Session) {
        for (address, path) in std::mem::take(&mut self.sockets) {
            let there = Socket::new(address.ip().to_string(), address.port());
            // A connection that is gone has no forwards.
            let _gone = session.close_port_forward(ForwardType::Local, path.as_path(), there).await;
            let _gone = std::fs::remove_file(&path);
        }
    }
}
