//! The local files that a step is made from, and their copy in the store.
//!
//! Clones in CI are shallow, so a rollback cannot count on an older commit:
//! each apply keeps its sources as one archive under `sources/DIGEST`. What git
//! ignores is not kept: it may hold secrets, and what programs leave behind.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::settings::Common;
use crate::steps::{Context, Failure};
use crate::world::bundle;
use crate::world::files::{FileError, Files, digest};
use crate::world::store::Store;
use crate::world::walk::Matcher;

/// Larger sources are a mistake: something that should be ignored is not.
const LARGEST: u64 = 64 * 1024 * 1024;

/// Files by path relative to the project root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::steps) struct Sources {
    /// What each holds: `DIGEST`, `DIGEST x`, `link DIGEST`.
    files: BTreeMap<String, String>,
    /// Those that git ignores although the step names them: they count, and are not kept.
    ignored: BTreeSet<String>,
}

impl Sources {
    /// The files under `dir` that git does not ignore, those under `more` (paths relative to the
    /// project root: local modules, variable files) and what the step's `inputs` match. Without a
    /// repository all files but hidden ones.
    pub(in crate::steps) async fn of(
        common: &Common,
        more: &[String],
        cx: &Context,
    ) -> Result<Self, Failure> {
        let (world, dir) = (cx.world.clone(), common.dir.clone());
        let (more, globs) = (more.to_vec(), common.attributes.inputs.clone().unwrap_or_default());
        let work = move || {
            let mut places = vec![dir];
            places.extend(more.iter().cloned());
            let listed = world.git.listed(&places).map_err(Failure::new)?;
            let kept: Vec<String> = match listed {
                Some(listed) => listed,
                None => walked(&places, &world.files)?,
            };
            let matcher =
                Matcher::new(&globs.include, &globs.exclude).map_err(|e| Failure::new(e.to_string()))?;
            let mut all: BTreeSet<String> = if globs.include.is_empty() {
                BTreeSet::new()
            } else {
                let walked = matcher.walk(&world.files).map_err(|error| Failure::new(error.to_string()))?;
                walked.iter().map(|path| path.to_string_lossy().into_owned()).collect()
            };
            // Named one by one, whatever git thinks of them.
            all.extend(more.iter().filter(|path| is_file(&world.files, path)).cloned());
            let kept: BTreeSet<String> = kept.into_iter().collect();
            let ignored = all.difference(&kept).cloned().collect();
            all.extend(kept);
            let all: Vec<String> = all.into_iter().collect();
            let listing = digests(&all, &world.files)?;
            Ok(Self { files: listing, ignored })
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| Failure::new(error.to_string()))?
    }

    /// Digest of each, for [`Proposal::inputs`](crate::steps::Proposal::inputs).
    pub(in crate::steps) fn digests(&self) -> BTreeMap<String, String> {
        self.files.clone()
    }

    /// Keeps them in the store and returns the archive's digest. Nothing to do when it is there.
    pub(in crate::steps) async fn keep(&self, cx: &Context) -> Result<String, Failure> {
        let paths: Vec<String> =
            self.files.keys().filter(|path| !self.ignored.contains(*path)).cloned().collect();
        let world = cx.world.clone();
        let work = move || {
            let bytes = bundle::pack(&world.files, &paths, LARGEST)?;
            keep_bytes(&world.store, &bytes)
        };
        let kept =
            tokio::task::spawn_blocking(work).await.map_err(|error| Failure::new(error.to_string()))?;
        kept.map_err(|error| Failure::from(error).help("let git ignore what is no source"))
    }

    /// What [`Sources::keep`] would return, and whether it lies in the store already.
    pub(in crate::steps) async fn kept(&self, cx: &Context) -> Result<(String, bool), Failure> {
        let paths: Vec<String> =
            self.files.keys().filter(|path| !self.ignored.contains(*path)).cloned().collect();
        let world = cx.world.clone();
        let work = move || {
            let bytes = bundle::pack(&world.files, &paths, LARGEST)?;
            let name = digest(&bytes);
            let there = kept_bytes(&world.store, &name)?.is_some();
            Ok::<_, FileError>((name, there))
        };
        let kept =
            tokio::task::spawn_blocking(work).await.map_err(|error| Failure::new(error.to_string()))?;
        kept.map_err(|error| Failure::from(error).help("let git ignore what is no source"))
    }
}

fn is_file(files: &Files, path: &str) -> bool {
    let located = files.locate(path).and_then(|path| files.metadata(&path));
    located.is_ok_and(|found| found.is_some_and(|found| found.is_file()))
}

/// Files under some places where there is no repository; what is hidden is no source.
fn walked(places: &[String], files: &Files) -> Result<Vec<String>, Failure> {
    let places: Vec<String> =
        places.iter().map(|place| if place == "." { "**".to_owned() } else { place.clone() }).collect();
    let hidden = ["**/.*".to_owned(), "**/.*/**".to_owned(), "**/node_modules/**".to_owned()];
    let matcher = Matcher::new(&places, &hidden).map_err(|error| Failure::new(error.to_string()))?;
    let found: Vec<PathBuf> = matcher.walk(files).map_err(|error| Failure::new(error.to_string()))?;
    Ok(found.iter().map(|path| path.to_string_lossy().into_owned()).collect())
}

