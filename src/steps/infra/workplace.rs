//! Where a program works: in the checkout, or in the unpacked sources of an
//! earlier apply.

use std::path::{Path, PathBuf};

use super::sources::kept_bytes;
use crate::steps::{Context, Failure};
use crate::world::bundle;
use crate::world::scratch::Scratch;

/// A project root, or a copy of a part of it. What was unpacked is removed when dropped.
#[derive(Debug)]
pub(in crate::steps) struct Workplace {
    root: PathBuf,
    unpacked: Option<(Scratch, String)>,
}

impl Workplace {
    /// The checkout.
    pub(in crate::steps) fn here(cx: &Context) -> Self {
        Self { root: cx.world.files.root().to_owned(), unpacked: None }
    }

    /// The kept sources of that digest, in a folder of their own.
    pub(in crate::steps) fn unpacked(cx: &Context, sources: &str) -> Result<Self, Failure> {
        let short: String = sources.chars().take(12).collect();
        let Some(bytes) = kept_bytes(&cx.world.store, sources)? else {
            return Err(Failure::missing(format!("the sources {short} are no longer in the store"))
                .help("deploy the older commit again"));
        };
        let mut scratch = Scratch::new(&cx.world.files);
        let root = scratch.folder("sources")?;
        bundle::unpack(&bytes, &root)?;
        Ok(Self { root, unpacked: Some((scratch, sources.to_owned())) })
    }

    /// Its root folder.
    pub(in crate::steps) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether it is a copy.
    pub(in crate::steps) fn is_unpacked(&self) -> bool {
        self.unpacked.is_some()
    }

    /// The digest of the sources that it is a copy of.
    pub(in crate::steps) fn sources(&self) -> Option<&str> {
        self.unpacked.as_ref().map(|(_, sources)| sources.as_str())
    }

    /// Where a path of a flow file lies in it.
    pub(in crate::steps) fn folder(&self, path: &str) -> Result<PathBuf, Failure> {
        let files = crate::world::files::Files::new(&self.root);
        Ok(files.locate(path)?)
    }
}
