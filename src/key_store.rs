//! The CA keys of `pki.authority: operator`: in a directory of the operator's machine, each encrypted
//! with age, beside its certificate. They are read only when something is to be signed, and never
//! leave this process but encrypted.
//!
//! The directory appears whole or not at all, and nothing in it is ever overwritten: a second CA of
//! the same name would be a second cluster. The CAs that follow others stand beside them (`generation`).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use age::secrecy::SecretString;
use age::{Decryptor, Encryptor, Identity, Recipient};

use crate::artifact::Secret;
use crate::plan::KeyStore;
use crate::trust::specification::{Authority, ClusterPair};

pub mod generation;

/// Why the keys cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum KeyStoreError {
    /// A file cannot be read or written.
    #[error("cannot use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is something already.
    #[error("{} is there already and not empty", .0.display())]
    Taken(PathBuf),
    /// Others can read a secret.
    #[error("{} can be read by others (mode {mode:04o}, owner {owner})", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Its owner's number.
        owner: u32,
    },
    /// It holds no secret of the kind.
    #[error("{} holds no {what}", path.display())]
    Empty {
        /// Which file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// A recipient of the plan is none.
    #[error("`{0}` is no age recipient")]
    Recipient(String),
    /// age refused.
    #[error("{} cannot be decrypted: {reason}", path.display())]
    Locked {
        /// Which file.
        path: PathBuf,
        /// What age said.
        reason: String,
    },
    /// age could not encrypt.
    #[error("a key cannot be encrypted: {0}")]
    Encrypt(String),
    /// Nobody can be asked.
    #[error("the passphrase of the key store cannot be asked for: {0}")]
    Terminal(String),
}

/// A CA as it goes into the store.
pub struct NewAuthority {
    /// Which one.
    pub authority: Authority,
    /// Its certificate, PEM.
    pub certificate: String,
    /// Its key, PEM.
    pub key: Secret,
}

/// What opens and closes the store.
enum Lock {
    Passphrase(SecretString),
    Keys { recipients: Vec<age::x25519::Recipient>, identities: Vec<age::x25519::Identity> },
}

/// Where a CA's encrypted key is.
#[must_use]
pub fn key_file(store: &KeyStore, authority: Authority) -> PathBuf {
    generation::CURRENT.key(store, authority)
}

/// Whether that text is an age recipient.
#[must_use]
pub fn is_recipient(text: &str) -> bool {
    text.parse::<age::x25519::Recipient>().is_ok()
}

/// Writes a new store.
///
/// # Errors
/// There is one already, or it cannot be written or encrypted.
pub fn create(store: &KeyStore, authorities: &[NewAuthority]) -> Result<(), KeyStoreError> {
    let target = &store.directory;
    if fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_some()) || target.is_file() {
        return Err(KeyStoreError::Taken(target.clone()));
    }
    let lock = lock(store, true)?;
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |path: &Path| { let path = path.to_owned(); move |source| KeyStoreError::File { path, source } };
    fs::create_dir_all(parent).map_err(failed(parent))?;
    // Mode 0700 from the beginning; it goes away if anything fails.
    let new = tempfile::Builder::new().prefix(".slipway-store-").permissions(fs::Permissions::from_mode(0o700)).tempdir_in(parent).map_err(failed(parent))?;
    let inside = KeyStore { directory: new.path().to_owned(), ..store.clone() };
    for NewAuthority { authority, certificate, key } in authorities {
        write(&generation::CURRENT.key(&inside, *authority), 0o600, &lock.encrypt(key.expose())?)?;
        write(&generation::CURRENT.certificate(&inside, *authority), 0o644, certificate.as_bytes())?;
    }
    File::open(new.path()).and_then(|directory| directory.sync_all()).map_err(failed(new.path()))?;
    // Onto an empty directory or none; anything else is refused by the system.
    fs::rename(new.path(), target).map_err(failed(target))?;
    let _ = new.keep();
    File::open(parent).and_then(|directory| directory.sync_all()).map_err(failed(parent))
}

/// Reads the keys of these pairs: of a CA, or of the one that is to follow it.
///
/// # Errors
/// One of them is not there, or what opens the store is missing or wrong.
pub fn open(store: &KeyStore, pairs: &[ClusterPair]) -> Result<BTreeMap<ClusterPair, Secret>, KeyStoreError> {
    let lock = lock(store, false)?;
    pairs
        .iter()
        .filter_map(|pair| Some((*pair, generation::of(*pair)?.key(store, pair.authority()?))))
        .map(|(pair, path)| Ok((pair, lock.decrypt(&path)?)))
        .collect()
}

