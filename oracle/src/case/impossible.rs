//! Why a case cannot be: it is refused, never silently changed.

use super::refcount;

/// What makes a case impossible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum Impossible {
    /// A field, or what follows from some, is outside its range.
    #[error("{field} is {value}; it must be {least} to {most}")]
    OutOfRange {
        field: &'static str,
        value: u64,
        least: u64,
        most: u64,
    },
    /// Something that version 2 of the format does not have.
    #[error("{what} needs version 3 of the format; this image has version 2")]
    NeedsVersion3 { what: &'static str },
    /// Something that belongs to extended L2 entries.
    #[error("subclusters need extended_l2 = true, and not both bits for one subcluster")]
    Subclusters,
    /// There are more things to place than the allocation has clusters for.
    #[error(
        "the allocation has no {wanted} free clusters in a row left after {placed} that are in \
         use: name more clusters or fewer references"
    )]
    NoRoom { wanted: u64, placed: u64 },
    /// More references than a refcount of this width can count.
    #[error("cluster {cluster} has {references} references; a refcount here counts to {max}")]
    TooManyReferences {
        cluster: u64,
        references: u64,
        max: u64,
    },
    /// A toy without its header.
    #[error("cluster 0 holds the header; it must have at least one reference")]
    NoHeader,
    /// An old structure where there are references, or outside, or twice.
    #[error("old structure cluster {cluster} {why}")]
    OldStructure { cluster: u32, why: &'static str },
    /// Damage done to a toy, which has nothing but counts.
    #[error("damage needs a real or synthetic image; leave out `old` for a model without reftable")]
    DamagedModel,
}

/// Fails unless `least <= value <= most`.
pub(super) const fn in_range(
    field: &'static str,
    value: u64,
    least: u64,
    most: u64,
) -> Result<(), Impossible> {
    if least <= value && value <= most {
        return Ok(());
    }
    Err(Impossible::OutOfRange {
        field,
        value,
        least,
        most,
    })
}

/// Fails where a cluster has more references than 2^`order` bits can count.
pub(super) fn refuse_overflow(
    mut counts: impl Iterator<Item = (u64, u64)>,
    order: u32,
) -> Result<(), Impossible> {
    let max = refcount::largest(order);
    match counts.find(|&(_, references)| references > max) {
        None => Ok(()),
        Some((cluster, references)) => Err(Impossible::TooManyReferences {
            cluster,
            references,
            max,
        }),
    }
}
