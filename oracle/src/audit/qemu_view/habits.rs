//! What qemu counts, and what it passes over.

use super::super::corruption::{Corruption, Wrong};
use super::super::header::Header;
use crate::disk::SECTOR;

/// Past it qemu reads nothing, not even zeros: 2^63 less its largest alignment.
const POSITION_MAX: u64 = (1 << 63) - (1 << 30);

/// The length of a file in bytes: qemu rounds it up to sectors.
pub fn length(bytes: u64) -> u64 {
    bytes.checked_next_multiple_of(SECTOR).unwrap_or(bytes)
}

/// Whether qemu can read so many bytes there: past the end of the file they are zeros, but there
/// is a last position.
pub fn can_be_read(offset: u64, bytes: u64) -> bool {
    let end = offset.checked_add(bytes);
    end.is_some_and(|end| end <= POSITION_MAX)
}

/// Whether a stretch of bytes that ends at `end` is counted: none is that ends a cluster or more
/// past the end of the file.
pub fn is_counted(end: u128, length: u64, cluster_size: u64) -> bool {
    end < u128::from(length) + u128::from(cluster_size)
}

/// Whether the COPIED bits of an L1 entry, and of the table that it leads to, are looked at: not
/// where it has bits but no offset.
pub const fn is_looked_behind(offset: u64) -> bool {
    offset != 0
}

/// Whether a refblock with so many references is seen to be shared: they are counted as far as the
/// width goes, so with 1-bit refcounts it is not.
pub fn is_seen_shared(references: u64, header: &Header) -> bool {
    references.min(header.max_refcount()) != 1
}

/// Whether the structures are built anew for the sake of this: not for what leads past the end.
pub const fn is_rebuilt_for(corruption: &Corruption) -> bool {
    corruption.referrer.is_structure()
        && !matches!(
            corruption.wrong,
            Wrong::PastTheEnd { .. } | Wrong::TooManyReferences(_)
        )
}

/// The disk's size as qemu sees it: whole sectors, the rest cut off.
pub const fn virtual_size(header: &Header) -> u64 {
    header.virtual_size / SECTOR * SECTOR
}
