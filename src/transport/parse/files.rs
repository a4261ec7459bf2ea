//! Files in a probe's answer: a tar stream, and lines for the files whose content is not told.

use std::collections::BTreeMap;
use std::io::Read as _;

use super::{LARGEST_ANSWER, MOST_FILES, ParseError, Sections, printable};
use crate::artifact::Secret;
use crate::facts::{FoundFile, FoundKind};
use crate::names::{Digest, Mode, RemotePath};

type Found = BTreeMap<RemotePath, FoundFile>;

/// Reads the lines `//MODE UID GID NAME` of files without content.
pub(super) fn listed(sections: &Sections<'_>, roots: &[RemotePath], found: &mut Found) -> Result<(), ParseError> {
    for line in sections.lines("files").filter_map(|line| line.strip_prefix("//")) {
        let mut words = line.splitn(4, ' ');
        let numbers = (
            words.next().and_then(|word| u32::from_str_radix(word, 8).ok()),
            words.next().and_then(|word| word.parse().ok()),
            words.next().and_then(|word| word.parse().ok()),
        );
        let ((Some(mode), Some(owner), Some(group)), Some(name)) = (numbers, words.next()) else { continue };
        let Some(path) = path_of(name.as_bytes()) else { continue };
        check_within(&path, roots)?;
        let kind = FoundKind::File { digest: None, content: None };
        insert(found, path, FoundFile { mode: Mode(mode & 0o7777), owner, group, kind })?;
    }
    Ok(())
}

/// Reads the tar stream. Of `directories` only they themselves may be told.
pub(super) fn packed(
    stream: &[u8],
    roots: &[RemotePath],
    directories: &[RemotePath],
    found: &mut Found,
) -> Result<(), ParseError> {
    // A name more for a file costs the host half a kilobyte and this machine the whole file.
    let mut copied = 0;
    each_entry(stream, |path, entry| {
        if !directories.contains(&path) || entry.header().entry_type() != tar::EntryType::Directory {
            check_within(&path, roots)?;
        }
        let header = entry.header();
        let (mode, owner, group) = (header.mode(), header.uid(), header.gid());
        let number = |value: std::io::Result<u64>| value.ok().and_then(|value| u32::try_from(value).ok()).unwrap_or(u32::MAX);
        let (mode, owner, group) = (Mode(mode.unwrap_or(0) & 0o7777), number(owner), number(group));
        let kind = match header.entry_type() {
            tar::EntryType::Directory => FoundKind::Directory,
            tar::EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default();
                FoundKind::Link(printable(&String::from_utf8_lossy(&target)))
            }
            tar::EntryType::Regular | tar::EntryType::Link => {
                let content = match hard_link(entry, found) {
                    Some(content) => {
                        copied += content.expose().len();
                        if copied > LARGEST_ANSWER {
                            return Err(ParseError::TooLarge("hard links to more than 72 MiB"));
                        }
                        content
                    }
                    None => read(entry, stream.len())?,
                };
                FoundKind::File { digest: Some(Digest::of(content.expose())), content: Some(content) }
            }
            _ => return Ok(()),
        };
        insert(found, path, FoundFile { mode, owner, group, kind })
    })
}

/// Reads a tar stream of asked-for files.
pub(super) fn contents(stream: &[u8], paths: &[RemotePath]) -> Result<BTreeMap<RemotePath, Secret>, ParseError> {
    let mut files = BTreeMap::new();
    each_entry(stream, |path, entry| {
        if !paths.contains(&path) {
            return Err(ParseError::Stray(printable(path.as_str())));
        }
        if !entry.header().entry_type().is_file() {
            return Err(ParseError::Files(format!("{path} is no plain file")));
        }
        let content = read(entry, stream.len())?;
        match files.insert(path.clone(), content) {
            None => Ok(()),
            Some(_) => Err(ParseError::Twice(path.to_string())),
        }
    })?;
    Ok(files)
}

type Entry<'a> = tar::Entry<'a, &'a [u8]>;

fn each_entry(
    stream: &[u8],
    mut take: impl FnMut(RemotePath, &mut Entry<'_>) -> Result<(), ParseError>,
) -> Result<(), ParseError> {
    let nonsense = |error: std::io::Error| ParseError::Files(printable(&error.to_string()));
    if stream.is_empty() {
        return Ok(());
    }
    let mut archive = tar::Archive::new(stream);
    for (count, entry) in archive.entries().map_err(nonsense)?.enumerate() {
        if count > MOST_FILES {
            return Err(ParseError::TooLarge("more than 100000 files"));
        }
        let mut entry = entry.map_err(nonsense)?;
        // A name that is no path on a host is of no file that slipway has.
        if let Some(path) = path_of(&entry.path_bytes()) {
            take(path, &mut entry)?;
        }
    }
    Ok(())
}

/// The path of a name relative to the root.
fn path_of(name: &[u8]) -> Option<RemotePath> {
    let name = std::str::from_utf8(name).ok()?;
    format!("/{}", name.trim_end_matches('/')).parse().ok()
}

/// GNU tar tells the second name of a file as a hard link to the first.
fn hard_link(entry: &Entry<'_>, found: &Found) -> Option<Secret> {
    if entry.header().entry_type() != tar::EntryType::Link {
        return None;
    }
    let first = path_of(&entry.link_name_bytes()?)?;
    match &found.get(&first)?.kind {
        FoundKind::File { content, .. } => content.clone(),
        _ => None,
    }
}

fn read(entry: &mut Entry<'_>, largest: usize) -> Result<Secret, ParseError> {
    // The size in a header is the host's word; the stream it is in bounds it.
    let size = usize::try_from(entry.size()).unwrap_or(usize::MAX);
    if size > largest {
        return Err(ParseError::CutOff);
    }
    let mut content = Vec::with_capacity(size);
    match entry.read_to_end(&mut content) {
        Ok(read) if read == size => Ok(Secret::new(content)),
        _ => Err(ParseError::CutOff),
    }
}

fn check_within(path: &RemotePath, roots: &[RemotePath]) -> Result<(), ParseError> {
    if roots.iter().any(|root| path.is_within(root)) { Ok(()) } else { Err(ParseError::Stray(printable(path.as_str()))) }
}

fn insert(found: &mut Found, path: RemotePath, file: FoundFile) -> Result<(), ParseError> {
    if found.len() >= MOST_FILES {
        return Err(ParseError::TooLarge("more than 100000 files"));
    }
    match found.insert(path.clone(), file) {
        None => Ok(()),
        Some(_) => Err(ParseError::Twice(path.to_string())),
    }
}
