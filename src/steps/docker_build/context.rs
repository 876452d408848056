//! The files that a build sees: listed and digested; `archive` sends the same
//! entries. Digests cover path, kind, executable bit, link target and bytes;
//! owners, other mode bits and times never count. A file that did not change
//! since it was digested last is not read.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ignore::{Ignore, IgnoreError, Matched};
use crate::world::digests::{Stamp, Wanted, stamp};
use crate::world::files::{FileError, Files};
use crate::world::walk::Folder;

/// Where a Dockerfile from outside the context lies in the archive.
const OUTSIDE: &str = ".flow.dockerfile";

/// Everything that is sent, sorted by path, folders before what is in them.
#[derive(Clone, Debug)]
pub(super) struct BuildContext {
    /// Each with its digest.
    pub entries: Arc<Vec<Entry>>,
    /// Path of the Dockerfile in the archive.
    pub dockerfile: String,
    /// Its text.
    pub dockerfile_text: String,
}

/// One file, folder or link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// In the archive, with forward slashes.
    pub path: String,
    pub(super) source: PathBuf,
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Folder,
    File { stamp: Stamp, sha256: String },
    Link { target: String },
}

/// A context that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// There is no such folder.
    #[error("the context {0} is no folder")]
    NoFolder(String),
    /// There is no such file.
    #[error("there is no Dockerfile at {0}")]
    NoDockerfile(String),
    /// Archives and digests are over text.
    #[error("the name of {0} is not UTF-8")]
    Name(String),
    /// A pattern.
    #[error("{file}, {error}")]
    Ignore {
        /// Which file.
        file: String,
        /// What is wrong in it.
        error: IgnoreError,
    },
    /// The Dockerfile is not text.
    #[error("the Dockerfile {0} is not UTF-8")]
    NoText(String),
    /// The file system.
    #[error(transparent)]
    File(#[from] FileError),
}

impl BuildContext {
    /// Lists and digests a context. Blocks while it reads.
    pub(super) fn read(files: &Files, context: &str, dockerfile: Option<&str>) -> Result<Self, ContextError> {
        let mut listed = Self::list(files, context, dockerfile)?;
        let mut entries = Arc::unwrap_or_clone(listed.entries);
        digest_all(files, &mut entries)?;
        listed.entries = Arc::new(entries);
        Ok(listed)
    }

    /// The first path that is there now and was not when this was read, or the other way round.
    pub(super) fn changed_path(
        &self,
        files: &Files,
        context: &str,
        dockerfile: Option<&str>,
    ) -> Result<Option<String>, ContextError> {
        let now = Self::list(files, context, dockerfile)?;
        let differ = |(then, now): (&Entry, &Entry)| {
            (then.path != now.path).then(|| (&then.path).min(&now.path).clone())
        };
        let common = self.entries.iter().zip(now.entries.iter()).find_map(differ);
        let longer = if self.entries.len() > now.entries.len() { &self.entries } else { &now.entries };
        let rest = longer.get(self.entries.len().min(now.entries.len())).map(|entry| entry.path.clone());
        Ok(common.or(rest))
    }

    /// Lists a context without reading its files.
    fn list(files: &Files, context: &str, dockerfile: Option<&str>) -> Result<Self, ContextError> {
        let root = files.locate(context)?;
        // The dot follows a link to the folder.
        if !files.metadata(&root.join("."))?.is_some_and(|found| found.is_dir()) {
            return Err(ContextError::NoFolder(context.to_owned()));
        }
        let source = match dockerfile {
            Some(path) => files.locate(path)?,
            None => root.join("Dockerfile"),
        };
        let shown = || source.strip_prefix(files.root()).unwrap_or(&source).display().to_string();
        let bytes = match files.read(&source) {
            Err(error) if error.is_not_found() => return Err(ContextError::NoDockerfile(shown())),
            other => other?,
        };
        let dockerfile_text = String::from_utf8(bytes).map_err(|_| ContextError::NoText(shown()))?;
        let inside = source.strip_prefix(&root).ok().and_then(Path::to_str).map(str::to_owned);

        let ignore = read_ignore(files, &root, &source)?;
        let mut walk = Walk { ignore, dockerfile: inside.as_deref(), entries: Vec::new() };
        walk.folder(&root, "", &Matched::default(), false)?;
        let mut entries = walk.entries;
        let dockerfile = inside.unwrap_or_else(|| OUTSIDE.to_owned());
        if !entries.iter().any(|entry| entry.path == dockerfile) {
            let found = stamp(&source)?.ok_or_else(|| ContextError::NoDockerfile(shown()))?;
            let what = What::of(found, &source, || files.read_link(&source))?
                .ok_or_else(|| ContextError::NoDockerfile(shown()))?;
            entries.push(Entry { path: dockerfile.clone(), source, what });
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { entries: Arc::new(entries), dockerfile, dockerfile_text })
    }

