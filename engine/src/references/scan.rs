//! Counting what L2 tables lead to as long as nothing is unusual: the quick way that nearly all
//! tables of nearly all images go. What is unusual is left to the walker, table by table.

use super::compressed;
use crate::format::entry::{COMPRESSED, COPIED, L2_RESERVED, L2Entry, L2Format, OFFSET_MASK, ZERO};
use crate::image::Extent;
use crate::table::Collected;
use crate::units::{ClusterCount, Offset};

/// What entries of L2 tables add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Clusters that are mapped.
    pub allocated: u64,
    /// Those that do not follow their predecessor.
    pub fragmented: u64,
    /// Those that are compressed.
    pub compressed: u64,
    /// Mapped clusters without the COPIED bit, compressed ones aside.
    pub not_copied: u64,
}

impl Tally {
    /// Adds compressed clusters: each is fragmented by nature (observed).
    pub(super) const fn add_compressed(&mut self, clusters: u64) {
        self.allocated += clusters;
        self.fragmented += clusters;
        self.compressed += clusters;
    }

    /// Adds `times` what another adds up to.
    pub const fn add(&mut self, times: u64, other: &Self) {
        self.allocated += times * other.allocated;
        self.fragmented += times * other.fragmented;
        self.compressed += times * other.compressed;
        self.not_copied += times * other.not_copied;
    }
}

/// Tables that are scanned one after the other.
pub struct Scan {
    format: L2Format,
    extent: Extent,
    /// The clusters that they lead to.
    pub collected: Collected,
    /// Of the last table.
    tally: Tally,
    next_contiguous: Option<u64>,
}

impl Scan {
    pub fn new(format: L2Format, extent: Extent) -> Self {
        Self {
            format,
            extent,
            collected: Collected::new(),
            tally: Tally::default(),
            next_contiguous: None,
        }
    }

    /// Collects the clusters that a table leads to; `None` and none of them where there is something
    /// unusual about it.
    pub fn table(&mut self, table: &[u8]) -> Option<Tally> {
        let words = table.as_chunks::<8>().0;
        (self.tally, self.next_contiguous) = (Tally::default(), None);
        let before = self.collected.mark();
        let scanned = if self.format.extended {
            self.extended(words.as_chunks::<2>().0)
        } else {
            self.standard(words)
        };
        if scanned.is_none() {
            self.collected.rewind(&before);
        }
        scanned.map(|()| self.tally)
    }

    fn standard(&mut self, words: &[[u8; 8]]) -> Option<()> {
        let cluster_size = self.format.geometry.cluster_size();
        let mut rest = words;
        while let Some((word, following)) = rest.split_first() {
            let raw = u64::from_be_bytes(*word);
            rest = following;
            if raw == 0 {
                rest = &rest[zeros(rest)..];
            } else if raw & COMPRESSED != 0 {
                let run = self.compressed(&words[words.len() - rest.len() - 1..])?;
                rest = &rest[run - 1..];
            } else if raw & OFFSET_MASK != 0 {
                let count = 1 + followers(rest, raw, cluster_size);
                rest = &rest[count - 1..];
                self.mapped(raw, count as u64)?;
            } else if raw & !(COPIED | ZERO) != 0 || raw & ZERO == 0 {
                return None;
            }
        }
        Some(())
    }

    fn extended(&mut self, entries: &[[[u8; 8]; 2]]) -> Option<()> {
        for [raw, subclusters] in entries {
            let entry = L2Entry {
                raw: u64::from_be_bytes(*raw),
                subclusters: u64::from_be_bytes(*subclusters),
            };
            if entry.raw == 0 && !entry.has_allocated_subclusters() {
                continue;
            }
            if entry.raw & COMPRESSED != 0 && entry.subclusters == 0 {
                self.compressed(&[*raw])?;
            } else if entry.is_plain(&self.format.geometry) {
                self.mapped(entry.raw, 1)?;
            } else {
                return None;
            }
        }
        Some(())
    }

    /// Clusters side by side.
    fn mapped(&mut self, raw: u64, count: u64) -> Option<()> {
        let geometry = &self.format.geometry;
        let offset = Offset(raw & OFFSET_MASK);
        let first = geometry.cluster_of(offset);
        let data_file = self.format.data_file;
        let end = first.saturating_add(ClusterCount(count));
        let inside = data_file || end.0 <= self.extent.clusters.0;
        let addressable = geometry
            .offset_of(end)
            .is_some_and(|end| end.0 <= OFFSET_MASK);
        if raw & L2_RESERVED != 0 || !geometry.is_aligned(offset) || !inside || !addressable {
            return None;
        }
        self.tally.allocated += count;
        self.tally.not_copied += if raw & COPIED == 0 { count } else { 0 };
        let follows = self.next_contiguous.is_none_or(|next| next == offset.0);
        self.tally.fragmented += u64::from(!follows);
        self.next_contiguous = Some(end.0 << geometry.cluster_bits());
        if !data_file {
            self.collected.push(first.0, count);
        }
        Some(())
    }

    /// Compressed clusters, as many as there are in a row up to some number; says how many.
    fn compressed(&mut self, words: &[[u8; 8]]) -> Option<usize> {
        let run = compressed::count(self.format, self.extent, words, &mut self.collected)?;
        self.tally.add_compressed(run as u64);
        Some(run)
    }
}

/// How many words at the beginning are 0.
pub fn zeros(words: &[[u8; 8]]) -> usize {
    let (blocks, _) = words.as_chunks::<16>();
    let zero = |block: &&[[u8; 8]; 16]| {
        block
            .iter()
            .fold(0, |all, word| all | u64::from_ne_bytes(*word))
            == 0
    };
    let passed = blocks.iter().take_while(zero).count() * 16;
    let rest = words[passed..].iter().take_while(|word| **word == [0; 8]);
    passed + rest.count()
}

/// How many entries at the beginning are that of the predecessor `raw`, one cluster further each.
pub fn followers(words: &[[u8; 8]], raw: u64, cluster_size: u64) -> usize {
    let mut expected = raw.wrapping_add(cluster_size);
    // Where data is scattered, there is none most of the time.
    if words.first().map(|word| u64::from_be_bytes(*word)) != Some(expected) {
        return 0;
    }
    let mut passed = 0;
    for block in words.as_chunks::<16>().0 {
        let mut difference = 0;
        for word in block {
            difference |= u64::from_be_bytes(*word) ^ expected;
            expected = expected.wrapping_add(cluster_size);
        }
        if difference != 0 {
            break;
        }
        passed += 16;
    }
    expected = raw.wrapping_add((passed as u64 + 1).wrapping_mul(cluster_size));
    let mut follows = |word: &&[u8; 8]| {
        let same = u64::from_be_bytes(**word) == expected;
        expected = expected.wrapping_add(cluster_size);
        same
    };
    passed
        + words[passed..]
            .iter()
            .take_while(|word| follows(word))
            .count()
}
