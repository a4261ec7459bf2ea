//! Writes container image archives, without an engine and without a registry.
//!
//! `ctr images import` takes a tar with a manifest, a configuration and one tar
//! per layer. That is little enough to write by hand, and it makes archives
//! depend on nothing but their content.

use super::cache::{hexadecimal, write_file};
use crate::error::{Error, Explain, Result};
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Component, Path, PathBuf};
use tar::{Builder, EntryType, Header};

/// Where programs of an image go and are looked for.
const SEARCH_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One layer: a tar in memory, with parents before children.
pub struct Layer {
    builder: Builder<Vec<u8>>,
    present: BTreeSet<PathBuf>,
}

impl Layer {
    /// An empty layer with the directories every program expects.
    pub fn new() -> Result<Self> {
        let mut layer = Self { builder: Builder::new(Vec::new()), present: BTreeSet::new() };
        for directory in ["etc", "run", "usr/local/bin", "var/lib", "var/run", "tmp"] {
            layer.directory(Path::new(directory))?;
        }
        Ok(layer)
    }

    /// Adds a directory and the ones above it.
    pub fn directory(&mut self, path: &Path) -> Result<()> {
        let mut above = PathBuf::new();
        for part in relative(path).components() {
            above.push(part);
            if self.present.insert(above.clone()) {
                let mode = if above == Path::new("tmp") { 0o1777 } else { 0o755 };
                let mut header = header(EntryType::Directory, mode, 0);
                self.append(&mut header, &above.join(""), &[])?;
            }
        }
        Ok(())
    }

    /// Adds a file with the given content.
    pub fn file(&mut self, path: &Path, mode: u32, content: &[u8]) -> Result<()> {
        if self.enter(path)? {
            let mut header = header(EntryType::Regular, mode, content.len() as u64);
            self.append(&mut header, relative(path), content)?;
        }
        Ok(())
    }

    /// Adds a copy of a file of this machine.
    pub fn copy(&mut self, source: &Path, path: &Path, mode: u32) -> Result<()> {
        let content = fs::read(source).explain(|| format!("cannot read {}", source.display()))?;
        self.file(path, mode, &content)
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &Path, target: &Path) -> Result<()> {
        if self.enter(path)? {
            let mut header = header(EntryType::Symlink, 0o777, 0);
            self.builder
                .append_link(&mut header, relative(path), target)
                .explain(|| format!("cannot add {} to an image", path.display()))?;
        }
        Ok(())
    }

    /// The layer's tar.
    pub fn finish(self) -> Result<Vec<u8>> {
        self.builder.into_inner().explain(|| "cannot finish an image layer".into())
    }

    /// Adds the directories above; false when the path itself is there already.
    fn enter(&mut self, path: &Path) -> Result<bool> {
        if let Some(parent) = relative(path).parent() {
            self.directory(parent)?;
        }
        Ok(self.present.insert(relative(path).to_path_buf()))
    }

    fn append(&mut self, header: &mut Header, path: &Path, content: &[u8]) -> Result<()> {
        self.builder
            .append_data(header, path, content)
            .explain(|| format!("cannot add {} to an image", path.display()))
    }
}

/// An image, ready to be written.
pub struct Image<'data> {
    /// Name and tag.
    pub reference: &'data str,
    /// What is started when a pod names no command.
    pub entrypoint: &'data [&'data str],
    /// Layers, the lowest first.
    pub layers: &'data [&'data [u8]],
}

