//! The walk itself: folders are read by several threads, each file that counts
//! is looked at once, and only those are read whose digests are not known.

use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::FileType;

use super::folder::{Folder, Name};
use super::listing::{Group, Held, Kind, Listing};
use super::{Base, Matcher, WalkError};
use crate::world::digests::{Digests, Stamp, Sum, Wanted, stamp};
use crate::world::files::{FileError, Files};
use crate::world::parallel;

/// After so many names it is worth to have help.
const MANY: usize = 768;

/// Where to walk, and what for.
pub(super) struct Tree<'a> {
    pub files: &'a Files,
    pub matcher: &'a Matcher,
    /// Without them names are enough, and nothing is read.
    pub digests: Option<&'a Digests>,
}

/// What one thread found.
#[derive(Default)]
struct Found {
    groups: Vec<Group>,
    /// Files whose digests are not known: which group, which of its files.
    missing: Vec<(usize, usize, Wanted)>,
    names: usize,
}

/// Folders that are to be read. The walk ends when there is none and nobody could add one.
#[derive(Default)]
struct Queue {
    state: Mutex<Folders>,
    more: Condvar,
}

#[derive(Default)]
struct Folders {
    waiting: Vec<String>,
    busy: usize,
    failed: Option<WalkError>,
}

impl Tree<'_> {
    /// All that counts.
    pub(super) fn walk(&self) -> Result<Listing, WalkError> {
        let queue = Queue::default();
        let mut found = Found::default();
        for base in self.matcher.bases() {
            self.start(&base, &queue, &mut found)?;
        }
        // Most sets are small: alone first.
        while found.names < MANY {
            let Some(folder) = queue.lock().waiting.pop() else { break };
            self.folder(&folder, &queue, &mut found)?;
        }
        let mut all = vec![found];
        if !queue.lock().waiting.is_empty() {
            all.extend(self.together(&queue)?);
        }
        self.fill(all)
    }

    /// Walks with several threads until no folder is left.
    fn together(&self, queue: &Queue) -> Result<Vec<Found>, WalkError> {
        let work = || {
            let mut found = Found::default();
            while let Some(folder) = queue.next() {
                let read = self.folder(&folder, queue, &mut found);
                queue.done(read);
            }
            found
        };
        let all = std::thread::scope(|scope| {
            let threads: Vec<_> = (1..parallel::workers()).map(|_| scope.spawn(work)).collect();
            let mut all = vec![work()];
            for thread in threads {
                all.push(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            all
        });
        match queue.lock().failed.take() {
            Some(error) => Err(error),
            None => Ok(all),
        }
    }

    /// Reads the files whose digests are not known.
    fn fill(&self, all: Vec<Found>) -> Result<Listing, WalkError> {
        let mut groups: Vec<Group> = Vec::new();
        let (mut places, mut wanted) = (Vec::new(), Vec::new());
        for found in all {
            let offset = groups.len();
            groups.extend(found.groups);
            for (group, file, one) in found.missing {
                places.push((offset + group, file));
                wanted.push(one);
            }
        }
        let all = self.digests.map(|digests| digests.all(wanted)).transpose()?.unwrap_or_default();
        for ((group, file), digested) in places.into_iter().zip(all) {
            if let Some((_, held)) = groups.get_mut(group).and_then(|group| group.files.get_mut(file)) {
                held.sum = digested.sum;
                held.kind = kind(&digested.stamp).unwrap_or(held.kind);
            }
        }
        Ok(Listing::new(groups))
    }

    /// A folder to begin with, or a file that was named.
    fn start(&self, base: &Base<'_>, queue: &Queue, found: &mut Found) -> Result<(), WalkError> {
        let path = self.files.root().join(base.path);
        let Some(stamp) = stamp(&path)? else { return Ok(()) };
        if stamp.file_type() == FileType::Directory {
            if !self.matcher.leaves_out(base.path) {
                queue.add(base.path.to_owned());
            }
        } else if base.named && !self.matcher.exclude.matches(base.path) {
            let (folder, name) = base.path.rsplit_once('/').unwrap_or(("", base.path));
            let key = self.key(path.parent().unwrap_or(Path::new("")));
            if let Some((held, known)) = self.held(key, name, &stamp, || self.files.read_link(&path))? {
                if !known {
                    found.missing.push((found.groups.len(), 0, Wanted { path, stamp, part: None }));
                }
                found.groups.push(Group { folder: folder.to_owned(), files: vec![(name.into(), held)] });
            }
        }
        Ok(())
    }

    fn folder(&self, relative: &str, queue: &Queue, found: &mut Found) -> Result<(), WalkError> {
        let path = self.files.root().join(relative);
        // The root may be given by a link.
        let Some(folder) = Folder::open(&path, relative.is_empty())? else { return Ok(()) };
        let mut group = Group { folder: relative.to_owned(), files: Vec::new() };
        let key = self.key(&path);
        let mut full = String::with_capacity(relative.len() + 64);
        for name in folder.names() {
            found.names += 1;
            full.clear();
            full.push_str(relative);
            if !relative.is_empty() {
                full.push('/');
            }
            full.push_str(&name.as_os_str().to_string_lossy());
            let may_be_folder = matches!(name.kind, FileType::Directory | FileType::Unknown);
            if !may_be_folder && !self.matcher.matches_text(&full) {
                continue;
            }
            let stamp =
                if name.kind == FileType::Directory { None } else { folder.look(name.as_os_str())? };
            match stamp {
                None if name.kind != FileType::Directory => {}
                Some(stamp) if stamp.file_type() != FileType::Directory => {
                    if !self.matcher.matches_text(&full) {
                        continue;
                    }
                    let text = utf8(&folder, name)?;
                    let link = || folder.read_link(name.as_os_str());
                    let Some((held, known)) = self.held(key, text, &stamp, link)? else { continue };
                    if !known {
                        let wanted = Wanted { path: folder.path(name.as_os_str()), stamp, part: None };
                        found.missing.push((found.groups.len(), group.files.len(), wanted));
                    }
                    group.files.push((text.into(), held));
                }
                _ => {
                    if self.matcher.enters(&full) {
                        utf8(&folder, name)?;
                        queue.add(full.clone());
                    }
                }
            }
        }
        found.groups.push(group);
        Ok(())
    }

    fn key(&self, folder: &Path) -> Option<u64> {
        self.digests.map(|digests| digests.folder_key(folder))
    }

    /// What a file holds, and whether that is known yet. Sockets, pipes and devices hold nothing.
    fn held(
        &self,
        folder: Option<u64>,
        name: &str,
        stamp: &Stamp,
        link: impl FnOnce() -> Result<PathBuf, FileError>,
    ) -> Result<Option<(Held, bool)>, WalkError> {
        let Some(kind) = kind(stamp) else { return Ok(None) };
        let (Some(digests), Some(folder)) = (self.digests, folder) else {
            return Ok(Some((Held { kind, sum: Sum([0; 32]) }, true)));
        };
        if kind == Kind::Link {
            let sum = Sum::of(link()?.as_os_str().as_encoded_bytes());
            return Ok(Some((Held { kind, sum }, true)));
        }
        let known = digests.known_in(folder, name.as_bytes(), stamp);
        Ok(Some((Held { kind, sum: known.unwrap_or(Sum([0; 32])) }, known.is_some())))
    }
}

/// `None` for what holds nothing.
fn kind(stamp: &Stamp) -> Option<Kind> {
    match stamp.file_type() {
        FileType::Symlink => Some(Kind::Link),
        FileType::RegularFile if stamp.mode & 0o100 == 0 => Some(Kind::File),
        FileType::RegularFile => Some(Kind::Program),
        _ => None,
    }
}

fn utf8<'a>(folder: &Folder, name: Name<'a>) -> Result<&'a str, WalkError> {
    name.as_str().ok_or_else(|| WalkError::Name(folder.path(name.as_os_str())))
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Folders> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, folder: String) {
        self.lock().waiting.push(folder);
        self.more.notify_one();
    }

    /// The next folder; `None` when the walk is over.
    fn next(&self) -> Option<String> {
        let mut state = self.lock();
        loop {
            if state.failed.is_some() {
                return None;
            }
            if let Some(folder) = state.waiting.pop() {
                state.busy += 1;
                return Some(folder);
            }
            if state.busy == 0 {
                return None;
            }
            state = self.more.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn done(&self, read: Result<(), WalkError>) {
        let mut state = self.lock();
        state.busy -= 1;
        if let Err(error) = read {
            state.failed.get_or_insert(error);
        }
        if state.busy == 0 || state.failed.is_some() {
            self.more.notify_all();
        }
    }
}
