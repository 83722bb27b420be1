//! Runs of compressed clusters. Their sizes are as good as random, and with them whether the next
//! one begins in the same host cluster and whether it ends there: no branch depends on that, since
//! half of them would be guessed wrong.

use crate::format::entry::{COMPRESSED, COPIED, L2Format, SECTOR_BITS, compressed_sectors};
use crate::image::Extent;
use crate::table::Collected;

/// Entries that are looked at in one go: as many as a `u8` can number with two clusters each.
const BLOCK: usize = 127;

/// Collects the host clusters of the compressed entries that `words` begins with, as many as are
/// looked at in one go; says how many that were, or nothing where one of them is unusual.
pub fn count(
    format: L2Format,
    extent: Extent,
    words: &[[u8; 8]],
    collected: &mut Collected,
) -> Option<usize> {
    let words = &words[..words.len().min(BLOCK)];
    let run = compressed_at_start(words);
    let bits = format.geometry.cluster_bits() - SECTOR_BITS;
    let file_sectors = extent.bytes >> SECTOR_BITS;
    let mut unusual = u64::from(format.data_file);
    // As many as a `u8` can say, so that no position lies outside.
    let mut clusters = [0; 256];
    let mut filled = 0_u8;
    for word in &words[..run] {
        let raw = u64::from_be_bytes(*word);
        let (first_sector, last_sector) = compressed_sectors(raw, format);
        let (first, last) = (first_sector >> bits, last_sector >> bits);
        clusters[usize::from(filled)] = first;
        // Written over by the next one if it is the same.
        clusters[usize::from(filled + 1)] = last;
        filled += 1 + u8::from(first != last);
        // The highest bit is set where the last sector is not in the file. More than two host
        // clusters are possible, but nobody writes that.
        unusual |= (raw & COPIED)
            | (!last_sector.wrapping_sub(file_sectors) & COPIED)
            | (last.wrapping_sub(first) & !1);
    }
    if unusual != 0 {
        return None;
    }
    collected.push_each(&clusters[..usize::from(filled)]);
    Some(run)
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
