//! The CAs of a key store by generation: the one that signs, the one that is to follow it while CAs
//! are rotated, and the one before. Each change can be cut off anywhere and is finished by the next
//! command.
//!
//! The certificate tells that a pair is there, so a key is written before its certificate and taken
//! away after it. When the next pair takes the current one's place its key moves first; a next
//! certificate without a key is therefore one whose key has moved already, and is the current one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{KeyStoreError, Lock, NewAuthority, lock, write};
use crate::plan::KeyStore;
use crate::trust::specification::{Authority, ClusterPair};

/// Which of the CAs of one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation(&'static str);

/// The one that signs.
pub(super) const CURRENT: Generation = Generation("");
/// The one that is to follow it.
const NEXT: Generation = Generation("-next");
/// The one before, kept for people only.
const OLD: Generation = Generation("-old");

impl Generation {
    /// Where its certificate is.
    pub(super) fn certificate(self, store: &KeyStore, authority: Authority) -> PathBuf {
        store.directory.join(format!("{}{}.crt", stem(authority), self.0))
    }

    /// Where its encrypted key is.
    pub(super) fn key(self, store: &KeyStore, authority: Authority) -> PathBuf {
        store.directory.join(format!("{}{}.key.age", stem(authority), self.0))
    }
}

const fn stem(authority: Authority) -> &'static str {
    match authority {
        Authority::Kubernetes => "ca",
        Authority::FrontProxy => "front-proxy-ca",
        Authority::Etcd => "etcd-ca",
    }
}

/// The generation of a pair; `None` for service-account keys, which no store has.
pub(super) const fn of(pair: ClusterPair) -> Option<Generation> {
    match pair {
        ClusterPair::Authority(_) => Some(CURRENT),
        ClusterPair::NextAuthority(_) => Some(NEXT),
        ClusterPair::ServiceAccount | ClusterPair::NextServiceAccount => None,
    }
}

/// Where the certificates of a CA are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificates {
    /// That of the one that signs.
    pub current: PathBuf,
    /// That of the one that is to follow it, if there is one.
    pub next: Option<PathBuf>,
}

/// Where the certificates of a CA are. Whether the current one is there is not looked at.
#[must_use]
pub fn certificates(store: &KeyStore, authority: Authority) -> Certificates {
    let (current, next) = (CURRENT.certificate(store, authority), NEXT.certificate(store, authority));
    match (next.exists(), NEXT.key(store, authority).exists()) {
        (true, true) => Certificates { current, next: Some(next) },
        (true, false) => Certificates { current: next, next: None },
        (false, _) => Certificates { current, next: None },
    }
}

/// Writes pairs that are to follow the current ones. Those that are there already stay.
///
/// # Errors
/// The store cannot be written, or a key not be encrypted. What was written before stays and is
/// found by the next command.
pub fn add_next(store: &KeyStore, authorities: &[NewAuthority]) -> Result<(), KeyStoreError> {
    let lock = lock(store, false)?;
    for NewAuthority { authority, certificate, key } in authorities {
        finish(store, *authority)?;
        if NEXT.certificate(store, *authority).exists() {
            continue;
        }
        if matches!(lock, Lock::Passphrase(_)) {
            // One store has one passphrase, and a mistyped one would close the new key for ever.
            lock.decrypt(&CURRENT.key(store, *authority))?;
        }
        // A key that a command left behind which was cut off before the certificate signed nothing.
        write_whole(store, &NEXT.key(store, *authority), 0o600, &lock.encrypt(key.expose())?)?;
        write_whole(store, &NEXT.certificate(store, *authority), 0o644, certificate.as_bytes())?;
    }
    Ok(())
}

/// The next pair of a CA becomes the current one; what was current is kept as `-old`. Does nothing
/// if there is no next one.
///
/// # Errors
/// The store cannot be written. The next command finishes what was begun.
pub fn promote(store: &KeyStore, authority: Authority) -> Result<(), KeyStoreError> {
    if certificates(store, authority).next.is_some() {
        for (from, to, mode) in [
            (CURRENT.key(store, authority), OLD.key(store, authority), 0o600),
            (CURRENT.certificate(store, authority), OLD.certificate(store, authority), 0o644),
        ] {
            let bytes = fs::read(&from).map_err(|source| KeyStoreError::File { path: from.clone(), source })?;
            write_whole(store, &to, mode, &bytes)?;
        }
        rename(store, &NEXT.key(store, authority), &CURRENT.key(store, authority))?;
    }
    finish(store, authority)
}

/// Takes the next pair of a CA away, when nobody trusts it any more.
///
/// # Errors
/// The store cannot be written.
pub fn drop_next(store: &KeyStore, authority: Authority) -> Result<(), KeyStoreError> {
    finish(store, authority)?;
    remove(&NEXT.certificate(store, authority))?;
    remove(&NEXT.key(store, authority))
}

/// Ends a promotion that was cut off between key and certificate.
fn finish(store: &KeyStore, authority: Authority) -> Result<(), KeyStoreError> {
    let next = NEXT.certificate(store, authority);
    if next.exists() && !NEXT.key(store, authority).exists() {
        rename(store, &next, &CURRENT.certificate(store, authority))?;
    }
    Ok(())
}

/// The file is there whole or not at all.
fn write_whole(store: &KeyStore, path: &Path, mode: u32, bytes: &[u8]) -> Result<(), KeyStoreError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    remove(&part)?;
    write(&part, mode, bytes)?;
    rename(store, &part, path)
}

fn rename(store: &KeyStore, from: &Path, to: &Path) -> Result<(), KeyStoreError> {
    let failed = |source| KeyStoreError::File { path: to.to_owned(), source };
    fs::rename(from, to).map_err(failed)?;
    fs::File::open(&store.directory).and_then(|directory| directory.sync_all()).map_err(failed)
}

fn remove(path: &Path) -> Result<(), KeyStoreError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(KeyStoreError::File { path: path.to_owned(), source }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
