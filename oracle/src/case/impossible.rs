//! Why a case cannot be: it is refused, never silently changed.

/// What makes a case impossible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    /// A field is outside its range.
    #[error("{field} is {value}; it must be {least} to {most}")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// What it is.
        value: u64,
        /// The least it may be.
        least: u64,
        /// The most it may be.
        most: u64,
    },
    /// Something that version 2 of the format does not have.
    #[error("{what} needs version 3 of the format; this image has version 2")]
    NeedsVersion3 {
        /// What needs it.
        what: &'static str,
    },
    /// Something that belongs to extended L2 entries.
    #[error("subclusters need extended_l2 = true, and not both bits for one subcluster")]
    Subclusters,
    /// The header, its extensions and the backing file's name do not fit into cluster 0.
    #[error("the header takes {needed} bytes; a cluster of this image has {cluster_size}")]
    HeaderTooLong {
        /// Bytes of the header and everything after it.
        needed: u64,
        /// Bytes of a cluster.
        cluster_size: u64,
    },
    /// There are more things to place than the allocation has clusters for.
    #[error(
        "the allocation has no {wanted} free clusters in a row left after {placed} that are in \
         use: name more clusters or fewer references"
    )]
    NoRoom {
        /// Clusters in a row that are needed.
        wanted: u64,
        /// Clusters that are in use already.
        placed: u64,
    },
    /// Too far into the file for an offset field.
    #[error("cluster {cluster} lies past the last one that an offset can name, {last}")]
    TooFar {
        /// The cluster.
        cluster: u64,
        /// The last possible one.
        last: u64,
    },
    /// More references than a refcount of this width can count.
    #[error("cluster {cluster} has {references} references; a refcount here counts to {max}")]
    TooManyReferences {
        /// The cluster.
        cluster: u64,
        /// Its references.
        references: u64,
        /// What the width holds.
        max: u64,
    },
    /// A correct reftable would be larger than any that qemu opens.
    #[error("the reftable would take {bytes} bytes; at most {max} can be opened")]
    ReftableTooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// A bitmap with more clusters than its table has entries.
    #[error("bitmap {bitmap} names {named} table entries; its table has {entries}")]
    BitmapTooSmall {
        /// Which bitmap, from 0.
        bitmap: usize,
        /// Entries that are named.
        named: u64,
        /// Entries of its table.
        entries: u64,
    },
    /// A toy whose tables are not whole bytes.
    #[error(
        "a refblock of 2^{refblock_bits} refcounts of 2^{refcount_order} bits is less than a byte"
    )]
    RefblockUnderOneByte {
        /// Binary logarithm of B.
        refblock_bits: u32,
        /// Binary logarithm of the width.
        refcount_order: u32,
    },
    /// A toy without its header.
    #[error("cluster 0 holds the header; it must have at least one reference")]
    NoHeader,
    /// An old structure where there are references, or outside, or twice.
    #[error("old structure cluster {cluster} {why}")]
    OldStructure {
        /// The cluster.
        cluster: u32,
        /// What is wrong with it.
        why: &'static str,
    },
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
    if value < least || value > most {
        return Err(Impossible::OutOfRange {
            field,
            value,
            least,
            most,
        });
    }
    Ok(())
}