/// What files hold, each named.
fn digests(paths: &[String], files: &Files) -> Result<BTreeMap<String, String>, Failure> {
    let mut held = BTreeMap::new();
    for path in paths {
        let located = files.locate(path)?;
        // Listed by git and deleted since.
        let Some(found) = files.metadata(&located)? else { continue };
        let text = if found.is_symlink() {
            format!("link {}", digest(files.read_link(&located)?.as_os_str().as_encoded_bytes()))
        } else if found.is_file() {
            let sum = files.digests().of(&located)?;
            if crate::world::files::is_executable(&found) { format!("{sum} x") } else { sum.to_string() }
        } else {
            continue;
        };
        held.insert(path.clone(), text);
    }
    Ok(held)
}

/// Keeps bytes under their digest, which is returned.
pub(in crate::steps) fn keep_bytes(store: &Store, bytes: &[u8]) -> Result<String, FileError> {
    let name = digest(bytes);
    let key = key(&name);
    if store.create(&key, bytes)? {
        store.settle(&key)?;
    }
    Ok(name)
}

/// Kept bytes, if they are there and still what they were.
pub(in crate::steps) fn kept_bytes(store: &Store, name: &str) -> Result<Option<Vec<u8>>, FileError> {
    Ok(store.get(&key(name))?.filter(|bytes| digest(bytes) == name))
}

fn key(name: &str) -> String {
    format!("sources/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::settings::Ready;
    use crate::steps::Attributes;
    use crate::steps::infra::Workplace;
    use crate::steps::testing::Bench;

    fn write(bench: &Bench, path: &str, text: &str) {
        let path = bench.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn git(bench: &Bench, arguments: &[&str]) {
        let run =
            std::process::Command::new("git").args(arguments).current_dir(bench.root()).output().unwrap();
        assert!(run.status.success(), "{run:?}");
    }

    fn common(dir: &str) -> Common {
        let mut common = Common::read(&Ready::default(), &Attributes::default()).unwrap();
        dir.clone_into(&mut common.dir);
        common
    }

    #[test]
    fn bytes_that_are_not_what_they_were_are_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::folder(folder.path().to_owned());
        let name = keep_bytes(&store, b"Resources: {}").unwrap();
        assert_eq!(keep_bytes(&store, b"Resources: {}").unwrap(), name);
        assert_eq!(kept_bytes(&store, &name).unwrap().as_deref(), Some(b"Resources: {}".as_slice()));
        store.put(&key(&name), b"Resources: {Evil: x}").unwrap();
        assert_eq!(kept_bytes(&store, &name).unwrap(), None);
    }

    #[tokio::test]
    async fn what_git_does_not_ignore_is_kept_and_comes_back_as_it_was() {
        let bench = Bench::new();
        for (path, text) in [
            (".gitignore", "*.tfstate\nsecret.tfvars\n"),
            ("infra/main.tf", "one"),
            ("infra/terraform.tfstate", "state"),
            ("modules/net/main.tf", "net"),
            ("secret.tfvars", "geheim"),
            ("app/main.rs", "app"),
        ] {
            write(&bench, path, text);
        }
        git(&bench, &["init", "-q"]);
        git(&bench, &["add", "infra", "modules"]);
        write(&bench, "infra/new.tf", "not added yet");

        let more = ["modules/net".to_owned(), "secret.tfvars".to_owned()];
        let sources = Sources::of(&common("infra"), &more, &bench.cx).await.unwrap();
        let names: Vec<&String> = sources.files.keys().collect();
        assert_eq!(names, ["infra/main.tf", "infra/new.tf", "modules/net/main.tf", "secret.tfvars"]);

        let (name, there) = sources.kept(&bench.cx).await.unwrap();
        assert!(!there);
        assert_eq!(sources.keep(&bench.cx).await.unwrap(), name);
        assert!(sources.kept(&bench.cx).await.unwrap().1);
        let copy = Workplace::unpacked(&bench.cx, &name).unwrap();
        assert_eq!(std::fs::read_to_string(copy.root().join("infra/main.tf")).unwrap(), "one");
        assert!(!copy.root().join("secret.tfvars").exists(), "what git ignores is not kept");
        let root = copy.root().to_owned();
        drop(copy);
        assert!(!root.exists());
    }

    #[tokio::test]
    async fn without_a_repository_hidden_files_are_no_sources() {
        let bench = Bench::new();
        write(&bench, "infra/main.tf", "one");
        write(&bench, "infra/.terraform/x", "made");
        let sources = Sources::of(&common("infra"), &[], &bench.cx).await.unwrap();
        assert_eq!(sources.files.keys().collect::<Vec<_>>(), ["infra/main.tf"]);
        let missing = Workplace::unpacked(&bench.cx, &digest(b"nothing")).unwrap_err();
        assert!(missing.record.reason.contains("no longer in the store"), "{missing:?}");
    }
}
