//! What a layout alone shows of properties that the bytes show in full: `counts-every-cluster`,
//! `no-leaks` and `bounded-cost`.

use super::planning::{Complaint, Planning};
use crate::toy::Clusters;

/// `counts-every-cluster`: whatever has a count has a refblock, which has an entry and is written;
/// and no other refblock exists.
pub fn counts_every_cluster(run: &Planning<'_>) -> Result<(), Complaint> {
    let Some(layout) = run.layout() else {
        return Ok(());
    };
    let shape = run.toy.shape;
    let counted = run.toy.used.or(run.places.allocated());
    let entries = layout.reftable.count.0 * u64::from(shape.entries());
    let mut covered = Clusters::NONE;
    let mut least = 0;
    for (refblock, _) in &layout.refblocks {
        let refblock = refblock.0;
        if refblock < least {
            return Err(Complaint::Unordered { refblock });
        }
        if refblock >= entries {
            return Err(Complaint::PastReftable { refblock, entries });
        }
        least = refblock + 1;
        // Within the entries of a toy, so that the shift cannot overflow.
        let first = (refblock as u32) << shape.refblock_bits;
        let range = Clusters::run(first, shape.refcounts());
        // QEMU's algorithms count the old structures, too.
        if range.and(counted.or(run.toy.old)).is_empty() {
            return Err(Complaint::Useless { refblock });
        }
        covered = covered.or(range);
    }
    if let Some(cluster) = counted.without(covered).first() {
        let refblock = cluster >> shape.refblock_bits;
        return Err(Complaint::Uncovered { cluster, refblock });
    }
    let mut written = 0_u128;
    for position in &layout.order {
        written |= 1_u128.checked_shl(*position as u32).unwrap_or(0);
    }
    let unwritten = (0..).zip(&layout.refblocks);
    let mut unwritten = unwritten.filter(|(position, _)| written >> position & 1 == 0);
    match unwritten.next() {
        Some((_, (refblock, _))) => Err(Complaint::NeverWritten {
            refblock: refblock.0,
        }),
        None => Ok(()),
    }
}

/// `no-leaks`: no reftable stays behind that was given up for a larger one.
pub fn no_leaks(run: &Planning<'_>) -> Result<(), Complaint> {
    match run.places.abandoned.first() {
        Some(cluster) => Err(Complaint::Leaks { cluster }),
        None => Ok(()),
    }
}

/// `bounded-cost`: every refblock is written once.
pub fn bounded_cost(run: &Planning<'_>) -> Result<(), Complaint> {
    let Some(layout) = run.layout() else {
        return Ok(());
    };
    let mut written = 0_u128;
    for position in &layout.order {
        let bit = 1_u128.checked_shl(*position as u32).unwrap_or(0);
        if written & bit != 0 {
            let times = layout.order.iter().filter(|other| *other == position);
            return Err(Complaint::WrittenAgain {
                refblock: layout.refblocks[*position].0.0,
                times: times.count(),
            });
        }
        written |= bit;
    }
    Ok(())
}
