//! The bytes of an image that have to be written to make it, in chunks that have a name each.

use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::damage::bytes::PAGE;

use super::labels::{Labels, Part};

/// A run of zeros as long as this is left out.
const GAP: u64 = 16;
/// Content is written in units of so many bytes, where it can be.
const WORD: u64 = 8;
/// So many bytes that repeat are told as such.
const REPEATED: usize = 48;
/// The longest thing that is looked for to repeat, in bytes.
const PERIODS: [usize; 4] = [1, 2, 4, 8];

/// Bytes that are written at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Where.
    pub start: u64,
    /// What they are.
    pub part: Part,
    /// One after the other.
    pub pieces: Vec<Piece>,
}

/// Bytes, or the same bytes several times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// As they are.
    Plain(Vec<u8>),
    /// So many times.
    Repeated {
        /// How many.
        times: u64,
        /// What is repeated.
        bytes: Vec<u8>,
    },
}

impl Piece {
    /// Whether all its bytes are zeros.
    pub fn is_zeros(&self) -> bool {
        let (Self::Plain(bytes) | Self::Repeated { bytes, .. }) = self;
        bytes.iter().all(|&byte| byte == 0)
    }
}

impl Chunk {
    /// Bytes that it writes.
    pub fn length(&self) -> u64 {
        let lengths = self.pieces.iter().map(|piece| match piece {
            Piece::Plain(bytes) => bytes.len() as u64,
            Piece::Repeated { times, bytes } => times * bytes.len() as u64,
        });
        lengths.sum()
    }
}

/// What an image holds beside zeros.
pub fn of(image: &SparseBytes, labels: &Labels<'_>) -> Vec<Chunk> {
    changed(&SparseBytes::zeros(image.len()), image, labels)
}

/// What has to be written to turn `before`, cut or grown to the length of `after`, into that.
pub fn changed(before: &SparseBytes, after: &SparseBytes, labels: &Labels<'_>) -> Vec<Chunk> {
    let mut found: Vec<Part> = Vec::new();
    let mut at = 0;
    while let Some(next) = next_difference(before, after, at) {
        let whole = labels.part(next);
        let end = whole.end.clamp(next + 1, after.len().max(next + 1));
        let part = if whole.is_field() {
            Part { end, ..whole }
        } else {
            // Whole words: what differs by chance need not differ in all its bytes.
            let start = (next / WORD * WORD).max(whole.start).max(at);
            let last = last_difference(before, after, next, end);
            let end = last.next_multiple_of(WORD).min(end);
            Part {
                start,
                end,
                ..whole
            }
        };
        at = part.end;
        if !found.last_mut().is_some_and(|last| last.join(&part)) {
            found.push(part);
        }
    }
    let chunk = |part: Part| Chunk {
        start: part.start,
        pieces: pieces(&after.bytes(part.start, (part.end - part.start) as usize)),
        part,
    };
    found.into_iter().map(chunk).collect()
}

/// The first byte from `at` on that differs, inside of `after`.
fn next_difference(before: &SparseBytes, after: &SparseBytes, mut at: u64) -> Option<u64> {
    loop {
        let data = [before, after].map(|image| image.next_data(at));
        at = data.into_iter().flatten().min()?;
        if at >= after.len() {
            return None;
        }
        let length = ((after.len() - at) as usize).min(PAGE - at as usize % PAGE);
        let (one, other) = (before.bytes(at, length), after.bytes(at, length));
        match one.iter().zip(&other).position(|(one, other)| one != other) {
            Some(inside) => return Some(at + inside as u64),
            None => at += length as u64,
        }
    }
}

/// Behind the last byte that differs before `end`, as far as gaps are short.
fn last_difference(before: &SparseBytes, after: &SparseBytes, start: u64, end: u64) -> u64 {
    let (mut last, mut at) = (start + 1, start + 1);
    while at < end && at - last < GAP {
        let length = ((end - at) as usize).min(PAGE);
        let (one, other) = (before.bytes(at, length), after.bytes(at, length));
        for (position, (one, other)) in (at..).zip(one.iter().zip(&other)) {
            if one == other {
                continue;
            }
            if position - last >= GAP {
                return last;
            }
            last = position + 1;
        }
        at += length as u64;
    }
    last
}

/// Bytes with what repeats in them apart.
fn pieces(bytes: &[u8]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let (mut plain, mut at) = (0, 0);
    while at < bytes.len() {
        let Some((period, times)) = repetition(&bytes[at..]) else {
            at += 1;
            continue;
        };
        if plain < at {
            pieces.push(Piece::Plain(bytes[plain..at].to_vec()));
        }
        pieces.push(Piece::Repeated {
            times: times as u64,
            bytes: bytes[at..at + period].to_vec(),
        });
        at += period * times;
        plain = at;
    }
    if plain < bytes.len() {
        pieces.push(Piece::Plain(bytes[plain..].to_vec()));
    }
    pieces
}

/// How long a unit at the start of these bytes is that repeats, and how often it is there.
fn repetition(bytes: &[u8]) -> Option<(usize, usize)> {
    PERIODS.into_iter().find_map(|period| {
        let again = bytes.get(period..)?.iter().zip(bytes);
        let length = period + again.take_while(|(one, other)| one == other).count();
        (length >= REPEATED).then_some((period, length / period))
    })
}
