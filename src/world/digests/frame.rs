//! How the index lies on disk: frames of records of one size, each frame with
//! its checksums, all numbers little-endian.
//!
//! ```text
//! frame   magic u64 · records u64 · begun i64 · sum of the records u64 · sum of this header u64
//! record  key u64 · size u64 · modified i64 · changed i64 · inode u64 · device u64
//!         · mode u32 · age u32 · SHA-256
//! ```
//!
//! A frame that the file ends in is one whose writer was killed: what stands
//! before it counts. Anything else that is not as it should be was not written
//! by flow, and then nothing counts.

use super::Sum;
use super::stamp::Stamp;

/// Another number for another layout.
const MAGIC: u64 = 0x0001_7864_6967_6c66;
/// Bytes of a frame's header.
pub(super) const HEADER: usize = 40;
/// Bytes of a record.
pub(super) const RECORD: usize = 88;
/// The fraction of the golden ratio, as multiplicative hashes take it; odd, so that no step loses a bit.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Tells texts apart; nothing that must withstand malice. Any change of one word changes the result.
pub(super) fn mix(seed: u64, bytes: &[u8]) -> u64 {
    let step = |state: u64, word: u64| (state.rotate_left(5) ^ word).wrapping_mul(GOLDEN);
    let (words, rest) = bytes.as_chunks::<8>();
    let state = words.iter().fold(seed, |state, word| step(state, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    let state = step(step(state, u64::from_le_bytes(last)), bytes.len() as u64);
    state ^ (state >> 29)
}

/// What is known of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub key: u64,
    pub stamp: Stamp,
    /// How many times the index was rewritten since it was last of use.
    pub age: u32,
    pub sum: Sum,
}

impl Record {
    pub(super) fn write(&self, to: &mut Vec<u8>) {
        let Stamp { size, modified, changed, inode, device, mode } = self.stamp;
        to.extend_from_slice(&self.key.to_le_bytes());
        to.extend_from_slice(&size.to_le_bytes());
        to.extend_from_slice(&modified.to_le_bytes());
        to.extend_from_slice(&changed.to_le_bytes());
        to.extend_from_slice(&inode.to_le_bytes());
        to.extend_from_slice(&device.to_le_bytes());
        to.extend_from_slice(&mode.to_le_bytes());
        to.extend_from_slice(&self.age.to_le_bytes());
        to.extend_from_slice(&self.sum.0);
    }

    /// The record at the start of these bytes.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; RECORD] = bytes.first_chunk()?;
        let word = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let half = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let stamp = Stamp {
            size: word(8)?,
            modified: word(16)?.cast_signed(),
            changed: word(24)?.cast_signed(),
            inode: word(32)?,
            device: word(40)?,
            mode: half(48)?,
        };
        Some(Self { key: word(0)?, stamp, age: half(52)?, sum: Sum(*bytes.last_chunk()?) })
    }
}

/// A frame of records. `begun`: no later than when the first of their files was opened, by the clock
/// of the file system.
pub(super) fn frame(records: &[Record], begun: i64) -> Vec<u8> {
    let mut body = Vec::with_capacity(records.len() * RECORD);
    records.iter().for_each(|record| record.write(&mut body));
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    for word in [MAGIC, records.len() as u64, begun.cast_unsigned(), mix(MAGIC, &body)] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.extend_from_slice(&mix(MAGIC, &bytes).to_le_bytes());
    bytes.append(&mut body);
    bytes
}

/// What lies in a file of frames.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Frames {
    /// Where each frame's records start, and how many there are.
    pub parts: Vec<(usize, usize)>,
    /// Where the last whole frame ends.
    pub end: usize,
    /// The latest `begun`.
    pub begun: i64,
}

impl Frames {
    /// How many records there are.
    pub(super) fn records(&self) -> usize {
        self.parts.iter().map(|(_, count)| count).sum()
    }
}

/// Something that flow did not write.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// Finds the frames from an offset on.
pub(super) fn parse(bytes: &[u8], from: usize) -> Result<Frames, Broken> {
    let mut found = Frames { end: from, begun: i64::MIN, ..Frames::default() };
    while let Some(header) = bytes.get(found.end..).and_then(|rest| rest.first_chunk::<HEADER>()) {
        let (words, _) = header.as_chunks::<8>();
        let [magic, count, begun, sum, own] = words else { return Err(Broken) };
        let [magic, count, begun, sum, own] =
            [magic, count, begun, sum, own].map(|word| u64::from_le_bytes(*word));
        let (head, _) = header.split_at(HEADER - 8);
        if magic != MAGIC || own != mix(MAGIC, head) {
            return Err(Broken);
        }
        let start = found.end + HEADER;
        let count = usize::try_from(count).map_err(|_| Broken)?;
        let length = count.checked_mul(RECORD).ok_or(Broken)?;
        let Some(body) = bytes.get(start..).and_then(|rest| rest.get(..length)) else { break };
        if sum != mix(MAGIC, body) {
            return Err(Broken);
        }
        found.parts.push((start, count));
        found.end = start + length;
        found.begun = found.begun.max(begun.cast_signed());
    }
    Ok(found)
}
