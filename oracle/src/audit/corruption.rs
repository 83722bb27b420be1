//! What is wrong with an image, and who says so: each is one of qemu-img check's corruptions.

use std::fmt;

use super::references::Referrer;
use super::refusal::Refusal;

/// One corruption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corruption {
    /// Whose entry it is.
    pub referrer: Referrer,
    /// What is wrong with it.
    pub wrong: Wrong,
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.referrer, self.wrong)
    }
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// It leads past the end of the file.
    #[error("leads to {bytes} bytes at offset {offset}, past the end of the file")]
    PastTheEnd {
        /// First byte.
        offset: u64,
        /// How many.
        bytes: u64,
    },
    /// It leads to a place inside a cluster.
    #[error("leads to offset {offset}, which is not the start of a cluster")]
    Unaligned {
        /// The offset.
        offset: u64,
    },
    /// Reserved bits are set.
    #[error("has reserved bits set in {entry:#018x}")]
    Reserved {
        /// The entry.
        entry: u64,
    },
    /// One reference more than the width can count.
    #[error("is one reference too many to cluster {cluster}; refcounts count to {max}")]
    TooManyReferences {
        /// The cluster.
        cluster: u64,
        /// The largest refcount.
        max: u64,
    },
    /// A compressed cluster with bit 63 set.
    #[error("is compressed and says that its refcount is one")]
    CompressedCopied,
    /// A compressed cluster where there can be none.
    #[error("is compressed in an image whose data lies in another file")]
    CompressedExternal,
    /// A compressed cluster with subclusters.
    #[error("is compressed and has subclusters ({bitmap:#018x})")]
    CompressedSubclusters {
        /// The subcluster bitmap.
        bitmap: u64,
    },
    /// A subcluster that is allocated and reads as zeros.
    #[error("has subclusters that are both allocated and zero ({bitmap:#018x})")]
    Subclusters {
        /// The subcluster bitmap.
        bitmap: u64,
    },
    /// Allocated subclusters without a cluster.
    #[error("has allocated subclusters but no cluster ({bitmap:#018x})")]
    SubclustersWithoutCluster {
        /// The subcluster bitmap.
        bitmap: u64,
    },
    /// An L1 table of a snapshot over the limit.
    #[error("has an L1 table of {entries} entries, over the limit")]
    L1TooLarge {
        /// Its entries.
        entries: u64,
    },
    /// A version 3 snapshot without the extra data it must have.
    #[error("is incomplete: {bytes} bytes of extra data instead of 16 or more")]
    ShortExtraData {
        /// What it has.
        bytes: u64,
    },
    /// Snapshots in an image whose data lies in another file.
    #[error("names snapshots in an image whose data lies in another file")]
    SnapshotsOfExternalData,
    /// A refblock that something else refers to as well.
    #[error("leads to cluster {cluster}, to which there are other references")]
    RefblockShared {
        /// The cluster.
        cluster: u64,
    },
    /// A reftable that cannot be where the header says.
    #[error("cannot be at offset {offset}")]
    Unusable {
        /// Where the header says it is.
        offset: u64,
    },
    /// A bitmap table entry that says nonsense.
    #[error("has the malformed bitmap table entry {entry:#018x}")]
    BitmapEntry {
        /// The entry.
        entry: u64,
    },
    /// A table that makes no sense from some entry on.
    #[error("cannot be read: {refusal}")]
    Unreadable {
        /// Why not.
        refusal: Refusal,
    },
    /// Bit 63 says something else than the refcount on disk.
    #[error("says that the refcount of cluster {cluster} is {}one; it is {refcount}", if *.copied { "" } else { "not " })]
    Copied {
        /// The cluster that it leads to.
        cluster: u64,
        /// What bit 63 says.
        copied: bool,
        /// The refcount on disk.
        refcount: u64,
    },
}

impl Corruption {
    /// Whether references are hidden behind it: an entry that leads nowhere, so that clusters may
    /// be in use to which no reference can be found.
    #[must_use]
    pub const fn hides_references(&self) -> bool {
        let nowhere = matches!(
            self.wrong,
            Wrong::PastTheEnd { .. }
                | Wrong::Unaligned { .. }
                | Wrong::Reserved { .. }
                | Wrong::CompressedExternal
                | Wrong::CompressedSubclusters { .. }
                | Wrong::SubclustersWithoutCluster { .. }
                | Wrong::L1TooLarge { .. }
                | Wrong::BitmapEntry { .. }
                | Wrong::Unreadable { .. }
        );
        nowhere && !self.referrer.is_structure()
    }
}
