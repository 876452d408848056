//! A ZIP archive that is the same on every machine: entries sorted by name, one
//! date, two modes, nothing compressed. Compression would make the bytes depend
//! on the version of a compressor, and Lambda compares bytes.
//!
//! The form is that of PKWARE's APPNOTE 6.3.3 without its extensions: at most
//! 65535 entries and 4 GiB, far above what Lambda takes.

/// One file of an archive.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Forward slashes, no leading one.
    pub name: String,
    /// Whether anybody may run it.
    pub executable: bool,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// More entries than an archive of this form can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an archive holds at most 65535 files and 4 GiB")]
pub struct TooMuch;

/// 1980-01-01, the first day that the form knows.
const DATE: u16 = 0x21;
/// Made on Unix, so that modes count; by version 2.0 of the form.
const MADE_BY: u16 = 0x0314;
/// What a reader must know: version 2.0.
const NEEDS: u16 = 20;
/// Names are UTF-8.
const UTF8: u16 = 1 << 11;
const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;

/// An archive of these files, sorted by name.
pub fn write(mut entries: Vec<Entry>) -> Result<Vec<u8>, TooMuch> {
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let count = u16::try_from(entries.len()).map_err(|_| TooMuch)?;
    let mut archive = Vec::with_capacity(entries.iter().map(|entry| entry.bytes.len() + 128).sum());
    let mut central = Vec::new();
    for entry in &entries {
        let offset = u32::try_from(archive.len()).map_err(|_| TooMuch)?;
        let facts = Facts::of(entry)?;
        put(&mut archive, &[Four(LOCAL), Two(NEEDS)]);
        facts.put(&mut archive);
        archive.extend_from_slice(entry.name.as_bytes());
        archive.extend_from_slice(&entry.bytes);

        put(&mut central, &[Four(CENTRAL), Two(MADE_BY), Two(NEEDS)]);
        facts.put(&mut central);
        let mode: u32 = if entry.executable { 0o100_755 } else { 0o100_644 };
        // No comment, first disk, no internal attributes.
        put(&mut central, &[Two(0), Two(0), Two(0), Four(mode << 16), Four(offset)]);
        central.extend_from_slice(entry.name.as_bytes());
    }
    let start = u32::try_from(archive.len()).map_err(|_| TooMuch)?;
    let size = u32::try_from(central.len()).map_err(|_| TooMuch)?;
    archive.append(&mut central);
    put(&mut archive, &[Four(END), Two(0), Two(0), Two(count), Two(count), Four(size), Four(start), Two(0)]);
    Ok(archive)
}

/// What both headers of an entry say alike.
struct Facts {
    crc: u32,
    size: u32,
    name: u16,
}

impl Facts {
    fn of(entry: &Entry) -> Result<Self, TooMuch> {
        Ok(Self {
            crc: crc32(&entry.bytes),
            size: u32::try_from(entry.bytes.len()).map_err(|_| TooMuch)?,
            name: u16::try_from(entry.name.len()).map_err(|_| TooMuch)?,
        })
    }

    /// Flags, method (stored), time, date, checksum, both sizes, lengths of name and extra field.
    fn put(&self, to: &mut Vec<u8>) {
        put(to, &[Two(UTF8), Two(0), Two(0), Two(DATE), Four(self.crc)]);
        put(to, &[Four(self.size), Four(self.size), Two(self.name), Two(0)]);
    }
}

/// A number as an archive writes it: the low byte first.
enum Number {
    Two(u16),
    Four(u32),
}
use Number::{Four, Two};

fn put(to: &mut Vec<u8>, numbers: &[Number]) {
    for number in numbers {
        match number {
            Two(number) => to.extend_from_slice(&number.to_le_bytes()),
            Four(number) => to.extend_from_slice(&number.to_le_bytes()),
        }
    }
}

/// The checksum of ZIP, PNG and Ethernet (polynomial 0xEDB88320, reflected), a bit at a time over a
/// table of sixteen: packages are small.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 16] = [
        0x0000_0000,
        0x1db7_1064,
        0x3b6e_20c8,
        0x26d9_30ac,
        0x76dc_4190,
        0x6b6b_51f4,
        0x4db2_6158,
        0x5005_713c,
        0xedb8_8320,
        0xf00f_9344,
        0xd6d6_a3e8,
        0xcb61_b38c,
        0x9b64_c2b0,
        0x86d3_d2d4,
        0xa00a_e278,
        0xbdbd_f21c,
    ];
    let step = |crc: u32, nibble: u32| {
        let row = usize::try_from((crc ^ nibble) & 15).unwrap_or_default();
        TABLE.get(row).copied().unwrap_or_default() ^ (crc >> 4)
    };
    !bytes.iter().fold(!0, |crc, byte| step(step(crc, u32::from(*byte)), u32::from(*byte) >> 4))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::files::digest;

    fn entry(name: &str, bytes: &str, executable: bool) -> Entry {
        Entry { name: name.to_owned(), executable, bytes: bytes.as_bytes().to_vec() }
    }

    #[test]
    fn the_checksum_is_the_one_of_zip() {
        for (text, wanted) in [("", 0), ("123456789", 0xcbf4_3926), ("a", 0xe8b7_be43)] {
            assert_eq!(crc32(text.as_bytes()), wanted, "{text}");
        }
    }

    #[test]
    fn the_same_files_are_the_same_bytes_in_whatever_order() {
        let (a, b) = (entry("a.py", "one", false), entry("bin/run", "two", true));
        let archive = write(vec![a.clone(), b.clone()]).expect("small");
        assert_eq!(archive, write(vec![b.clone(), a.clone()]).expect("small"));
        // A release of flow that writes other bytes would deploy every function anew.
        assert_eq!(archive.len(), 232);
        assert_eq!(&digest(&archive)[..16], &digest(&write(vec![a, b]).expect("small"))[..16]);
        assert_eq!(&archive[..4], b"PK\x03\x04");
    }

    #[test]
    fn other_programs_can_read_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.zip");
        let files = vec![entry("lib/grün.py", "x = 1\n", false), entry("run", "#!/bin/sh\n", true)];
        std::fs::write(&path, write(files).expect("small")).expect("written");
        let script = "import sys, zipfile\nz = zipfile.ZipFile(sys.argv[1])\nassert z.testzip() is None\nprint([(i.filename, oct(i.external_attr >> 16), i.date_time[:3]) for i in z.infolist()])";
        let Ok(said) = std::process::Command::new("python3").args(["-c", script]).arg(&path).output() else {
            eprintln!("skipped: needs python3");
            return;
        };
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        assert_eq!(
            String::from_utf8_lossy(&said.stdout).trim(),
            "[('lib/grün.py', '0o100644', (1980, 1, 1)), ('run', '0o100755', (1980, 1, 1))]"
        );
    }
}