    /// How many files, and their bytes.
    #[must_use]
    pub(super) fn size(&self) -> (usize, u64) {
        self.entries.iter().fold((0, 0), |(count, bytes), entry| match &entry.what {
            What::File { stamp, .. } => (count + 1, bytes + stamp.size),
            _ => (count, bytes),
        })
    }
}

impl Entry {
    /// What the content hash and the list of changes see: `644 SHA`, `755 SHA`, `folder`, `link TARGET`.
    #[must_use]
    pub(super) fn digest(&self) -> String {
        match &self.what {
            What::Folder => "folder".to_owned(),
            What::File { stamp, sha256 } => {
                format!("{} {sha256}", if stamp.is_executable() { "755" } else { "644" })
            }
            What::Link { target } => format!("link {target}"),
        }
    }
}

/// `NAME.dockerignore` beside the Dockerfile counts before the context's `.dockerignore`.
fn read_ignore(files: &Files, root: &Path, dockerfile: &Path) -> Result<Ignore, ContextError> {
    let mut own = dockerfile.as_os_str().to_owned();
    own.push(".dockerignore");
    for path in [PathBuf::from(own), root.join(".dockerignore")] {
        match files.read_text(&path) {
            Ok(text) => {
                return Ignore::parse(&text).map_err(|error| ContextError::Ignore {
                    file: path.strip_prefix(files.root()).unwrap_or(&path).display().to_string(),
                    error,
                });
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Ignore::default())
}

struct Walk<'a> {
    ignore: Ignore,
    /// Inside the context; sent whatever the patterns say.
    dockerfile: Option<&'a str>,
    entries: Vec<Entry>,
}

impl Walk<'_> {
    /// Takes what lies in a folder. `hidden` when the folder itself is left out but may hold
    /// something that is kept: then it is sent only together with that.
    fn folder(
        &mut self,
        folder: &Path,
        below: &str,
        matched: &Matched,
        hidden: bool,
    ) -> Result<(), ContextError> {
        let mut pending = hidden.then(|| (below.to_owned(), folder.to_owned()));
        // Only the context itself may be given by a link.
        let Some(listed) = Folder::open(folder, below.is_empty())? else { return Ok(()) };
        for found in listed.names() {
            let source = listed.path(found.as_os_str());
            let name = found.as_str().ok_or_else(|| ContextError::Name(source.display().to_string()))?;
            // flow's own records change with every run; they are no input of anything.
            if name == ".flow" {
                continue;
            }
            let path = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
            let (out, matched) = self.ignore.look(&path, matched);
            if out && self.dockerfile != Some(path.as_str()) {
                if self.may_keep_below(&path) && listed.is_folder(found)? {
                    self.folder(&source, &path, &matched, true)?;
                }
                continue;
            }
            let Some(stamp) = listed.look(found.as_os_str())? else { continue };
            let link = || listed.read_link(found.as_os_str());
            let Some(what) = What::of(stamp, &source, link)? else { continue };
            if let Some((path, source)) = pending.take() {
                self.add_folder(path, source);
            }
            let enter = what == What::Folder;
            self.entries.push(Entry { path: path.clone(), source: source.clone(), what });
            if enter {
                self.folder(&source, &path, &matched, false)?;
            }
        }
        Ok(())
    }

    fn may_keep_below(&self, folder: &str) -> bool {
        let holds = |path: &str| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        self.dockerfile.is_some_and(holds) || self.ignore.may_keep_below(folder)
    }

    /// A folder that is sent only because of what is in it, and those above it.
    fn add_folder(&mut self, path: String, source: PathBuf) {
        if path.is_empty() || self.entries.iter().rev().any(|entry| entry.path == path) {
            return;
        }
        if let (Some((above, _)), Some(parent)) = (path.rsplit_once('/'), source.parent()) {
            self.add_folder(above.to_owned(), parent.to_owned());
        }
        self.entries.push(Entry { path, source, what: What::Folder });
    }
}

impl What {
    /// What a path is. Sockets, pipes and devices are none of a build's business.
    fn of(
        stamp: Stamp,
        source: &Path,
        link: impl FnOnce() -> Result<PathBuf, FileError>,
    ) -> Result<Option<Self>, ContextError> {
        if stamp.is_folder() {
            return Ok(Some(Self::Folder));
        }
        if stamp.is_link() {
            let target = link()?;
            let target = target.to_str().ok_or_else(|| ContextError::Name(source.display().to_string()))?;
            return Ok(Some(Self::Link { target: target.to_owned() }));
        }
        Ok(stamp.is_file().then(|| Self::File { stamp, sha256: String::new() }))
    }
}

