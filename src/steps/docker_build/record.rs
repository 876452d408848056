//! What the store remembers of a build.
//!
//! A tag in a registry proves nothing: anybody who may push can make one. Only
//! an image that is in these records counts as built from its content.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::content::{Content, ContentHash};
use super::scan::Severity;
use crate::world::files::{FileError, digest};
use crate::world::registry::Repository;
use crate::world::store::Store;

/// Raised when a reader could misread an older record.
const VERSION: u32 = 1;

/// One image that flow built and pushed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct BuildRecord {
    version: u32,
    /// The content hash.
    pub hash: String,
    /// What the registry said right after the push.
    pub digest: String,
    /// What its scan was held against, once it passed.
    pub scan: Option<Severity>,
    /// When, RFC 3339.
    pub built: String,
    /// What it was made of.
    pub content: Content,
}

impl BuildRecord {
    /// A record of an image whose digest was read back from the registry.
    #[must_use]
    pub(super) fn new(content: Content, digest: String, scan: Option<Severity>, built: Timestamp) -> Self {
        Self {
            version: VERSION,
            hash: content.hash().as_str().to_owned(),
            digest,
            scan,
            built: built.to_string(),
            content,
        }
    }

    /// Writes it, and marks it as the newest of its sort.
    pub(super) fn write(
        &self,
        store: &Store,
        repository: &Repository<'_>,
        sort: &str,
    ) -> Result<(), FileError> {
        // Text and lists of text cannot fail to become JSON; an empty record would count as none.
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        store.put(&key(repository, &self.hash), &bytes)?;
        store.put(&newest_key(repository, sort), self.hash.as_bytes())
    }
}

/// The record of a content; `None` too when it is damaged or of another version, which costs a build.
pub(super) fn find(
    store: &Store,
    repository: &Repository<'_>,
    hash: &ContentHash,
) -> Result<Option<BuildRecord>, FileError> {
    read(store, repository, hash.as_str())
}

/// The record to compare a changed content with: that of `hash`, else the newest of its sort. A
/// repository may hold images of several steps; `sort` tells them apart.
pub(super) fn earlier(
    store: &Store,
    repository: &Repository<'_>,
    hash: Option<&str>,
    sort: &str,
) -> Result<Option<BuildRecord>, FileError> {
    if let Some(record) = hash.map(|hash| read(store, repository, hash)).transpose()?.flatten() {
        return Ok(Some(record));
    }
    match store.get(&newest_key(repository, sort))?.map(String::from_utf8) {
        Some(Ok(hash)) => read(store, repository, hash.trim()),
        _ => Ok(None),
    }
}

fn read(store: &Store, repository: &Repository<'_>, hash: &str) -> Result<Option<BuildRecord>, FileError> {
    // What names a file must look like a hash.
    if hash.is_empty() || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let Some(bytes) = store.get(&key(repository, hash))? else { return Ok(None) };
    Ok(serde_json::from_slice::<BuildRecord>(&bytes)
        .ok()
        .filter(|record| record.version == VERSION && record.content.hash().as_str() == hash))
}

fn key(repository: &Repository<'_>, hash: &str) -> String {
    format!("builds/{}/{}/{hash}.json", repository.host, repository.name)
}

/// No repository can have a name with this character in it.
fn newest_key(repository: &Repository<'_>, sort: &str) -> String {
    let sort = digest(sort.as_bytes());
    format!("builds/{}/{}/@newest-{}", repository.host, repository.name, sort.get(..12).unwrap_or(&sort))
}
