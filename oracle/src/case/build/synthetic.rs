//! From a synthetic image's value to its bytes.

use std::collections::BTreeMap;

use super::allocator::Allocator;
use super::extras::{self, Place};
use super::geometry::Sizes;
use super::guest::{self, COPIED, Guest};
use super::header::{self, Pointers};
use super::{Counts, Layout, Piece, refcounts};
use crate::case::impossible::Impossible;
use crate::case::synthetic::{Structures, Synthetic};

/// Decides where everything goes: guest tables and data, extras, refcount structures, header.
pub(super) fn lay_out(image: &Synthetic) -> Result<Layout, Impossible> {
    let sizes = Sizes::of(image);
    let mut allocator = Allocator::new(
        &image.allocation,
        sizes.refblock_entries,
        sizes.last_cluster,
    );
    let mut pieces = Vec::new();
    let guest = guest::lay_out(image, &sizes, &mut allocator, &mut pieces)?;
    let mut counts = count(&guest, &sizes);
    let mut pointers = Pointers {
        l1_offset: sizes.offset(guest.layers[0].l1_cluster),
        l1_entries: guest.l1_entries,
        ..Pointers::default()
    };
    let mut place = Place {
        sizes: &sizes,
        allocator: &mut allocator,
        counts: &mut counts,
        pieces: &mut pieces,
    };
    extras::lay_out(image, &guest, &mut place, &mut pointers)?;
    if let Structures::Correct {
        spare_reftable_clusters: spare,
    } = image.structures
    {
        let placed = refcounts::place(&sizes, u64::from(spare), &mut allocator, &mut counts)?;
        refcounts::write(&sizes, &placed, &counts, &mut pieces);
        pointers.reftable_offset = sizes.offset(placed.reftable);
        pointers.reftable_clusters = placed.reftable_clusters;
    }
    refuse_overflow(&counts, sizes.max_refcount)?;
    write_tables(&guest, &sizes, &counts, &mut pieces);
    pieces.push(Piece {
        offset: 0,
        bytes: header::bytes(image, &sizes, &pointers)?,
    });
    let last = allocator.used().last().copied().unwrap_or(0);
    let clusters = last + 1 + u64::from(image.free_tail);
    Ok(Layout {
        pieces,
        cluster_size: sizes.cluster,
        length: sizes.offset(clusters),
    })
}

/// One reference for each time that a walk from the header comes by.
fn count(guest: &Guest, sizes: &Sizes) -> Counts {
    let mut counts = BTreeMap::from([(0, 1)]);
    let mut refer = |cluster| *counts.entry(cluster).or_default() += 1;
    for layer in &guest.layers {
        let l1_clusters = sizes.clusters(guest.l1_entries * 8);
        (layer.l1_cluster..layer.l1_cluster + l1_clusters).for_each(&mut refer);
        for &table in layer.tables.values() {
            let table = &guest.tables[table];
            refer(table.cluster);
            for entry in table.entries.values() {
                entry.clusters.clone().for_each(&mut refer);
            }
        }
    }
    counts
}

fn refuse_overflow(counts: &Counts, max: u64) -> Result<(), Impossible> {
    match counts.iter().find(|&(_, &references)| references > max) {
        Some((&cluster, &references)) => Err(Impossible::TooManyReferences {
            cluster,
            references,
            max,
        }),
        None => Ok(()),
    }
}

/// L1 and L2 tables, bit 63 set where the refcount is one. In snapshots' L1 tables it means
/// nothing and stays clear (specification, "L1 table entry").
fn write_tables(guest: &Guest, sizes: &Sizes, counts: &Counts, pieces: &mut Vec<Piece>) {
    let copied = |cluster| {
        if counts.get(&cluster) == Some(&1) {
            COPIED
        } else {
            0
        }
    };
    for (number, layer) in guest.layers.iter().enumerate() {
        let mut bytes = Vec::new();
        for (&index, &table) in &layer.tables {
            let cluster = guest.tables[table].cluster;
            let flag = if number == 0 { copied(cluster) } else { 0 };
            put(&mut bytes, index * 8, sizes.offset(cluster) | flag);
        }
        let offset = sizes.offset(layer.l1_cluster);
        if !bytes.is_empty() {
            pieces.push(Piece { offset, bytes });
        }
    }
    for table in &guest.tables {
        let mut bytes = Vec::new();
        for (&index, entry) in &table.entries {
            let counted = entry.is_standard() && !entry.clusters.is_empty();
            let flag = if counted {
                copied(entry.clusters.start)
            } else {
                0
            };
            put(&mut bytes, index * sizes.l2_entry, entry.word | flag);
            if sizes.l2_entry == 16 {
                put(&mut bytes, index * sizes.l2_entry + 8, entry.bitmap);
            }
        }
        let offset = sizes.offset(table.cluster);
        pieces.push(Piece { offset, bytes });
    }
}

/// A big-endian number at a byte position; zeros before it.
fn put(bytes: &mut Vec<u8>, at: u64, value: u64) {
    let at = at as usize;
    if bytes.len() < at + 8 {
        bytes.resize(at + 8, 0);
    }
    bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
}
