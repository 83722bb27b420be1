//! From a synthetic image's value to its bytes.

use std::collections::BTreeMap;

use super::allocator::Allocator;
use super::header::{self, Pointers};
use super::{extras, guest, refcounts};
use crate::audit::COPIED;
use crate::case::damage::SparseBytes;
use crate::case::refcount;
use crate::case::synthetic::{Structures, Synthetic};
use crate::case::validate::{Impossible, refuse_overflow};

/// Last byte position plus one that the offset fields can name (56 bits).
const OFFSET_LIMIT: u64 = 1 << 56;
/// Bytes of the marks at both ends of a data cluster.
const STAMP: usize = 32;

/// The sizes of an image, from the specification: in bytes or entries as named.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) cluster_bits: u32,
    pub(super) cluster: u64,
    pub(super) l2_entry: u64,
    pub(super) l2_entries: u64,
    pub(super) refblock_entries: u64,
    pub(super) max_refcount: u64,
}

impl Sizes {
    const fn of(image: &Synthetic) -> Self {
        let cluster = 1 << image.cluster_bits;
        Self {
            cluster_bits: image.cluster_bits,
            cluster,
            l2_entry: image.l2_entry_size(),
            l2_entries: cluster / image.l2_entry_size(),
            refblock_entries: (cluster * 8) >> image.refcount_order,
            max_refcount: refcount::largest(image.refcount_order),
        }
    }

    /// Clusters that so many bytes take.
    pub(super) const fn clusters(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.cluster)
    }

    /// The first byte of a cluster.
    pub(super) const fn offset(&self, cluster: u64) -> u64 {
        cluster << self.cluster_bits
    }
}

/// An image that is being laid out.
pub(super) struct Builder<'a> {
    pub(super) image: &'a Synthetic,
    pub(super) sizes: Sizes,
    pub(super) allocator: Allocator,
    pub(super) bytes: SparseBytes,
    /// References of each cluster.
    pub(super) counts: BTreeMap<u64, u64>,
}

/// Decides where everything goes: guest tables and data, extras, refcount structures, header.
pub(super) fn lay_out(image: &Synthetic) -> Result<SparseBytes, Impossible> {
    image.validate_fields()?;
    let sizes = Sizes::of(image);
    let last = OFFSET_LIMIT / sizes.cluster - 1;
    let mut builder = Builder {
        image,
        sizes,
        allocator: Allocator::new(&image.allocation, sizes.refblock_entries, last),
        bytes: SparseBytes::default(),
        counts: BTreeMap::from([(0, 1)]),
    };
    let guest = guest::lay_out(&mut builder)?;
    guest.walk(|cluster| builder.refer(cluster));
    let mut pointers = Pointers {
        l1_offset: sizes.offset(guest.layers[0].l1_cluster),
        l1_entries: guest.l1_entries,
        ..Pointers::default()
    };
    extras::lay_out(&mut builder, &guest, &mut pointers)?;
    if let Structures::Correct {
        spare_reftable_clusters: spare,
    } = image.structures
    {
        let (first, clusters) = refcounts::lay_out(&mut builder, spare.into())?;
        pointers.reftable_offset = sizes.offset(first);
        pointers.reftable_clusters = clusters;
    }
    let counts = builder.counts.iter();
    let counts = counts.map(|(&cluster, &count)| (cluster, count));
    refuse_overflow(counts, image.refcount_order)?;
    guest.write_tables(&mut builder);
    builder.bytes.put(0, &header::bytes(image, &pointers)?);
    let last = builder.allocator.used().last().copied().unwrap_or(0);
    let clusters = last + 1 + u64::from(image.free_tail);
    builder.bytes.set_len(sizes.offset(clusters));
    Ok(builder.bytes)
}

impl Builder<'_> {
    /// Counts one more reference to a cluster.
    pub(super) fn refer(&mut self, cluster: u64) {
        *self.counts.entry(cluster).or_default() += 1;
    }

    /// Bit 63 of an entry that leads to a cluster.
    pub(super) fn copied(&self, cluster: u64) -> u64 {
        let once = self.counts.get(&cluster) == Some(&1);
        if once { COPIED } else { 0 }
    }

    /// Marks both ends of a data cluster, so that writing over it or discarding it shows.
    pub(super) fn stamp(&mut self, cluster: u64, kind: &str, label: u64) {
        let offset = self.sizes.offset(cluster);
        let end = offset + self.sizes.cluster - STAMP as u64;
        for (at, place) in [(offset, "begins"), (end, "ends")] {
            let mark = format!("{kind} {label:012x} {place}");
            self.bytes.put(at, format!("{mark:.<STAMP$}").as_bytes());
        }
    }
}
