//! The index in memory: the bytes as they were read, and where each key lies in them.

use std::sync::atomic::{AtomicBool, Ordering};

use super::Sum;
use super::frame::{Frames, RECORD, Record};
use super::stamp::Stamp;

/// All frames keep to this, so that an offset fits 32 bits for every index up to 32 GB.
const ALIGN: usize = 8;

/// Finds records by key. Later ones stand for earlier ones of the same key.
#[derive(Debug, Default)]
pub(super) struct Table {
    bytes: Vec<u8>,
    /// Open addressing: the upper half of the key, and the place of its record plus one; 0 is empty.
    slots: Vec<u64>,
    used: Vec<AtomicBool>,
}

impl Table {
    /// Of the frames that were found in these bytes.
    pub(super) fn new(bytes: Vec<u8>, frames: &Frames) -> Self {
        let size = (frames.records() * 2).next_power_of_two();
        let mut table = Self { bytes, slots: vec![0; size], used: Vec::new() };
        table.used.resize_with(size, AtomicBool::default);
        for (start, count) in &frames.parts {
            for place in (0..*count).map(|number| start + number * RECORD) {
                table.insert(place);
            }
        }
        table
    }

    fn insert(&mut self, place: usize) {
        let (Some(key), Ok(short)) = (self.key(place), u32::try_from(place / ALIGN + 1)) else { return };
        let at = self.probe(key);
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = (key & UPPER) | u64::from(short);
        }
    }

    /// The slot that a key has, or would get.
    fn probe(&self, key: u64) -> usize {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = usize::try_from(key & LOWER).unwrap_or_default() & mask;
        // Half of the slots are empty.
        while let Some(slot) = self.slots.get(at).filter(|slot| **slot != 0) {
            if slot & UPPER == key & UPPER && self.key(place(*slot)) == Some(key) {
                break;
            }
            at = (at + 1) & mask;
        }
        at
    }

    fn key(&self, place: usize) -> Option<u64> {
        Some(u64::from_le_bytes(*self.bytes.get(place..)?.first_chunk()?))
    }

    /// The digest of a file whose stamp is exactly this.
    pub(super) fn find(&self, key: u64, stamp: &Stamp) -> Option<Sum> {
        let at = self.probe(key);
        let slot = self.slots.get(at).filter(|slot| **slot != 0)?;
        let record = Record::read(self.bytes.get(place(*slot)..)?)?;
        if record.key != key || record.stamp != *stamp {
            return None;
        }
        self.used.get(at)?.store(true, Ordering::Relaxed);
        Some(record.sum)
    }

    /// Every record, and whether it was of use.
    pub(super) fn records(&self) -> impl Iterator<Item = (Record, bool)> {
        self.slots.iter().zip(&self.used).filter(|(slot, _)| **slot != 0).filter_map(|(slot, used)| {
            let record = Record::read(self.bytes.get(place(*slot)..)?)?;
            Some((record, used.load(Ordering::Relaxed)))
        })
    }
}

const LOWER: u64 = 0xffff_ffff;
const UPPER: u64 = !LOWER;

fn place(slot: u64) -> usize {
    usize::try_from((slot & LOWER).saturating_sub(1)).unwrap_or(usize::MAX / ALIGN) * ALIGN
}
