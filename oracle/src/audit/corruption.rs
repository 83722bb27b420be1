//! What is wrong with an image, and who says so: each is one of qemu-img check's corruptions.

use std::fmt;

use super::references::Referrer;

/// One corruption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// It leads to this offset inside a cluster.
    #[error("leads to offset {0}, which is not the start of a cluster")]
    Unaligned(u64),
    /// This entry has reserved bits set.
    #[error("has reserved bits set in {0:#018x}")]
    Reserved(u64),
    /// One reference more to this cluster than the width can count.
    #[error("is one reference too many to cluster {0}")]
    TooManyReferences(u64),
    /// Subclusters that contradict the entry or each other, and their bitmap.
    #[error("has {0} ({1:#018x})")]
    Subclusters(&'static str, u64),
    /// A version 3 snapshot with so many bytes of extra data.
    #[error("is incomplete: {0} bytes of extra data instead of 16 or more")]
    ShortExtraData(u64),
    /// A table that makes no sense: why, and from which offset or number on.
    #[error("cannot be read: {0} ({1})")]
    Unreadable(&'static str, u64),
    /// Something else that cannot be, and its number, offset or entry.
    #[error("{0} ({1:#x})")]
    Impossible(&'static str, u64),
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
