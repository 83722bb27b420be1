//! Any bytes as a qcow2 file: check, repair, check again.
//!
//! An image is read in whole sectors, so the odd bytes after the last whole one can choose how it
//! is repaired: their number, modulo the number of [`WAYS`]. A file of whole sectors is repaired as
//! `recount check -r all` does.

use super::rebuild::holds;
use super::{Broken, Use, cuts_of};
use crate::audit::Unreadable;
use crate::case::Algorithm;
use crate::case::damage::SparseBytes;
use crate::disk::{SECTOR, SimulatedDisk};
use crate::properties::reading::Kind;
use crate::properties::{agrees, judge_all, unread};
use crate::run::{Before, run};
use crate::subject::{Options, Subject};

/// Bytes that a repair reads, beyond which an image costs a fuzzer more than it shows.
const COSTLY: u64 = 512 << 10;
/// The same for the bytes of the image itself, unless its clusters are so large that this is no more
/// than [`CLUSTERS_MIN`] of them.
const LONG: usize = 24 << 10;
/// Clusters of an image that has one of everything: header, L1 and L2 table, reftable, refblock,
/// data, and one to spare.
const CLUSTERS_MIN: usize = 7;
/// Longest input, in bytes: what is longer shows nothing that a shorter one does not.
pub const INPUT_MAX: usize = 1 << 20;

/// How an image is repaired.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// Whether the storage can grow.
    pub grows: bool,
    /// Who rebuilds.
    pub algorithm: Algorithm,
    /// What else the program is told.
    also: fn(&mut Options),
}

/// The ways in which images are repaired.
pub const WAYS: [Way; 8] = [
    way(true, Algorithm::Planned, |_| ()),
    way(false, Algorithm::Planned, |_| ()),
    way(true, Algorithm::FirstFit, |_| ()),
    way(true, Algorithm::Tail, |_| ()),
    way(true, Algorithm::Planned, |to| to.only_leaks = true),
    way(false, Algorithm::Planned, |to| to.reuse_old = true),
    way(true, Algorithm::Planned, |to| to.release_unreachable = true),
    way(false, Algorithm::FirstFit, |_| ()),
];

const fn way(grows: bool, algorithm: Algorithm, also: fn(&mut Options)) -> Way {
    Way {
        grows,
        algorithm,
        also,
    }
}

impl Way {
    /// The way that an input asks for.
    pub const fn of(input: &[u8]) -> Self {
        WAYS[input.len() % SECTOR as usize % WAYS.len()]
    }

    /// What the program is told.
    pub fn options(&self) -> Options {
        let mut options = Options::by(self.algorithm);
        (self.also)(&mut options);
        options
    }
}

/// Runs and judges one input.
pub fn judge(subject: &dyn Subject, input: &[u8]) -> Result<Use, Broken> {
    if input.len() > INPUT_MAX {
        return Ok(Use::Refused);
    }
    let way = Way::of(input);
    // What cannot grow is a device, which has whole sectors.
    let odd = if way.grows {
        0
    } else {
        input.len() % SECTOR as usize
    };
    let cuts = cuts_of(input);
    let input = &input[..input.len() - odd];
    let repair = subject.images(way.options());
    let bytes = sparse(input);
    // By its type a check cannot write; the bytes are compared all the same.
    let disk = SimulatedDisk::new(bytes.clone(), None);
    let checked = repair.check(&disk);
    if *disk.live() != bytes {
        let message = "a read-only check changed the image";
        return Err(Broken::new("check-writes-nothing", message));
    }
    let capacity = (!way.grows).then_some(input.len() as u64);
    let before = Before::new(bytes.clone(), capacity, Kind::Image);
    let audit = before
        .as_ref()
        .ok()
        .and_then(|before| before.reading.audit());
    let is_too_much = matches!(before, Err(Unreadable::Io(_) | Unreadable::TooMuchWork));
    if let Some(checked) = checked.filter(|_| !is_too_much) {
        agrees("before the repair", &checked, audit)
            .map_err(|failure| Broken::new("agrees-with-the-audit", failure.message))?;
    }
    let Ok(before) = before else {
        unread::judge(bytes, capacity, &*repair)?;
        return Ok(if is_too_much {
            Use::TooMuchWork
        } else {
            Use::Judged
        });
    };
    let run = run(&*repair, &before, &[]);
    for (property, verdict) in judge_all(&before, &run, &*repair, cuts) {
        holds(way.algorithm, &before, property, verdict)?;
    }
    Ok(if run.asked.bytes_read > COSTLY || is_long(input) {
        Use::Costly
    } else {
        Use::Judged
    })
}

/// Whether an image that was opened is longer than one has to be to show something.
fn is_long(image: &[u8]) -> bool {
    let cluster_bits = image.get(20..24).map_or(0, |field| field[3]);
    image.len() > LONG && image.len() > CLUSTERS_MIN << cluster_bits
}

/// The input on a disk that costs only what is in it.
fn sparse(input: &[u8]) -> SparseBytes {
    let mut bytes = SparseBytes::default();
    bytes.put(0, input);
    bytes
}
