//! Some files of a project as one archive, the same on every machine: sorted,
//! without times and owners, digest-named by whoever keeps it.

use std::fs::File;
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::{Component, Path};

use super::files::{FileError, Files, is_executable};

/// An archive of these files, whose paths are relative to the root. Links are kept as links. Fails
/// above `largest` bytes.
pub fn pack(files: &Files, paths: &[String], largest: u64) -> Result<Vec<u8>, FileError> {
    let mut sorted: Vec<&String> = paths.iter().collect();
    sorted.sort();
    sorted.dedup();
    let mut archive = tar::Builder::new(Vec::new());
    let mut size = 0;
    for path in sorted {
        let source = files.locate(path)?;
        let wrong = || FileError::new("cannot keep", &source);
        let Some(found) = files.metadata(&source)? else { continue };
        let mut header = tar::Header::new_gnu();
        header.set_mtime(0);
        if found.is_symlink() {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            let target = files.read_link(&source)?;
            archive.append_link(&mut header, path, target).map_err(wrong())?;
        } else if found.is_file() {
            let bytes = files.read(&source)?;
            size += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            if size > largest {
                let all = io::Error::other(format!("with it there are more than {largest} bytes"));
                return Err(wrong()(all));
            }
            header.set_mode(if is_executable(&found) { 0o755 } else { 0o644 });
            header.set_size(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            archive.append_data(&mut header, path, bytes.as_slice()).map_err(wrong())?;
        }
    }
    archive.into_inner().map_err(FileError::new("cannot keep", files.root()))
}

/// Places an archive made by [`pack`] in an empty folder. Nothing outside of it is touched: a path
/// or a link that leads out is refused.
pub fn unpack(bytes: &[u8], into: &Path) -> Result<(), FileError> {
    let mut archive = tar::Archive::new(bytes);
    let entries = archive.entries().map_err(wrong(into))?;
    for entry in entries {
        let mut entry = entry.map_err(wrong(into))?;
        let path = entry.path().map_err(wrong(into))?.into_owned();
        let place = into.join(&path);
        if depth(&path).is_none() {
            return Err(wrong(&path)(io::Error::new(io::ErrorKind::InvalidData, "it leads outside")));
        }
        let folder = place.parent().unwrap_or(into);
        std::fs::create_dir_all(folder).map_err(wrong(&place))?;
        match entry.header().entry_type() {
            tar::EntryType::Symlink => {
                let target = entry.link_name().map_err(wrong(&place))?.unwrap_or_default().into_owned();
                let from = path.parent().unwrap_or(Path::new("")).join(&target);
                if target.is_absolute() || depth(&from).is_none() {
                    return Err(wrong(&path)(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "it links to something outside",
                    )));
                }
                symlink(&target, &place).map_err(wrong(&place))?;
            }
            tar::EntryType::Regular => {
                let mode = entry.header().mode().map_err(wrong(&place))? & 0o755;
                let mut file = File::options()
                    .write(true)
                    .create_new(true)
                    .mode(mode | 0o600)
                    .open(&place)
                    .map_err(wrong(&place))?;
                io::copy(&mut entry, &mut file).map_err(wrong(&place))?;
            }
            _ => {
                let other = io::Error::new(io::ErrorKind::InvalidData, "it is neither a file nor a link");
                return Err(wrong(&path)(other));
            }
        }
    }
    Ok(())
}

fn wrong(path: &Path) -> impl FnOnce(io::Error) -> FileError {
    FileError::new("cannot unpack", path)
}

/// How deep a relative path ends; `None` when it is absolute or leaves where it begins.
fn depth(path: &Path) -> Option<usize> {
    let mut depth = 0_usize;
    for part in path.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir => depth = depth.checked_sub(1)?,
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(depth)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_same_files_are_the_same_archive_and_come_back() {
        let root = tempfile::tempdir().unwrap();
        let files = Files::new(root.path());
        std::fs::create_dir(root.path().join("a")).unwrap();
        std::fs::write(root.path().join("a/run.sh"), "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(root.path().join("a/run.sh"), std::fs::Permissions::from_mode(0o700))
            .unwrap();
        std::fs::write(root.path().join("b.tf"), "b").unwrap();
        symlink("a/run.sh", root.path().join("go")).unwrap();
        let paths = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let one = pack(&files, &paths(&["b.tf", "a/run.sh", "go", "gone.tf"]), 1000).unwrap();
        std::fs::set_permissions(root.path().join("b.tf"), std::fs::Permissions::from_mode(0o600)).unwrap();
        let other = pack(&files, &paths(&["go", "a/run.sh", "b.tf"]), 1000).unwrap();
        assert_eq!(one, other);
        assert!(pack(&files, &paths(&["b.tf", "a/run.sh"]), 5).is_err(), "too large");

        let into = tempfile::tempdir().unwrap();
        unpack(&one, into.path()).unwrap();
        assert_eq!(std::fs::read_to_string(into.path().join("go")).unwrap(), "#!/bin/sh\n");
        let mode = |name: &str| into.path().join(name).metadata().unwrap().permissions().mode() & 0o111;
        assert_ne!(mode("a/run.sh"), 0);
        assert_eq!(mode("b.tf"), 0);
    }

    #[test]
    fn what_leads_outside_is_refused() {
        let link = |name: &str, target: &str| {
            let mut archive = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            archive.append_link(&mut header, name, target).unwrap();
            archive.into_inner().unwrap()
        };
        let into = tempfile::tempdir().unwrap();
        assert!(unpack(&link("a", "/etc/passwd"), into.path()).is_err());
        assert!(unpack(&link("a/b", "../../x"), into.path()).is_err());
        assert!(unpack(&link("a/b", "../x"), into.path()).is_ok());
    }
}
