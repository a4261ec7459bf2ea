//! Ports of a host that are reached here, through sockets that the connection's master listens on.
//!
//! Invariant: every socket is of the session that is in use. A master takes its sockets with it, so those of
//! a connection that was made anew (the machine was restarted) are asked for again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openssh::{ForwardType, Session, Socket};

use super::super::TransportError;
use super::session::Connection;

/// What one connection forwards.
#[derive(Default)]
pub(super) struct Forwards {
    session: Option<Arc<Session>>,
    paths: BTreeMap<SocketAddr, PathBuf>,
}

impl Forwards {
    /// The socket in `directory` that leads to that address as the host sees it; made if need be.
    pub(super) async fn path(
        &mut self,
        connection: &Connection,
        session: &Arc<Session>,
        address: SocketAddr,
        directory: &Path,
    ) -> Result<PathBuf, TransportError> {
        if !self.session.as_ref().is_some_and(|known| Arc::ptr_eq(known, session)) {
            for path in std::mem::take(&mut self.paths).into_values() {
                // A master that ended by itself has removed it.
                let _gone = std::fs::remove_file(&path);
            }
            self.session = Some(Arc::clone(session));
        }
        if let Some(path) = self.paths.get(&address) {
            return Ok(path.clone());
        }
        let path = directory.join(format!("{}-{}", connection.short_name(), self.paths.len()));
        let there = Socket::new(address.ip().to_string(), address.port());
        if let Err(error) = session.request_port_forward(ForwardType::Local, path.as_path(), there).await {
            return Err(connection.broken(session, &format!("connect to {address}"), &error).await);
        }
        self.paths.insert(address, path.clone());
        Ok(path)
    }

    /// Ends all of them.
    pub(super) async fn close(&mut self) {
        let Some(session) = self.session.take() else { return };
        for (address, path) in std::mem::take(&mut self.paths) {
            let there = Socket::new(address.ip().to_string(), address.port());
            // A connection that is gone has no forwards.
            let _gone = session.close_port_forward(ForwardType::Local, path.as_path(), there).await;
            let _gone = std::fs::remove_file(&path);
        }
    }
}