/// Fills in the digests.
fn digest_all(files: &Files, entries: &mut [Entry]) -> Result<(), FileError> {
    let wanted = entries.iter().filter_map(|entry| match &entry.what {
        What::File { stamp, .. } => Some(Wanted { path: entry.source.clone(), stamp: *stamp, part: None }),
        _ => None,
    });
    let mut all = files.digests().all(wanted.collect())?.into_iter();
    for entry in entries {
        if let What::File { stamp, sha256 } = &mut entry.what
            && let Some(digested) = all.next()
        {
            (*stamp, *sha256) = (digested.stamp, digested.sum.to_string());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn project(paths: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in paths {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    fn read(folder: &tempfile::TempDir, context: &str, dockerfile: Option<&str>) -> BuildContext {
        BuildContext::read(&Files::new(folder.path()), context, dockerfile).unwrap()
    }

    fn paths(context: &BuildContext) -> Vec<&str> {
        context.entries.iter().map(|entry| entry.path.as_str()).collect()
    }

    #[test]
    fn what_is_sent() {
        let folder = project(&[
            ("api/Dockerfile", "FROM scratch"),
            ("api/.dockerignore", "*\n!src\nsrc/*.log\n!deep/er/keep\n"),
            ("api/src/a.rs", "a"),
            ("api/src/x.log", "a"),
            ("api/deep/drop", "a"),
            ("api/deep/er/keep", "a"),
            ("api/deep/er/drop", "a"),
            ("api/never/looked/at", "a"),
            ("api/src/.flow/store/x", "a"),
            ("docker/web.dockerfile", "FROM scratch"),
            ("docker/web.dockerfile.dockerignore", "deep\nnever\n"),
        ]);
        let api = read(&folder, "api", None);
        assert_eq!(paths(&api), ["Dockerfile", "deep", "deep/er", "deep/er/keep", "src", "src/a.rs"]);
        assert_eq!(api.dockerfile, "Dockerfile");
        assert_eq!(api.size().0, 3);
        // A Dockerfile from elsewhere brings its own patterns and leaves the context's alone.
        let web = read(&folder, "./api/", Some("docker/web.dockerfile"));
        assert_eq!(
            paths(&web),
            [".dockerignore", ".flow.dockerfile", "Dockerfile", "src", "src/a.rs", "src/x.log"]
        );
        assert_eq!(web.dockerfile, ".flow.dockerfile");
    }

    #[test]
    fn what_counts_in_a_digest() {
        let folder = project(&[("Dockerfile", "FROM scratch"), ("run", "x")]);
        let run = folder.path().join("run");
        symlink("nowhere", folder.path().join("link")).unwrap();
        let digests =
            || -> Vec<String> { read(&folder, ".", None).entries.iter().map(Entry::digest).collect() };
        let before = digests();
        assert_eq!(before[1], "link nowhere");
        for (mode, same) in [(0o600, true), (0o664, true), (0o755, false), (0o644, true)] {
            std::fs::set_permissions(&run, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(digests() == before, same, "{mode:o}");
        }
        let file = std::fs::File::options().write(true).open(&run).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(digests(), before);
        std::fs::write(&run, "y").unwrap();
        assert_ne!(digests(), before);
    }

    #[test]
    fn many_files_are_digested_like_few() {
        let names: Vec<String> = (0..200).map(|number| format!("f{number:04}")).collect();
        let mut all: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), name.as_str())).collect();
        all.push(("Dockerfile", "FROM scratch"));
        let folder = project(&all);
        for entry in read(&folder, ".", None).entries.iter().filter(|entry| entry.path != "Dockerfile") {
            assert_eq!(entry.digest(), format!("644 {}", crate::world::files::digest(entry.path.as_bytes())));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let folder = project(&[("api/main", ""), ("bad/Dockerfile", ""), ("bad/.dockerignore", "ok\n[")]);
        let files = Files::new(folder.path());
        for (context, message) in [
            ("nowhere", "the context nowhere is no folder"),
            ("api/main", "the context api/main is no folder"),
            ("api", "there is no Dockerfile at api/Dockerfile"),
            ("bad", "bad/.dockerignore, line 2: \"[\" is no pattern: a [ is not closed"),
        ] {
            assert_eq!(BuildContext::read(&files, context, None).unwrap_err().to_string(), message);
        }
    }
}
