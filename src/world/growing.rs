//! Files that only grow: journals and logs. One writer, any number of readers.
//!
//! The writer holds a lock for as long as it lives; the kernel drops it with
//! the process, so a reader can tell a run that goes on from one that died.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::crash;
use super::files::FileError;

/// The writing end of a file that only grows.
#[derive(Debug)]
pub struct Growing {
    file: File,
    path: PathBuf,
    /// Folders whose entries lead to it and are not known to be on disk yet, innermost first.
    fresh_in: Vec<PathBuf>,
}

impl Growing {
    /// Makes a file that must not exist yet and locks it; `None` when it exists.
    pub fn create_new(path: &Path) -> Result<Option<Self>, FileError> {
        crash::file("create", path, "before");
        let made = crash::room().and_then(|()| File::options().create_new(true).append(true).open(path));
        match made {
            Ok(file) => {
                crash::file("create", path, "after");
                file.lock().map_err(FileError::new("cannot lock", path))?;
                Ok(Some(Self { file, path: path.to_owned(), fresh_in: Vec::new() }))
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(FileError::new("cannot create", path)(error)),
        }
    }

    /// Makes a file that must not exist yet, with its first bytes and its lock: nobody ever sees it
    /// without either. `None` when it exists.
    pub fn create_with(path: &Path, bytes: &[u8]) -> Result<Option<Self>, FileError> {
        let fault = || FileError::new("cannot create", path);
        let folder = path.parent().unwrap_or(Path::new("."));
        let temporary = tempfile::NamedTempFile::new_in(folder).map_err(fault())?;
        let (file, place) = temporary.into_parts();
        let mut growing = Self { file, path: path.to_owned(), fresh_in: Vec::new() };
        growing.append(bytes)?;
        growing.sync()?;
        growing.file.lock().map_err(FileError::new("cannot lock", path))?;
        match place.persist_noclobber(path) {
            Ok(()) => Ok(Some(growing)),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(fault()(error.error)),
        }
    }

    /// Takes the place of a writer that is gone: locks the file, and cuts off what stands behind its
    /// last line end, which was never acknowledged. `None` while its writer lives.
    pub fn take_over(path: &Path) -> Result<Option<Self>, FileError> {
        let file = File::options()
            .read(true)
            .append(true)
            .open(path)
            .map_err(FileError::new("cannot write", path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(FileError::new("cannot lock", path)(error)),
        }
        let mut growing = Self { file, path: path.to_owned(), fresh_in: Vec::new() };
        growing.cut().map_err(FileError::new("cannot write", path))?;
        Ok(Some(growing))
    }

    fn cut(&mut self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        let whole = whole_lines(&mut self.file, length)?;
        if whole < length {
            crash::file("cut", &self.path, "before");
            crash::room()?;
            self.file.set_len(whole)?;
            self.file.sync_all()?;
            crash::file("cut", &self.path, "after");
        }
        Ok(())
    }

    /// Opens a file to go on writing, or makes it. Takes no lock.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .map_err(FileError::new("cannot write", path))?;
        Ok(Self { file, path: path.to_owned(), fresh_in: Vec::new() })
    }

    /// Adds bytes at the end. After an error some of them may be there.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        crash::write(&mut self.file, bytes, &self.path).map_err(FileError::new("cannot write", &self.path))
    }

    /// Its name lasts, too, from the first sync on: these folders lead to it, innermost first.
    #[must_use]
    pub fn fresh_in(mut self, folders: Vec<PathBuf>) -> Self {
        self.fresh_in = folders;
        self
    }

    /// Returns once all that was added is on disk.
    pub fn sync(&mut self) -> Result<(), FileError> {
        crash::file("sync", &self.path, "before");
        crash::room()
            .and_then(|()| self.file.sync_data())
            .map_err(FileError::new("cannot write", &self.path))?;
        for folder in std::mem::take(&mut self.fresh_in) {
            sync_folder(&folder)?;
        }
        crash::file("sync", &self.path, "after");
        Ok(())
    }
}

/// Whether somebody holds the lock of a file; `false` when there is no file.
pub fn is_held(path: &Path) -> Result<bool, FileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(FileError::new("cannot open", path)(error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(FileError::new("cannot look at the lock of", path)(error)),
    }
}

/// Makes the entries of a folder last: without it a new file may be gone after a power cut.
pub fn sync_folder(path: &Path) -> Result<(), FileError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(FileError::new("cannot write", path))
}

/// The reading end: hands out whole lines, also those added later.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    file: Option<File>,
    rest: Vec<u8>,
}

impl Tail {
    /// Reads from the start of a file that may not be there yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, file: None, rest: Vec::new() }
    }

    /// The whole lines added since the last call, without their ends; some megabytes at once, so
    /// that memory stays bounded. Empty only when there is no whole line left.
    pub fn lines(&mut self) -> Result<Vec<Vec<u8>>, FileError> {
        const AT_ONCE: u64 = 4 << 20;
        if self.file.is_none() {
            match File::open(&self.path) {
                Ok(file) => self.file = Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(error) => return Err(FileError::new("cannot open", &self.path)(error)),
            }
        }
        let Some(file) = &mut self.file else { return Ok(Vec::new()) };
        let end = loop {
            let new = file
                .take(AT_ONCE)
                .read_to_end(&mut self.rest)
                .map_err(FileError::new("cannot read", &self.path))?;
            if let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') {
                break end;
            }
            if new == 0 {
                return Ok(Vec::new());
            }
        };
        let after = self.rest.split_off(end + 1);
        let whole = std::mem::replace(&mut self.rest, after);
        let mut lines: Vec<Vec<u8>> = whole.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        lines.pop();
        Ok(lines)
    }

    /// What stands behind the last line end, once nothing more will come.
    #[must_use]
    pub fn into_rest(self) -> Vec<u8> {
        self.rest
    }
}

