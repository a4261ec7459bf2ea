//! Reads the files of the operator's machine that a plan names: programs and image archives (only
//! what is needed to compare them), manifests, an external etcd's credentials.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::artifact::Secret;
use crate::desired::programs::upload_file;
use crate::desired::{ArchiveContent, LocalFiles};
use crate::trust::refresh::ExternalEtcdFiles;
use crate::names::Digest;
use crate::plan::{Cni, ManifestSource, Plan, Source};
use crate::yaml;

/// Why a file of the operator's machine is of no use.
#[derive(Debug, thiserror::Error)]
pub enum LocalFileError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is not an image archive.
    #[error("{} is not an image archive: {reason}", path.display())]
    Archive {
        /// Which file.
        path: PathBuf,
        /// What is missing in it.
        reason: String,
    },
    /// It is not a file of Kubernetes objects.
    #[error("{name} is not a file of Kubernetes objects: {reason}")]
    Manifest {
        /// The file or address.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A manifest could not be fetched, or is not what the plan says.
    #[error("cannot fetch {address}: {reason}")]
    Fetch {
        /// The address.
        address: String,
        /// What is wrong.
        reason: String,
    },
}

/// Reads everything the plan names, for hosts of these architectures.
///
/// # Errors
/// A file cannot be read or is not what it should be.
pub fn read(plan: &Plan, architectures: &[String]) -> Result<LocalFiles, LocalFileError> {
    let mut files = LocalFiles::default();
    for source in plan.binaries.values() {
        let Source::Upload(file) = source else { continue };
        for architecture in architectures {
            let path = upload_file(file, architecture);
            if !files.digests.contains_key(&path) {
                let digest = digest_of(&path).map_err(|source| LocalFileError::Read { path: path.clone(), source })?;
                files.digests.insert(path, digest);
            }
        }
    }
    for archive in &plan.images.archives {
        if !files.archives.contains_key(&archive.file) {
            files.archives.insert(archive.file.clone(), inspect_archive(&archive.file)?);
        }
    }
    if let Cni::Manifest { sources } = &plan.network.cni {
        for source in sources {
            files.manifests.extend(read_manifest(source)?);
        }
    }
    if let Some(external) = &plan.etcd.external {
        let text = |path: &PathBuf| {
            std::fs::read_to_string(path).map_err(|source| LocalFileError::Read { path: path.clone(), source })
        };
        files.external_etcd = Some(ExternalEtcdFiles {
            ca: text(&external.ca_file)?,
            certificate: text(&external.certificate_file)?,
            key: Secret::new(text(&external.key_file)?.into_bytes()),
        });
    }
    Ok(files)
}

/// The digest of a whole file, read in pieces.
fn digest_of(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => context.update(&buffer[..count]),
        }
    }
    let text: String = context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(text.parse().expect("64 hexadecimal digits"))
}

/// The names in an image archive and a digest of its table of contents, which names every
/// layer by digest. Only the table is read, however big the archive is.
fn inspect_archive(path: &Path) -> Result<ArchiveContent, LocalFileError> {
    let read_error = |source| LocalFileError::Read { path: path.to_owned(), source };
    let wrong = |reason: &str| LocalFileError::Archive { path: path.to_owned(), reason: reason.to_owned() };
    let mut archive = tar::Archive::new(File::open(path).map_err(read_error)?);
    let mut tables: BTreeMap<String, String> = BTreeMap::new();
    for entry in archive.entries_with_seek().map_err(read_error)? {
        let mut entry = entry.map_err(|_| wrong("it is not a tar file (compressed archives must be unpacked first)"))?;
        let name = entry.path().map_err(read_error)?.to_string_lossy().into_owned();
        if matches!(name.as_str(), "manifest.json" | "index.json") && entry.size() < 4 << 20 {
            let mut text = String::new();
            entry.read_to_string(&mut text).map_err(read_error)?;
            tables.insert(name, text);
        }
    }
    let parse = |text: &String| serde_json::from_str::<Value>(text).map_err(|error| wrong(&error.to_string()));
    let (text, names) = if let Some(text) = tables.get("manifest.json") {
        let table = parse(text)?;
        let images = table.as_array().cloned().unwrap_or_default();
        let tags = images.iter().filter_map(|image| image["RepoTags"].as_array()).flatten();
        (text, tags.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>())
    } else if let Some(text) = tables.get("index.json") {
        let table = parse(text)?;
        let manifests = table["manifests"].as_array().cloned().unwrap_or_default();
        let names = manifests.iter().filter_map(|manifest| manifest["annotations"]["io.containerd.image.name"].as_str());
        (text, names.map(str::to_owned).collect())
    } else {
        return Err(wrong("it has neither manifest.json nor index.json"));
    };
    if names.is_empty() {
        return Err(wrong("no image in it has a name"));
    }
    Ok(ArchiveContent { names, digest: Digest::of(text) })
}

fn read_manifest(source: &ManifestSource) -> Result<Vec<Value>, LocalFileError> {
    let (name, text) = match source {
        ManifestSource::File(path) => {
            let text = std::fs::read_to_string(path).map_err(|source| LocalFileError::Read { path: path.clone(), source })?;
            (path.display().to_string(), text)
        }
        ManifestSource::Url { address, sha256 } => (address.clone(), fetch(address, *sha256)?),
    };
    let wrong = |reason: String| LocalFileError::Manifest { name: name.clone(), reason };
    let mut objects = Vec::new();
    for document in yaml::read_all(&text).map_err(|error| wrong(error.message))? {
        // A List carries its objects in `items`.
        match document.get("items").and_then(Value::as_array) {
            Some(items) if document["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) => {
                objects.extend(items.iter().cloned());
            }
            _ => objects.push(document),
        }
    }
    for object in &objects {
        let named = object.pointer("/metadata/name").and_then(Value::as_str).is_some();
        if !named || object["kind"].as_str().is_none() || object["apiVersion"].as_str().is_none() {
            return Err(wrong("a document in it has no apiVersion, kind or metadata.name".into()));
        }
    }
    Ok(objects)
}

/// Fetches a manifest with the operator's own curl (its proxies and CAs apply) and checks it.
fn fetch(address: &str, wanted: Digest) -> Result<String, LocalFileError> {
    let failed = |reason: String| LocalFileError::Fetch { address: address.to_owned(), reason };
    let output = Command::new("curl")
        .args(["--fail", "--silent", "--show-error", "--location", "--proto", "=https", "--max-time", "60", "--max-filesize", "16777216", "--", address])
        .output()
        .map_err(|error| failed(format!("curl cannot be started: {error}")))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let found = Digest::of(&output.stdout);
    if found != wanted {
        return Err(failed(format!("its sha256 is {found}, the plan says {wanted}")));
    }
    String::from_utf8(output.stdout).map_err(|_| failed("it is not text".into()))
}
