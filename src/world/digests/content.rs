//! Reads files to digest them, and notices one that changes meanwhile.

use std::fs::File;
use std::io::{self, Read as _};
use std::num::NonZeroU64;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use sha2::{Digest as _, Sha256};

use super::super::files::FileError;
use super::stamp::Stamp;
use super::{Digested, Sum};

/// Memory for each file that is being read, whatever its size.
const BUFFER: usize = 256 * 1024;
/// How often a file that changes while it is read is tried.
const TRIES: usize = 3;

/// Digests a file that had this stamp a moment ago. `part` asks for the digest of each piece of so
/// many bytes too.
pub(super) fn read(path: &Path, stamp: Stamp, part: Option<NonZeroU64>) -> Result<Digested, FileError> {
    let cannot = || FileError::new("cannot read", path);
    let mut before = stamp;
    for _ in 0..TRIES {
        // A pipe that took the file's place must not hold anything up, and no link is followed.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = File::from(open(path, flags, Mode::empty()).map_err(|error| cannot()(error.into()))?);
        if before.file_type() != FileType::RegularFile {
            // A folder took its place, say.
            return Err(cannot()(io::Error::other("it is no file")));
        }
        let (read, sum, parts) = digest(&file, before.size, part).map_err(cannot())?;
        let after = Stamp::of(&fstat(&file).map_err(|error| cannot()(error.into()))?);
        if after == before && read == after.size {
            return Ok(Digested { stamp: after, sum, parts });
        }
        before = after;
    }
    Err(cannot()(io::Error::other("it changes while it is read")))
}

/// All bytes of a file; `expected` only saves a read.
fn digest(mut file: &File, expected: u64, part: Option<NonZeroU64>) -> io::Result<(u64, Sum, Vec<Sum>)> {
    let part = part.map(NonZeroU64::get);
    let (mut whole, mut current) = (Sha256::new(), Sha256::new());
    let (mut parts, mut in_part, mut total) = (Vec::new(), 0_u64, 0_u64);
    let mut buffer = vec![0; usize::try_from(expected.saturating_add(1)).unwrap_or(BUFFER).min(BUFFER)];
    loop {
        // Never across the border of a part.
        let room = part.map_or(buffer.len(), |part| {
            usize::try_from(part - in_part).unwrap_or(usize::MAX).min(buffer.len())
        });
        let read = match file.read(buffer.get_mut(..room).unwrap_or_default()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        let bytes = buffer.get(..read).unwrap_or_default();
        whole.update(bytes);
        total += read as u64;
        if part.is_some() {
            current.update(bytes);
            in_part += read as u64;
            if in_part > 0 && (read == 0 || Some(in_part) == part) {
                parts.push(Sum(std::mem::take(&mut current).finalize().into()));
                in_part = 0;
            }
        }
        // Whoever wrote behind the expected end in the meantime changed the stamp too.
        if read == 0 || total == expected && read < room {
            break;
        }
    }
    if in_part > 0 {
        parts.push(Sum(current.finalize().into()));
    }
    Ok((total, Sum(whole.finalize().into()), parts))
}