fn lock(store: &KeyStore, new: bool) -> Result<Lock, KeyStoreError> {
    if store.recipients.is_empty() {
        return Ok(Lock::Passphrase(passphrase(store, new)?));
    }
    let recipient = |text: &String| text.parse().map_err(|_| KeyStoreError::Recipient(text.clone()));
    let recipients = store.recipients.iter().map(recipient).collect::<Result<_, _>>()?;
    // To write it nobody's identity is needed.
    let identities = match &store.identity_file {
        Some(path) if !new => identities(path)?,
        _ => Vec::new(),
    };
    Ok(Lock::Keys { recipients, identities })
}

fn identities(path: &Path) -> Result<Vec<age::x25519::Identity>, KeyStoreError> {
    let text = read_private(path)?;
    let text = String::from_utf8_lossy(text.expose());
    let found: Vec<_> = text.lines().filter_map(|line| line.trim().parse().ok()).collect();
    if found.is_empty() { Err(KeyStoreError::Empty { path: path.to_owned(), what: "age identity (AGE-SECRET-KEY-1…)" }) } else { Ok(found) }
}

fn passphrase(store: &KeyStore, new: bool) -> Result<SecretString, KeyStoreError> {
    if let Some(path) = &store.passphrase_file {
        let text = read_private(path)?;
        let text = String::from_utf8_lossy(text.expose());
        let line = text.lines().next().unwrap_or_default();
        return if line.is_empty() { Err(KeyStoreError::Empty { path: path.clone(), what: "passphrase in its first line" }) } else { Ok(line.to_owned().into()) };
    }
    // A rotation opens its store several times.
    static ASKED: Mutex<BTreeMap<PathBuf, SecretString>> = Mutex::new(BTreeMap::new());
    let mut asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = asked.get(&store.directory) {
        return Ok(known.clone());
    }
    let question = format!("Passphrase of {}", store.directory.display());
    let mut prompt = dialoguer::Password::new().with_prompt(question);
    if new {
        prompt = prompt.with_confirmation("Again", "They differ");
    }
    let passphrase: SecretString = prompt.interact().map_err(|error| KeyStoreError::Terminal(error.to_string()))?.into();
    asked.insert(store.directory.clone(), passphrase.clone());
    Ok(passphrase)
}

