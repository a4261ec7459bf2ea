//! Where the lab keeps what it makes: one directory outside the project.
//!
//! ```text
//! apt/                       private apt state for source packages
//! packages/                  downloaded Debian packages
//! base/<key>/                the hosts' root file system, read-only
//! images/<key>/              image archives, one per image
//! preload/<key>/             a containerd directory with all images imported
//! kubernetes/<version>/      kubelet, kubeadm, kubectl, kube-…
//! keys/                      the lab's SSH keys and known_hosts
//! run/<host>/                one running host: its disk and process
//! ```
//!
//! A `<key>` is a digest of everything that went into the directory, so a
//! change rebuilds just what it touches. A directory gets its final name only
//! when it is complete, so a killed build never looks finished.

use crate::error::{Error, Explain, Result};
use aws_lc_rs::digest::{Context, SHA256};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The cache directory of this user.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// `$SLIPWAY_LAB_CACHE`, or `slipway-lab` in the user's cache directory.
    pub fn locate() -> Result<Self> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let root = if let Some(path) = variable("SLIPWAY_LAB_CACHE") {
            PathBuf::from(path)
        } else if let Some(path) = variable("XDG_CACHE_HOME") {
            PathBuf::from(path).join("slipway-lab")
        } else if let Some(home) = variable("HOME") {
            PathBuf::from(home).join(".cache/slipway-lab")
        } else {
            return Err(Error::new(
                "neither SLIPWAY_LAB_CACHE nor HOME is set: set one, the lab keeps its files below it",
            ));
        };
        let root = std::path::absolute(&root)
            .explain(|| format!("cannot use {} as cache directory", root.display()))?;
        Ok(Self { root })
    }

    /// A path inside the cache.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// The directory of one running host.
    pub fn host(&self, name: &str) -> PathBuf {
        self.root.join("run").join(name)
    }

    /// Keeps other lab commands out until the returned file is dropped.
    ///
    /// Commands on single hosts share the lab lock and take their host's own,
    /// so they run side by side but never beside `up` or `down`.
    pub fn lock(&self, name: &str, kind: Lock) -> Result<File> {
        let path = self.root.join("locks").join(name);
        create_directory(&self.root.join("locks"))?;
        let file =
            File::create(&path).explain(|| format!("cannot open the lock {}", path.display()))?;
        let free = match kind {
            Lock::Exclusive => file.try_lock(),
            Lock::Shared => file.try_lock_shared(),
        };
        if free.is_err() {
            eprintln!("lab: waiting for another lab command to end");
            match kind {
                Lock::Exclusive => file.lock(),
                Lock::Shared => file.lock_shared(),
            }
            .explain(|| format!("cannot lock {}", path.display()))?;
        }
        Ok(file)
    }
}

/// How a lock is shared with other lab commands.
#[derive(Clone, Copy)]
pub enum Lock {
    /// Nobody else at the same time.
    Exclusive,
    /// Others that also share it may go on.
    Shared,
}

/// A short digest of everything a cached directory is made from.
pub fn key<Part: AsRef<[u8]>>(parts: &[Part]) -> String {
    let mut context = Context::new(&SHA256);
    for part in parts {
        let part = part.as_ref();
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    hexadecimal(&context.finish().as_ref()[..8])
}

/// Lower-case hexadecimal digits.
pub fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Makes `directory` with `build` unless it is there already.
///
/// `build` works in a directory beside it that is renamed when all is done.
pub fn build_once(
    directory: &Path,
    title: &str,
    build: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    if directory.exists() {
        return Ok(());
    }
    eprintln!("lab: making {title}");
    let started = std::time::Instant::now();
    let mut name = directory.file_name().unwrap_or_default().to_os_string();
    name.push(".partial");
    let partial = directory.with_file_name(name);
    remove_directory(&partial)?;
    create_directory(&partial)?;
    build(&partial).explain(|| format!("cannot make {title}"))?;
    fs::rename(&partial, directory)
        .explain(|| format!("cannot give {} its final name", directory.display()))?;
    eprintln!("lab: made {title} in {} s", started.elapsed().as_secs());
    Ok(())
}

/// Creates a directory and its parents.
pub fn create_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).explain(|| format!("cannot create {}", path.display()))
}

/// Removes a directory with all it holds; it may be absent.
pub fn remove_directory(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).explain(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Writes a file, creating the directories above it.
pub fn write_file(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    if let Some(parent) = path.parent() {
        create_directory(parent)?;
    }
    fs::write(path, content).explain(|| format!("cannot write {}", path.display()))
}

/// Reads a text file.
pub fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).explain(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_where_parts_end() {
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_eq!(key(&["ab", "c"]), key(&["ab", "c"]));
        assert_eq!(key(&["x"]).len(), 16);
    }
}
