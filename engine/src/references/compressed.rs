//! Runs of compressed clusters. Their sizes are as good as random, and with them whether the next
//! one begins in the same host cluster and whether it ends there: no branch depends on that, since
//! half of them would be guessed wrong.

use super::scan::{Scanner, Unusual};
use crate::format::entry::{COMPRESSED, COPIED, SECTOR_BITS, compressed_sectors};
use crate::table::Piece;

/// Entries that are looked at in one go.
const BLOCK: usize = 64;

/// A piece that counts nothing, and that no cluster continues.
const NOTHING: Piece = Piece {
    first: u64::MAX,
    count: 1,
    times: 0,
};

/// Room to work in, for as long as tables are scanned.
#[derive(Clone, Debug)]
pub struct Scratch {
    /// The first host cluster of each entry.
    first: [u64; BLOCK],
    /// And the last.
    last: [u64; BLOCK],
    /// Two for each entry and one to begin with; as many as a `u8` can say, so that no position
    /// lies outside.
    pieces: [Piece; 256],
}

impl Scratch {
    pub const fn new() -> Self {
        Self {
            first: [0; BLOCK],
            last: [0; BLOCK],
            pieces: [NOTHING; 256],
        }
    }

    /// Appends the host clusters of the compressed entries that `words` begins with, as many as
    /// are looked at in one go; says how many that were.
    pub fn count(
        &mut self,
        scanner: &Scanner,
        words: &[[u8; 8]],
        pieces: &mut Vec<Piece>,
    ) -> Result<usize, Unusual> {
        let words = &words[..words.len().min(BLOCK)];
        let run = compressed_at_start(words);
        self.locate(scanner, &words[..run])?;
        let filled = self.join(run);
        // The first one is the one that says nothing.
        pieces.extend_from_slice(&self.pieces[1..=filled]);
        Ok(run)
    }

    /// Which host clusters the entries lead to.
    fn locate(&mut self, scanner: &Scanner, words: &[[u8; 8]]) -> Result<(), Unusual> {
        let bits = scanner.geometry.cluster_bits() - SECTOR_BITS;
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

    /// Makes pieces of the first `run` entries, one for neighbours in the same cluster; says which
    /// is the last of them.
    fn join(&mut self, run: usize) -> usize {
        let mut filled = 0_u8;
        let (mut cluster, mut times) = (NOTHING.first, NOTHING.times);
        let pieces = &mut self.pieces;
        let mut hold = |filled: u8, cluster, times| {
            let piece = &mut pieces[usize::from(filled)];
            piece.first = cluster;
            piece.times = times;
        };
        for (first, last) in self.first[..run].iter().zip(&self.last[..run]) {
            // What is held stays in its place until another cluster comes.
            hold(filled, cluster, times);
            filled += u8::from(cluster != *first);
            times = 1 + if cluster == *first { times } else { 0 };
            hold(filled, *first, times);
            filled += u8::from(last != first);
            times = if last == first { times } else { 1 };
            cluster = *last;
        }
        hold(filled, cluster, times);
        usize::from(filled)
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