impl Image<'_> {
    /// Writes the archive; returns where.
    pub fn write(&self, directory: &Path, architecture: &str) -> Result<PathBuf> {
        let digests: Vec<String> = self.layers.iter().map(|layer| sha256(layer)).collect();
        let identities: Vec<String> =
            digests.iter().map(|digest| format!("sha256:{digest}")).collect();
        let configuration = json!({
            "architecture": architecture,
            "os": "linux",
            "config": { "Env": [SEARCH_PATH], "Entrypoint": self.entrypoint },
            "rootfs": { "type": "layers", "diff_ids": identities },
            "history": vec![json!({ "created_by": "slipway lab" }); digests.len()],
        })
        .to_string();
        let configuration_name = format!("{}.json", sha256(configuration.as_bytes()));
        let layer_names: Vec<String> =
            digests.iter().map(|digest| format!("{digest}/layer.tar")).collect();
        let manifest = json!([{
            "Config": configuration_name,
            "RepoTags": [self.reference],
            "Layers": layer_names,
        }])
        .to_string();
        let path = directory.join(file_name(self.reference));
        write_file(&path, "")?;
        let file = File::create(&path).explain(|| format!("cannot write {}", path.display()))?;
        let mut archive = Builder::new(std::io::BufWriter::new(file));
        let mut put = |name: &str, content: &[u8]| -> Result<()> {
            let mut header = header(EntryType::Regular, 0o644, content.len() as u64);
            archive
                .append_data(&mut header, name, content)
                .explain(|| format!("cannot write {}", path.display()))
        };
        put(&configuration_name, configuration.as_bytes())?;
        for (name, layer) in layer_names.iter().zip(self.layers) {
            put(name, layer)?;
        }
        put("manifest.json", manifest.as_bytes())?;
        archive
            .into_inner()
            .and_then(|mut writer| writer.flush())
            .explain(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

/// The archive's file name: the image's name without its registry.
pub fn file_name(reference: &str) -> String {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    format!("{}.tar", name.replace(':', "_"))
}

/// Adds files of a root file system with every link on the way to them, so that
/// each path works in the image as it does there.
pub fn add_from_root(layer: &mut Layer, root: &Path, path: &Path) -> Result<()> {
    let mut pending = path.to_path_buf();
    for _ in 0..40 {
        let mut walked = PathBuf::new();
        let parts: Vec<Component<'_>> = relative(&pending).components().collect();
        let mut next = None;
        for (index, part) in parts.iter().enumerate() {
            walked.push(part);
            let Ok(target) = fs::read_link(root.join(&walked)) else {
                continue;
            };
            layer.link(&walked, &target)?;
            let parent = walked.parent().unwrap_or(Path::new(""));
            let rest: PathBuf = parts[index + 1..].iter().collect();
            let found = parent.join(&target);
            let found = if target.is_absolute() { relative(&target).into() } else { found };
            next = Some(normal(&found.join(rest)));
            break;
        }
        match next {
            Some(path) => pending = path,
            None => {
                let source = root.join(relative(&pending));
                return layer.copy(&source, &pending, 0o755);
            }
        }
    }
    Err(Error::new(format!("too many links on the way to {}", path.display())))
}


/// Takes `..` and `.` out of a relative path.
fn normal(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut result, part| {
        match part {
            Component::ParentDir => {
                result.pop();
            }
            Component::CurDir | Component::RootDir => {}
            _ => result.push(part),
        }
        result
    })
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

fn sha256(data: &[u8]) -> String {
    hexadecimal(digest(&SHA256, data).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(tar: &[u8]) -> Result<Vec<String>> {
        let mut archive = tar::Archive::new(tar);
        let entries = archive.entries().explain(|| "no tar".into())?;
        Ok(entries.flatten().map(|entry| String::from_utf8_lossy(&entry.path_bytes()).into_owned()).collect())
    }

    #[test]
    fn a_layer_has_parents_first_and_everything_once() -> Result<()> {
        let mut layer = Layer::new()?;
        layer.file(Path::new("/opt/a/b"), 0o755, b"x")?;
        layer.file(Path::new("opt/a/b"), 0o755, b"y")?;
        let names = names(&layer.finish()?)?;
        let position = |name: &str| names.iter().position(|one| one == name);
        assert!(position("opt/") < position("opt/a/") && position("opt/a/") < position("opt/a/b"));
        assert_eq!(names.iter().filter(|name| *name == "opt/a/b").count(), 1);
        Ok(())
    }

    #[test]
    fn equal_content_gives_equal_archives() -> Result<()> {
        let directory = std::env::temp_dir().join(format!("lab-archive-{}", std::process::id()));
        let image = Image { reference: "lab.local/a/tool:1", entrypoint: &["/t"], layers: &[b"one"] };
        let path = image.write(&directory, "amd64")?;
        let first = fs::read(&path).explain(|| "cannot read".into())?;
        image.write(&directory, "amd64")?;
        assert_eq!(first, fs::read(&path).explain(|| "cannot read".into())?);
        assert_eq!(path.file_name().and_then(|name| name.to_str()), Some("tool_1.tar"));
        assert!(names(&first)?.contains(&"manifest.json".to_string()));
        super::super::cache::remove_directory(&directory)
    }

    #[test]
    fn links_are_followed_inside_the_root() -> Result<()> {
        let root = std::env::temp_dir().join(format!("lab-root-{}", std::process::id()));
        write_file(&root.join("usr/lib/real.so"), "x")?;
        let link = |target: &str, path: &str| {
            std::os::unix::fs::symlink(target, root.join(path)).explain(|| "link".into())
        };
        link("usr/lib", "lib")?;
        link("../lib/real.so", "usr/lib/short.so")?;
        let mut layer = Layer::new()?;
        add_from_root(&mut layer, &root, Path::new("/lib/short.so"))?;
        let names = names(&layer.finish()?)?;
        for wanted in ["lib", "usr/lib/short.so", "usr/lib/real.so"] {
            assert!(names.iter().any(|name| name == wanted), "{wanted} not in {names:?}");
        }
        super::super::cache::remove_directory(&root)
    }
}