/// Reads a file that only its owner can read. A pipe (`/dev/fd/3`) is one, too.
fn read_private(path: &Path) -> Result<Secret, KeyStoreError> {
    let failed = |source| KeyStoreError::File { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let (mode, owner) = (metadata.mode() & 0o777, metadata.uid());
    let mine = rustix::process::geteuid().as_raw();
    if mode & 0o077 != 0 || (owner != mine && owner != 0) {
        return Err(KeyStoreError::Open { path: path.to_owned(), mode, owner });
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed)?;
    Ok(Secret::new(bytes))
}

fn write(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), KeyStoreError> {
    let work = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    work().map_err(|source| KeyStoreError::File { path: path.to_owned(), source })
}

impl Lock {
    fn encrypt(&self, plain: &[u8]) -> Result<Vec<u8>, KeyStoreError> {
        let failed = |error: &dyn std::fmt::Display| KeyStoreError::Encrypt(error.to_string());
        let encryptor = match self {
            Self::Passphrase(passphrase) => Encryptor::with_user_passphrase(passphrase.clone()),
            Self::Keys { recipients, .. } => Encryptor::with_recipients(recipients.iter().map(|recipient| recipient as &dyn Recipient))
                .map_err(|error| failed(&error))?,
        };
        let mut bytes = Vec::new();
        let mut writer = encryptor.wrap_output(&mut bytes).map_err(|error| failed(&error))?;
        writer.write_all(plain).map_err(|error| failed(&error))?;
        writer.finish().map_err(|error| failed(&error))?;
        Ok(bytes)
    }

    fn decrypt(&self, path: &Path) -> Result<Secret, KeyStoreError> {
        let bytes = fs::read(path).map_err(|source| KeyStoreError::File { path: path.to_owned(), source })?;
        let failed = |error: &dyn std::fmt::Display| KeyStoreError::Locked { path: path.to_owned(), reason: error.to_string() };
        let decryptor = Decryptor::new(&bytes[..]).map_err(|error| failed(&error))?;
        let mut plain = Vec::new();
        let reader = match self {
            Self::Passphrase(passphrase) => {
                let identity = age::scrypt::Identity::new(passphrase.clone());
                decryptor.decrypt(std::iter::once(&identity as &dyn Identity))
            }
            Self::Keys { identities, .. } => {
                if identities.is_empty() {
                    return Err(failed(&"the plan names no `identityFile`"));
                }
                decryptor.decrypt(identities.iter().map(|identity| identity as &dyn Identity))
            }
        };
        reader.map_err(|error| failed(&error))?.read_to_end(&mut plain).map_err(|error| failed(&error))?;
        Ok(Secret::new(plain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTHORITIES: [Authority; 2] = [Authority::Kubernetes, Authority::Etcd];
    const PAIRS: [ClusterPair; 2] = [ClusterPair::Authority(Authority::Kubernetes), ClusterPair::Authority(Authority::Etcd)];

    fn content() -> Vec<NewAuthority> {
        let of = |authority: Authority| NewAuthority { authority, certificate: format!("certificate of {authority}"), key: Secret::new(format!("key of {authority}").into_bytes()) };
        AUTHORITIES.into_iter().map(of).collect()
    }

    fn private(path: &Path, text: &str) -> PathBuf {
        write(path, 0o600, text.as_bytes()).unwrap();
        path.to_owned()
    }

    fn by_recipient(directory: &Path) -> KeyStore {
        use age::secrecy::ExposeSecret as _;
        let identity = age::x25519::Identity::generate();
        let file = private(&directory.join("identity"), &format!("# of a test\n{}\n", identity.to_string().expose_secret()));
        KeyStore { directory: directory.join("deep/store"), recipients: vec![identity.to_public().to_string()], identity_file: Some(file), passphrase_file: None }
    }

    fn by_passphrase(directory: &Path) -> KeyStore {
        let file = private(&directory.join("passphrase"), "correct horse\nsecond line\n");
        KeyStore { directory: directory.join("store"), recipients: Vec::new(), identity_file: None, passphrase_file: Some(file) }
    }

    #[test]
    fn keys_come_back_and_are_nowhere_in_clear() {
        for make in [by_recipient, by_passphrase] {
            let directory = tempfile::tempdir().unwrap();
            let store = make(directory.path());
            create(&store, &content()).unwrap();
            let keys = open(&store, &PAIRS).unwrap();
            assert_eq!(keys[&PAIRS[1]].expose(), b"key of CA etcd-ca");
            assert_eq!(keys[&PAIRS[0]].expose(), b"key of CA kubernetes");
            assert_eq!(fs::metadata(&store.directory).unwrap().mode() & 0o777, 0o700);
            for entry in fs::read_dir(&store.directory).unwrap() {
                let path = entry.unwrap().path();
                let bytes = fs::read(&path).unwrap();
                assert!(!bytes.windows(6).any(|window| window == b"key of"), "{}", path.display());
                let encrypted = path.extension().is_some_and(|extension| extension == "age");
                assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, if encrypted { 0o600 } else { 0o644 });
            }
        }
    }

    #[test]
    fn a_store_is_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let store = by_recipient(directory.path());
        create(&store, &content()).unwrap();
        assert!(matches!(create(&store, &content()), Err(KeyStoreError::Taken(_))));
        assert_eq!(fs::read_dir(store.directory.parent().unwrap()).unwrap().count(), 1, "nothing half-made is left");
    }

    #[test]
    fn wrong_and_open_secrets_are_refused_and_never_shown() {
        let directory = tempfile::tempdir().unwrap();
        let store = by_recipient(directory.path());
        create(&store, &content()).unwrap();
        let other = by_recipient(&{ let other = directory.path().join("other"); fs::create_dir(&other).unwrap(); other });
        let stranger = KeyStore { identity_file: other.identity_file.clone(), ..store.clone() };
        assert!(matches!(open(&stranger, &PAIRS), Err(KeyStoreError::Locked { .. })));
        assert!(matches!(open(&KeyStore { identity_file: None, ..store.clone() }, &PAIRS), Err(KeyStoreError::Locked { .. })));

        let identity = store.identity_file.clone().unwrap();
        fs::set_permissions(&identity, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(open(&store, &PAIRS), Err(KeyStoreError::Open { mode: 0o640, .. })));
        fs::remove_file(&identity).unwrap();
        private(&identity, "AGE-SECRET-KEY-1DAMAGED\n");
        let error = open(&store, &PAIRS).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("DAMAGED"));
        assert!(matches!(error, KeyStoreError::Empty { .. }));
    }

    #[test]
    fn a_damaged_file_is_no_key() {
        let directory = tempfile::tempdir().unwrap();
        let store = by_recipient(directory.path());
        create(&store, &content()).unwrap();
        let path = key_file(&store, Authority::Etcd);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(matches!(open(&store, &PAIRS), Err(KeyStoreError::Locked { .. })));
    }
}
