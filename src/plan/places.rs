//! The projects of a repository: its own, and those in folders under `flows/`.
//!
//! A folder somewhere under `flows/` in which a file has a `project` node holds
//! a project of its own with everything below it. From outside its flows and
//! environments are written `ohi/deploy` and `ohi/prod`.

use std::path::{Path, PathBuf};

use super::load::{self, LoadError};
use crate::syntax::source::FileId;
use crate::world::files::{FileError, Files, digest};

/// Where a project is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What it is called from outside, from its `project` node; absent for the repository's own.
    pub name: Option<String>,
    /// The folder of its files, absolute.
    pub folder: PathBuf,
    /// Its files, absolute, in the order of their names.
    pub files: Vec<PathBuf>,
}

/// The projects of a repository, its own first, even when that has no file; then in the order of
/// their folders. Fails where two have one name.
pub fn places(root: &Path) -> Result<Vec<Place>, LoadError> {
    let files = Files::new(root);
    let own = Place { name: None, folder: root.join("flows"), files: Vec::new() };
    let mut found = vec![own];
    collect(&files, &root.join("flows"), 0, &mut found)?;
    for (at, place) in found.iter().enumerate() {
        let earlier = found.iter().take(at).find(|other| other.name == place.name);
        if let (Some(earlier), Some(name)) = (earlier, &place.name) {
            let (first, again) = (earlier.folder.clone(), place.folder.clone());
            return Err(LoadError::Twice { name: name.clone(), first, again });
        }
    }
    Ok(found)
}

/// Adds the files of a folder to the project they belong to, `found[owner]`.
fn collect(files: &Files, folder: &Path, owner: usize, found: &mut Vec<Place>) -> Result<(), FileError> {
    let (mut folders, mut kdl) = (Vec::new(), Vec::new());
    for entry in files.list(folder)? {
        let Some(metadata) = files.metadata(&entry)? else { continue };
        if metadata.is_dir() {
            folders.push(entry);
        } else if entry.extension().is_some_and(|extension| extension == "kdl") {
            kdl.push((entry, metadata.len()));
        }
    }
    let mut owner = owner;
    if folder != files.root().join("flows")
        && let Some(name) = project_name(files, &kdl, folder)?
    {
        owner = found.len();
        found.push(Place { name: Some(name), folder: folder.to_owned(), files: Vec::new() });
    }
    if let Some(place) = found.get_mut(owner) {
        place.files.extend(kdl.into_iter().map(|(file, _)| file));
    }
    for folder in folders {
        collect(files, &folder, owner, found)?;
    }
    Ok(())
}

/// The name of the project whose node stands in one of a folder's files; the folder's own where the
/// node has none, which is a mistake that is reported when the project is read.
fn project_name(files: &Files, kdl: &[(PathBuf, u64)], folder: &Path) -> Result<Option<String>, FileError> {
    for (file, size) in kdl {
        if *size > load::LARGEST {
            continue;
        }
        let bytes = files.read(file)?;
        // Parsing costs a millisecond per kB; most files of most folders do not even have the word.
        let may_have =
            bytes.split(|byte| *byte == b'\n').any(|line| line.trim_ascii_start().starts_with(b"project"));
        if !may_have {
            continue;
        }
        let (nodes, _) = load::read(&load::cache(files.root()), &bytes, &digest(&bytes), FileId::default());
        if let Some(node) = nodes.iter().find(|node| node.name.value == "project") {
            let named = node.args.first().and_then(|argument| argument.as_text()).map(str::to_owned);
            let folder = || folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Ok(Some(named.unwrap_or_else(folder)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<(Option<String>, Vec<String>)> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let shown = |path: &PathBuf| path.strip_prefix(folder.path()).unwrap().display().to_string();
        let places = places(folder.path()).unwrap();
        places.iter().map(|place| (place.name.clone(), place.files.iter().map(shown).collect())).collect()
    }

    fn named(name: Option<&str>, files: &[&str]) -> (Option<String>, Vec<String>) {
        (name.map(str::to_owned), files.iter().map(|file| (*file).to_owned()).collect())
    }

    #[test]
    fn a_folder_without_a_project_node_belongs_to_the_project_above() {
        let files = [("flows/a.kdl", "project \"shop\""), ("flows/b/c.kdl", "// project\nflow \"x\"")];
        assert_eq!(found(&files), [named(None, &["flows/a.kdl", "flows/b/c.kdl"])]);
    }

    #[test]
    fn a_folder_with_a_project_node_is_a_project_with_all_below_it() {
        let files = [
            ("flows/a.kdl", "flow \"a\""),
            ("flows/ohi/x/deep.kdl", "flow \"d\""),
            ("flows/ohi/project.kdl", "project \"ohi\" { root \"systems/ohi\" }"),
            ("flows/two/p.kdl", "  project"),
        ];
        assert_eq!(
            found(&files),
            [
                named(None, &["flows/a.kdl"]),
                named(Some("ohi"), &["flows/ohi/project.kdl", "flows/ohi/x/deep.kdl"]),
                named(Some("two"), &["flows/two/p.kdl"]),
            ]
        );
    }

    #[test]
    fn a_script_that_speaks_of_a_project_is_none() {
        let script = "flow \"x\" {\n    run \"a\" {\n        script #\"\"\"\n            project it\n            \"\"\"#\n    }\n}";
        assert_eq!(found(&[("flows/b/c.kdl", script)]), [named(None, &["flows/b/c.kdl"])]);
    }

    #[test]
    fn two_projects_of_one_name_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            std::fs::create_dir_all(folder.path().join("flows").join(name)).unwrap();
            std::fs::write(folder.path().join("flows").join(name).join("p.kdl"), "project \"x\"").unwrap();
        }
        let error = places(folder.path()).unwrap_err().to_string();
        assert!(error.starts_with("two projects are named x: "), "{error}");
    }
}
