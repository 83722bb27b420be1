//! L2 tables that nothing refers to any more, as an L1 table leaves them whose entries were lost.

use super::RepairError;
use super::make::Draft;
use crate::check::differences;
use crate::finding::Finding;
use crate::format::entry::L2Kind;
use crate::references::{DeadEnds, l2_runs, looks_like_l2_table};
use crate::table::{RefcountTable, Run};
use crate::units::{Cluster, ClusterCount, Offset, RefblockIndex, Region};

/// Bytes that are read at most to look for lost tables. Beyond, what leaked is kept.
pub const READ_MAX: u64 = 1 << 30;
/// Once so many were found, no more are looked for.
const FOUND_MAX: u64 = 8;
/// Bytes that show of most clusters that they are no table.
pub const SAMPLE: usize = 512;
/// As many clusters that a block counts rightly make it a refblock.
pub(super) const ENOUGH: u64 = 16;

/// Looks through the leaked clusters.
pub(super) fn look_for(
    draft: &Draft<'_>,
    leaked: &mut dyn Iterator<Item = Cluster>,
    damage: &mut DeadEnds,
) -> Result<(), RepairError> {
    let geometry = draft.image.geometry();
    let mut buffer = vec![0; geometry.cluster_size() as usize];
    let (mut read, mut seen, mut counts) = (0_u64, 0_u64, None);
    let mut next_data = draft.storage.next_data(Offset(0));
    if draft.image.header.has_data_file() {
        return Ok(());
    }
    'clusters: for cluster in leaked {
        seen += 1;
        if damage.count >= FOUND_MAX {
            break;
        }
        if read > READ_MAX {
            continue;
        }
        let offset = Offset(cluster.0 << geometry.cluster_bits());
        let end = offset.0.saturating_add(geometry.cluster_size());
        if next_data.is_some_and(|next: Offset| next < offset) {
            next_data = draft.storage.next_data(offset);
        }
        let Some(data) = next_data else { break };
        // A hole, and perhaps many clusters of it.
        if data.0 >= end {
            continue;
        }
        for length in [SAMPLE.min(buffer.len()), buffer.len()] {
            let bytes = &mut buffer[..length];
            draft.storage.read_at(offset, bytes)?;
            read += length as u64;
            if !looks_like_l2_table(&draft.image, bytes) {
                continue 'clusters;
            }
        }
        let counts = match &mut counts {
            Some(counts) => counts,
            none => none.insert(draft.without_structures()?),
        };
        let is_lost = |cluster| draft.is_leaked(cluster);
        let clusters = leads_to(draft, counts, cluster, &buffer, &is_lost)?;
        if clusters > 0 {
            let table = offset;
            damage.push(Finding::LostTable { table, clusters });
        }
    }
    if read > READ_MAX {
        damage.push(Finding::LostTablesNotSought { clusters: seen });
    }
    Ok(())
}

/// To how many other clusters that are lost, as leaked ones are, an L2 table leads, but for refblocks
/// that a disturbed repair wrote and a reftable of it would lead to. None of such a refblock.
pub(super) fn leads_to(
    draft: &Draft<'_>,
    counts: &RefcountTable,
    table: Cluster,
    bytes: &[u8],
    is_lost: &dyn Fn(Cluster) -> Result<bool, RepairError>,
) -> Result<u64, RepairError> {
    let (format, geometry) = (draft.image.format(), draft.image.geometry());
    if are_refcounts(counts, bytes, [table; 2], ENOUGH, |_| true) {
        return Ok(0);
    }
    let mut found = 0;
    for run in l2_runs(format, bytes) {
        let offset = match run.entry.kind(format) {
            L2Kind::Normal(offset)
            | L2Kind::PreallocatedZero(offset)
            | L2Kind::Compressed(Region { offset, .. }) => offset,
            L2Kind::PlainZero | L2Kind::Unallocated => continue,
        };
        let is_bare = run.entry.raw == offset.0 && geometry.is_aligned(offset);
        let clusters = Run::new(geometry.cluster_of(offset), ClusterCount(run.count));
        for (cluster, index) in clusters.iter().zip(run.index..) {
            let position = index * format.entry_bytes() / 8;
            if cluster != table && is_lost(cluster)? {
                let own = [table, cluster];
                let is_new = is_bare && is_new_refblock(draft, counts, own, position)?;
                found += u64::from(!is_new);
            }
        }
    }
    Ok(found)
}

/// Whether the second of these clusters is the refblock to which the entry at this position in the
/// first, a cluster of a reftable, would lead. Refblocks are all there when the reftable is written,
/// which may be there in part.
fn is_new_refblock(
    draft: &Draft<'_>,
    counts: &RefcountTable,
    own: [Cluster; 2],
    position: u64,
) -> Result<bool, RepairError> {
    let geometry = counts.geometry();
    let is_meant = |number: &RefblockIndex| number.0 % (geometry.cluster_size() / 8) == position;
    if !counts.used_refblocks().any(|number| is_meant(&number)) {
        return Ok(false);
    }
    let mut block = vec![0; geometry.cluster_size() as usize];
    let offset = Offset(own[1].0 << geometry.cluster_bits());
    let sample = SAMPLE.min(block.len());
    draft.storage.read_at(offset, &mut block[..sample])?;
    if !may_be_refcounts(counts, &block[..sample], is_meant) {
        return Ok(false);
    }
    draft.storage.read_at(offset, &mut block)?;
    Ok(are_refcounts(counts, &block, own, 1, is_meant))
}

/// Whether a block gives each cluster its references, its own structures one, and others that have none
/// at most one: those of the range where the header is, or of another that is meant and has so many
/// clusters in use.
pub(super) fn are_refcounts(
    counts: &RefcountTable,
    block: &[u8],
    own: [Cluster; 2],
    used: u64,
    is_meant: impl Fn(&RefblockIndex) -> bool,
) -> bool {
    counts.used_refblocks().filter(is_meant).any(|number| {
        let range = Run::covered_by(counts.geometry(), number);
        let (mut differing, mut missing) = (differences(counts, block, range), own.to_vec());
        missing.retain(|at| range.contains(*at));
        (number.0 == 0 || counts.count_ones(range, 1) >= used)
            && differing.all(|one| {
                missing.retain(|at| *at != one.cluster);
                (one.refcount, one.references) == (1, 0)
            })
            && missing.is_empty()
    })
}

/// Whether nothing that a block begins with keeps it from being such a one.
pub(super) fn may_be_refcounts(
    counts: &RefcountTable,
    sample: &[u8],
    is_meant: impl Fn(&RefblockIndex) -> bool,
) -> bool {
    let geometry = counts.geometry();
    let sampled = ClusterCount(sample.len() as u64 * 8 / u64::from(geometry.order().bits()));
    counts.used_refblocks().filter(is_meant).any(|number| {
        let Run { first, count } = Run::covered_by(geometry, number);
        let range = Run::new(first, count.min(sampled));
        differences(counts, sample, range).all(|one| (one.refcount, one.references) == (1, 0))
    })
}
