//! Runs of compressed clusters. Their sizes are as good as random, and with them whether the next
//! one begins in the same host cluster and whether it ends there: no branch depends on that, since
//! half of them would be guessed wrong.

use super::scan::{Scanner, Unusual};
use crate::format::entry::{COMPRESSED, COPIED, SECTOR_BITS, compressed_sectors};
use crate::table::Collected;

/// Entries that are looked at in one go.
const BLOCK: usize = 64;

/// Room to work in, for as long as tables are scanned.
#[derive(Clone, Debug)]
pub struct Scratch {
    /// The first host cluster of each entry.
    first: [u64; BLOCK],
    /// And the last.
    last: [u64; BLOCK],
    /// One or two for each entry; as many as a `u8` can say, so that no position lies outside.
    clusters: [u64; 256],
}

impl Scratch {
    pub const fn new() -> Self {
        Self {
            first: [0; BLOCK],
            last: [0; BLOCK],
            clusters: [0; 256],
        }
    }

    /// Collects the host clusters of the compressed entries that `words` begins with, as many as
    /// are looked at in one go; says how many that were.
    pub fn count(
        &mut self,
        scanner: &Scanner,
        words: &[[u8; 8]],
        collected: &mut Collected,
    ) -> Result<usize, Unusual> {
        let words = &words[..words.len().min(BLOCK)];
        let run = compressed_at_start(words);
        self.locate(scanner, &words[..run])?;
        let mut filled = 0_u8;
        for (first, last) in self.first[..run].iter().zip(&self.last[..run]) {
            self.clusters[usize::from(filled)] = *first;
            // Written over by the next one if it is the same.
            self.clusters[usize::from(filled + 1)] = *last;
            filled += 1 + u8::from(first != last);
        }
        collected.push_each(&self.clusters[..usize::from(filled)]);
        Ok(run)
    }

    /// Finds the host clusters that the entries lead to.
    fn locate(&mut self, scanner: &Scanner, words: &[[u8; 8]]) -> Result<(), Unusual> {
        let bits = scanner.format.geometry.cluster_bits() - SECTOR_BITS;
        let file_sectors = scanner.extent.bytes >> SECTOR_BITS;
        let mut unusual = u64::from(scanner.format.data_file);
        let clusters = self.first.iter_mut().zip(&mut self.last);
        for (word, (first, last)) in words.iter().zip(clusters) {
            let raw = u64::from_be_bytes(*word);
            let (first_sector, last_sector) = compressed_sectors(raw, scanner.format);
            *first = first_sector >> bits;
            *last = last_sector >> bits;
            // The highest bit is set where the last sector is not in the file. More than two host
            // clusters are possible, but nobody writes that.
            unusual |= (raw & COPIED)
                | (!last_sector.wrapping_sub(file_sectors) & COPIED)
                | (last.wrapping_sub(*first) & !1);
        }
        if unusual == 0 { Ok(()) } else { Err(Unusual) }
    }
}

/// How many entries are compressed before the first that is not.
fn compressed_at_start(words: &[[u8; 8]]) -> usize {
    // Nearly always all of them are.
    let all = words
        .iter()
        .fold(u64::MAX, |all, word| all & u64::from_ne_bytes(*word));
    if u64::from_be(all) & COMPRESSED != 0 {
        return words.len();
    }
    let is_compressed = |word: &&[u8; 8]| u64::from_be_bytes(**word) & COMPRESSED != 0;
    words.iter().take_while(is_compressed).count()
}
