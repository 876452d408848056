//! Finds a project and reads its flow files.
//!
//! Every file of a project's [`Place`] is read. The node tree of each file is
//! kept under `.flow/cache`, keyed by the file's digest and flow's version,
//! because parsing costs about 1 ms per kB; meaning is always made afresh.

use std::path::{Path, PathBuf};

use super::places::Place;
use crate::model::decode::decode;
use crate::model::project::Project;
use crate::steps;
use crate::syntax::parse::parse;
use crate::syntax::problem::{Problem, Problems};
use crate::syntax::source::{FileId, Source, Sources, Span};
use crate::syntax::tree::{Node, move_to};
use crate::world::files::{FileError, Files, digest};
use crate::world::store::Store;

/// A file larger than this is refused before it is read: 1 MiB.
pub(super) const LARGEST: u64 = 1 << 20;

/// A project as its files say.
#[derive(Debug)]
pub struct Loaded {
    /// What could be made of them.
    pub project: Project,
    /// Every mistake.
    pub problems: Problems,
    /// The files.
    pub sources: Sources,
    /// Digest over all of them.
    pub digest: String,
}

/// Why there is no project.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No folder at or above has flows.
    #[error("there is no folder flows/ in {} or above it", .0.display())]
    NoProject(PathBuf),
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Nobody could say which one is meant.
    #[error("two projects are named {name}: {} and {}", .first.display(), .again.display())]
    Twice {
        /// The name.
        name: String,
        /// The folder of one.
        first: PathBuf,
        /// The folder of the other.
        again: PathBuf,
    },
}

/// The nearest folder at or above `start` that has `flows/`.
pub fn find_root(start: &Path) -> Result<PathBuf, LoadError> {
    let files = Files::new(start);
    for folder in start.ancestors() {
        if files.metadata(&folder.join("flows"))?.is_some_and(|metadata| metadata.is_dir()) {
            return Ok(folder.to_owned());
        }
    }
    Err(LoadError::NoProject(start.to_owned()))
}

/// Reads the flow files of one project of a repository.
pub fn load(root: &Path, place: &Place) -> Result<Loaded, LoadError> {
    let files = Files::new(root);
    let cache = cache(root);
    let mut sources = Sources::default();
    let mut problems = Problems::default();
    let mut trees = Vec::new();
    let mut digests = String::new();
    for path in &place.files {
        let shown = path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/");
        let size = files.metadata(path)?.map_or(0, |metadata| metadata.len());
        if size > LARGEST {
            let file = sources.add(Source { path: shown.clone(), text: String::new() });
            let mib = size >> 20;
            problems.push(
                Problem::at(Span { file, start: 0, end: 0 }, format!("{shown} has {mib} MiB"))
                    .help("a flow file may have 1 MiB; split it"),
            );
            continue;
        }
        let bytes = files.read(path)?;
        let content = digest(&bytes);
        let file =
            sources.add(Source { path: shown.clone(), text: String::from_utf8_lossy(&bytes).into_owned() });
        digests.push_str(&format!("{shown} {content}\n"));
        let (nodes, more) = read(&cache, &bytes, &content, file);
        problems.extend(more);
        trees.push((file, nodes));
    }
    let (mut project, more) = decode(&trees, &steps::specs());
    if let Some(name) = &place.name {
        project.lies_in(name);
    }
    problems.extend(more);
    problems.sort();
    Ok(Loaded { project, problems, sources, digest: digest(digests.as_bytes()) })
}

/// Where node trees are kept.
pub(super) fn cache(root: &Path) -> Store {
    Store::folder(root.join(".flow/cache"))
}

/// The node tree of a file, from the cache when it was read before without a mistake.
pub(super) fn read(cache: &Store, bytes: &[u8], content: &str, file: FileId) -> (Vec<Node>, Problems) {
    let key = format!("syntax/{}-{content}.json", env!("CARGO_PKG_VERSION"));
    let kept = cache.get(&key).ok().flatten();
    if let Some(mut nodes) = kept.and_then(|kept| serde_json::from_slice::<Vec<Node>>(&kept).ok()) {
        move_to(&mut nodes, file);
        return (nodes, Problems::default());
    }
    let (nodes, problems) = parse(bytes, file);
    if problems.is_empty() {
        // Losing it costs a few milliseconds, so a full or read-only disk is no mistake here.
        let _ = serde_json::to_vec(&nodes).map(|json| cache.put(&key, &json));
    }
    (nodes, problems)
}