/// The first and the last whole line of a file, without their ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The first.
    pub first: Vec<u8>,
    /// The last; the same when there is only one.
    pub last: Vec<u8>,
}

/// The ends of a file, however long it is; `None` when it has no whole line.
pub fn ends(path: &Path) -> Result<Option<Ends>, FileError> {
    let read = || -> io::Result<Option<Ends>> {
        let mut file = File::open(path)?;
        let Some(first) = first_line(&mut file)? else { return Ok(None) };
        let Some(last) = last_line(&mut file)? else { return Ok(None) };
        Ok(Some(Ends { first, last }))
    };
    read().map_err(FileError::new("cannot read", path))
}

/// Bytes that are looked at in one go.
const BLOCK: u64 = 16 * 1024;

fn first_line(file: &mut File) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    loop {
        let looked = line.len();
        if file.take(BLOCK).read_to_end(&mut line)? == 0 {
            return Ok(None);
        }
        if let Some(end) = line.iter().skip(looked).position(|byte| *byte == b'\n') {
            line.truncate(looked + end);
            return Ok(Some(line));
        }
    }
}

/// How many of the first bytes of a file are whole lines.
fn whole_lines(file: &mut File, length: u64) -> io::Result<u64> {
    let mut to = length;
    while to > 0 {
        let start = to.saturating_sub(BLOCK);
        let mut block = vec![0; usize::try_from(to - start).unwrap_or_default()];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block)?;
        if let Some(end) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + u64::try_from(end).unwrap_or_default() + 1);
        }
        to = start;
    }
    Ok(0)
}

/// Reads backwards until two line ends are seen, or one and the start of the file.
fn last_line(file: &mut File) -> io::Result<Option<Vec<u8>>> {
    let mut from = file.seek(SeekFrom::End(0))?;
    let mut tail = Vec::new();
    while from > 0 {
        let start = from.saturating_sub(BLOCK);
        let mut block = vec![0; usize::try_from(from - start).unwrap_or_default()];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block)?;
        block.append(&mut tail);
        tail = block;
        from = start;
        let mut pieces = tail.rsplit(|byte| *byte == b'\n');
        // Behind the last line end stands nothing, or a line that was never finished.
        let (_unfinished, line, before) = (pieces.next(), pieces.next(), pieces.next());
        if before.is_some() || from == 0 {
            return Ok(line.map(<[u8]>::to_vec));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_hands_out_whole_lines_as_they_come() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut tail = Tail::new(path.clone());
        assert!(tail.lines().unwrap().is_empty(), "no file yet");
        let mut file = Growing::open(&path).unwrap();
        file.append(b"one\ntw").unwrap();
        assert_eq!(tail.lines().unwrap(), [b"one".to_vec()]);
        file.append(b"o\n\nthree").unwrap();
        assert_eq!(tail.lines().unwrap(), [b"two".to_vec(), b"".to_vec()]);
        assert!(tail.lines().unwrap().is_empty());
        assert_eq!(tail.into_rest(), b"three");
    }

    #[test]
    fn the_ends_of_a_file_are_found_without_reading_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let long = "x".repeat(40_000);
        for (text, expected) in [
            (String::new(), None),
            ("torn".to_owned(), None),
            ("one\n".to_owned(), Some(("one", "one"))),
            ("one\ntwo\n".to_owned(), Some(("one", "two"))),
            ("one\ntwo\ntorn".to_owned(), Some(("one", "two"))),
            (format!("{long}\n{long}\n{long}"), Some((long.as_str(), long.as_str()))),
            (format!("one\n{long}\nlast\n"), Some(("one", "last"))),
        ] {
            std::fs::write(&path, &text).unwrap();
            let expected =
                expected.map(|(a, b)| Ends { first: a.as_bytes().to_vec(), last: b.as_bytes().to_vec() });
            assert_eq!(ends(&path).unwrap(), expected, "{}", text.len());
        }
    }

    #[test]
    fn whoever_takes_over_finds_whole_lines_only() {
        let folder = tempfile::tempdir().unwrap();
        let long = "x".repeat(40_000);
        let cases = [
            ("", ""),
            ("torn", ""),
            ("one\n", "one\n"),
            ("one\ntwo\nto", "one\ntwo\n"),
            (&format!("one\n{long}"), "one\n"),
            (&format!("{long}\n{long}"), &format!("{long}\n")),
        ];
        for (at, (text, expected)) in cases.into_iter().enumerate() {
            // A file each: a program that another test starts may still hold the last one.
            let path = folder.path().join(at.to_string());
            std::fs::write(&path, text).unwrap();
            let mut file = Growing::take_over(&path).unwrap().unwrap();
            assert!(Growing::take_over(&path).unwrap().is_none(), "it is held");
            file.append(b"next\n").unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{expected}next\n"));
        }
    }

    #[test]
    fn a_lock_is_held_as_long_as_its_writer_lives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        assert!(!is_held(&path).unwrap());
        let file = Growing::create_new(&path).unwrap().unwrap();
        assert!(is_held(&path).unwrap());
        assert!(Growing::create_new(&path).unwrap().is_none());
        drop(file);
        assert!(!is_held(&path).unwrap());
    }
}
