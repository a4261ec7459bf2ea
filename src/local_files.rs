//! Reads the files of the operator's machine that a plan names: programs and image archives (only
//! what is needed to compare them), manifests, an external etcd's credentials, the key of packages.

use std::collections::{BTreeMap, BTreeSet};
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::artifact::Secret;
use crate::desired::programs::upload_file;
use crate::desired::{ArchiveContent, LocalFiles};
use crate::desired::packages::needs_repository;
use crate::key_store::generation::{self, Certificates};
use crate::signing_key;
use crate::trust::inspect;
use crate::trust::refresh::ExternalEtcdFiles;
use crate::trust::authorities::Given;
use crate::trust::specification::{Authority, ClusterPair};
use crate::names::{Digest, KubernetesVersion};
use crate::plan::{AuthorityKeys, Cni, ManifestSource, Plan, SigningKey, Source};
use crate::yaml;

mod fetch;

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
    /// There are no CAs yet.
    #[error("the key store has no {}; `slipway certs create-ca` makes it", .0.display())]
    NoStore(PathBuf),
    /// It is not the certificate of a CA.
    #[error("{} is not the certificate of a CA: {reason}", path.display())]
    Authority {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It is not the key that the plan trusts.
    #[error("{name} is not the key that signs packages: {source}")]
    SigningKey {
        /// The file or address.
        name: String,
        /// What is wrong.
        source: signing_key::SigningKeyError,
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
    /// What is at an address could not be fetched, or is not what the plan says.
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
            if let Entry::Vacant(entry) = files.digests.entry(path) {
                let digest =
                    digest_of(entry.key()).map_err(|source| LocalFileError::Read { path: entry.key().clone(), source })?;
                entry.insert(digest);
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
    if let Some(key) = plan.packages.key.as_ref().filter(|_| needs_repository(plan)) {
        files.signing_key = Some(signing_key(key, plan.kubernetes.version, |address| fetch::bytes(address, fetch::LARGEST_KEY))?);
    }
    files.authorities = authorities(plan)?;
    Ok(files)
}

/// The certificates of CAs whose keys are not on hosts.
///
/// # Errors
/// One cannot be read or is none.
pub fn authorities(plan: &Plan) -> Result<Given, LocalFileError> {
    let paths: Vec<(ClusterPair, PathBuf)> = match &plan.pki.authority {
        AuthorityKeys::Hosts => Vec::new(),
        AuthorityKeys::Operator(store) => {
            let all = Authority::ALL.into_iter().filter(|authority| plan.etcd.external.is_none() || *authority != Authority::Etcd);
            let of = |authority| {
                let Certificates { current, next } = generation::certificates(store, authority);
                let next = next.map(|path| (ClusterPair::NextAuthority(authority), path));
                std::iter::once((ClusterPair::Authority(authority), current)).chain(next)
            };
            all.flat_map(of).collect()
        }
        AuthorityKeys::External { cluster, front_proxy, etcd } => {
            let etcd = etcd.as_ref().map(|path| (Authority::Etcd, path.clone()));
            let all = [(Authority::Kubernetes, cluster.clone()), (Authority::FrontProxy, front_proxy.clone())].into_iter().chain(etcd);
            all.map(|(authority, path)| (ClusterPair::Authority(authority), path)).collect()
        }
    };
    let read = |(pair, path): (ClusterPair, PathBuf)| {
        let text = std::fs::read_to_string(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound if plan.pki.authority.store().is_some() => LocalFileError::NoStore(path.clone()),
            _ => LocalFileError::Read { path: path.clone(), source },
        })?;
        let wrong = |reason: String| LocalFileError::Authority { path: path.clone(), reason };
        let certificates = inspect::certificates(text.as_bytes()).map_err(|error| wrong(error.to_string()))?;
        if let Some(other) = certificates.iter().find(|certificate| !certificate.is_authority) {
            return Err(wrong(format!("`{}` may not sign certificates", other.subject)));
        }
        Ok((pair, text))
    };
    paths.into_iter().map(read).collect()
}

/// What stands for everything the plan names where nothing is read: each file counts as one whose
/// content is its name.
#[must_use]
pub fn assumed(plan: &Plan, architectures: &BTreeSet<String>) -> LocalFiles {
    let mut files = LocalFiles { signing_key: needs_repository(plan).then(|| "the key that signs packages\n".to_owned()), ..LocalFiles::default() };
    let stand_in = |path: &Path| Digest::of(path.to_string_lossy().as_bytes());
    for source in plan.binaries.values() {
        let Source::Upload(file) = source else { continue };
        for architecture in architectures {
            let path = upload_file(file, architecture);
            files.digests.insert(path.clone(), stand_in(&path));
        }
    }
    for archive in &plan.images.archives {
        let name = archive.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let content = ArchiveContent { names: vec![name], digest: stand_in(&archive.file) };
        files.archives.insert(archive.file.clone(), content);
    }
    if let Some(external) = &plan.etcd.external {
        let text = |path: &Path| format!("{}\n", path.display());
        files.external_etcd = Some(ExternalEtcdFiles {
            ca: text(&external.ca_file),
            certificate: text(&external.certificate_file),
            key: Secret::new(text(&external.key_file).into_bytes()),
        });
    }
    files
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
        ManifestSource::Url { address, sha256 } => (address.clone(), fetch_manifest(address, *sha256)?),
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

/// Fetches a manifest and checks it.
fn fetch_manifest(address: &str, wanted: Digest) -> Result<String, LocalFileError> {
    let failed = |reason: String| LocalFileError::Fetch { address: address.to_owned(), reason };
    let bytes = fetch::bytes(address, fetch::LARGEST_MANIFEST)?;
    let found = Digest::of(&bytes);
    if found != wanted {
        return Err(failed(format!("its sha256 is {found}, the plan says {wanted}")));
    }
    String::from_utf8(bytes).map_err(|_| failed("it is not text".into()))
}

/// The key that signs packages, from where the plan says; it is the one that the plan trusts.
fn signing_key(
    key: &SigningKey,
    version: KubernetesVersion,
    fetch: impl Fn(&str) -> Result<Vec<u8>, LocalFileError>,
) -> Result<String, LocalFileError> {
    let (name, text) = match key.address(version) {
        Some(address) => {
            let text = String::from_utf8(fetch(&address)?);
            let text = text.map_err(|_| LocalFileError::Fetch { address: address.clone(), reason: "it is not text".into() })?;
            (address, text)
        }
        None => {
            let path = key.file.clone().unwrap_or_default();
            let text = std::fs::read_to_string(&path).map_err(|source| LocalFileError::Read { path: path.clone(), source })?;
            (path.display().to_string(), text)
        }
    };
    signing_key::check(&text, &key.plain_fingerprint()).map_err(|source| LocalFileError::SigningKey { name, source })?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, &str)]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut archive = tar::Builder::new(file.reopen().unwrap());
        for (name, text) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        archive.into_inner().unwrap();
        file
    }

    fn names(entries: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let file = archive(entries);
        let named = |error: LocalFileError| error.to_string().replace(&file.path().display().to_string(), "FILE");
        inspect_archive(file.path()).map(|content| content.names).map_err(named)
    }

    const DOCKER: &str = r#"[{"RepoTags": ["a:1", "b:1"]}, {"RepoTags": null}, {"RepoTags": ["c:2"]}]"#;
    const OCI: &str = r#"{"manifests": [{"annotations": {"io.containerd.image.name": "x:1", "org.opencontainers.image.ref.name": "1"}}, {"digest": "sha256:0"}]}"#;

    #[test]
    fn both_kinds_of_image_archive_tell_their_names() {
        assert_eq!(names(&[("layer.tar", "x"), ("manifest.json", DOCKER)]).unwrap(), ["a:1", "b:1", "c:2"]);
        assert_eq!(names(&[("oci-layout", "{}"), ("index.json", OCI)]).unwrap(), ["x:1"]);
        // `docker save` writes both since it became OCI; its own table has the names.
        assert_eq!(names(&[("index.json", OCI), ("manifest.json", DOCKER)]).unwrap().len(), 3);
    }

    #[test]
    fn the_digest_is_that_of_the_table_of_contents() {
        let digest = |entries: &[(&str, &str)]| inspect_archive(archive(entries).path()).unwrap().digest;
        let first = digest(&[("a", "1"), ("manifest.json", DOCKER)]);
        assert_eq!(first, digest(&[("manifest.json", DOCKER)]));
        assert_ne!(first, digest(&[("manifest.json", r#"[{"RepoTags": ["a:1"], "Layers": ["other"]}]"#)]));
    }

    #[test]
    fn what_is_no_image_archive_is_refused_with_the_reason() {
        let rows: [(&[(&str, &str)], &str); 4] = [
            (&[("a", "1")], "it has neither manifest.json nor index.json"),
            (&[("manifest.json", "[{}]")], "no image in it has a name"),
            (&[("index.json", r#"{"manifests": [{}]}"#)], "no image in it has a name"),
            (&[("manifest.json", "{")], "EOF while parsing an object at line 1 column 1"),
        ];
        for (entries, reason) in rows {
            assert_eq!(names(entries).unwrap_err(), format!("FILE is not an image archive: {reason}"));
        }
        let compressed = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(compressed.path(), [0x1f, 0x8b, 8, 0, 0, 0, 0, 0].repeat(200)).unwrap();
        assert!(inspect_archive(compressed.path()).unwrap_err().to_string().contains("compressed archives must be unpacked"));
        let missing = inspect_archive(Path::new("/nonexistent/x.tar")).unwrap_err();
        assert_eq!(missing.to_string(), "cannot read /nonexistent/x.tar");
    }

    fn manifest(text: &str) -> Result<Vec<Value>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read_manifest(&ManifestSource::File(file.path().to_owned())).map_err(|error| error.to_string())
    }

    #[test]
    fn manifests_are_read_in_order_and_lists_are_opened() {
        let text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: b}}\n- {apiVersion: v1, kind: Secret, metadata: {name: c}}\n";
        let names: Vec<String> =
            manifest(text).unwrap().iter().map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        // An object of its own may have a field `items`.
        let own = manifest("{apiVersion: example.test/v1, kind: Menu, metadata: {name: m}, items: [1]}").unwrap();
        assert_eq!(own[0]["kind"], "Menu");
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["a: 1", "{apiVersion: v1, kind: Pod}", "{kind: Pod, metadata: {name: a}}", "{apiVersion: v1, metadata: {name: a}}", "a: [", "<html>"] {
            let error = manifest(text).unwrap_err();
            assert!(error.contains("is not a file of Kubernetes objects"), "{text}: {error}");
        }
    }

    #[test]
    fn only_files_of_architectures_that_exist_are_read() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("kubelet-amd64"), "program").unwrap();
        let text = format!(
            "version: 1\nkubernetes: {{version: v1.34.2}}\nbinaries: {{kubelet: {{upload: '{}/kubelet-{{arch}}'}}}}\nhosts: [{{name: a, address: 192.0.2.1, roles: [worker]}}]\n",
            directory.path().display()
        );
        let plan: Plan = yaml::read(&text).unwrap();
        let files = read(&plan, &["amd64".into()]).unwrap();
        assert_eq!(files.digests.into_values().collect::<Vec<_>>(), [Digest::of("program")]);
        let error = read(&plan, &["amd64".into(), "arm64".into()]).unwrap_err();
        assert!(error.to_string().ends_with("kubelet-arm64"), "{error}");
    }

    #[test]
    fn a_key_from_an_address_is_judged_like_one_from_a_file() {
        let version: KubernetesVersion = "v1.34.2".parse().unwrap();
        // A primary key packet of version 4 with nothing but three bytes in it.
        let text = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQAEBGFiYw==\n=abcd\n-----END PGP PUBLIC KEY BLOCK-----\n";
        let key = |fingerprint: &str| SigningKey {
            url: Some("https://example.test/v{minor}/Release.key".into()),
            file: None,
            fingerprint: fingerprint.to_owned(),
        };
        let served = |address: &str| {
            assert_eq!(address, "https://example.test/v1.34/Release.key");
            Ok(text.as_bytes().to_vec())
        };
        let error = signing_key(&key(&"0".repeat(40)), version, served).unwrap_err().to_string();
        let (before, after) = error.split_once("its fingerprint is ").unwrap_or_else(|| panic!("{error}"));
        assert_eq!(before, "https://example.test/v1.34/Release.key is not the key that signs packages: ");
        let fingerprint = after.split(',').next().unwrap();
        assert_eq!(signing_key(&key(fingerprint), version, served).unwrap(), text);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let from_file = SigningKey { url: None, file: Some(file.path().to_owned()), fingerprint: fingerprint.to_owned() };
        assert_eq!(signing_key(&from_file, version, |_| panic!("nothing is fetched")).unwrap(), text);
        let binary = signing_key(&key(fingerprint), version, |_| Ok(vec![0x99, 0xff])).unwrap_err();
        assert_eq!(binary.to_string(), "cannot fetch https://example.test/v1.34/Release.key: it is not text");
    }
}
