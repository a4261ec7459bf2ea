//! A containerd directory with all images already imported.
//!
//! Importing takes every host seconds and hundreds of megabytes. Done once, the
//! result is shared by hard links: layers and blobs never change.

use super::cache::{Cache, build_once, key};
use super::{images, packages};
use crate::error::Result;
use std::path::PathBuf;

/// The directory with the images of a version; made when it is not there yet.
pub fn template(cache: &Cache, version: &str) -> Result<PathBuf> {
    let archives = images::archives(cache, version)?;
    let root = packages::host_root(cache)?;
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let directory = cache.path("preload").join(key(&[name(&archives), name(&root)]));
    build_once(&directory, &format!("a containerd with the images of {version}"), |partial| {
        images::import(&root, &archives, partial)
    })?;
    Ok(directory)
}
