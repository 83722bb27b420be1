//! L2 tables that nothing refers to any more, as an L1 table leaves them whose entries were lost.

use std::collections::BTreeMap;

use super::RepairError;
use super::make::Draft;
use crate::finding::Finding;
use crate::format::entry::L2Kind;
use crate::references::{DeadEnds, l2_runs, looks_like_l2_table};
use crate::table::{Run, width};
use crate::units::{Cluster, ClusterCount, Offset, RefblockIndex, Region};

/// Bytes that are read at most to look for lost tables. Beyond, what leaked is kept.
const READ_MAX: u64 = 1 << 30;
/// Once so many were found, no more are looked for.
const FOUND_MAX: u64 = 8;
/// Bytes that show of most clusters that they are no table.
const SAMPLE: usize = 512;

/// Looks through the leaked clusters.
pub(super) fn look_for(
    draft: &Draft<'_>,
    leaked: &mut dyn Iterator<Item = Cluster>,
    damage: &mut DeadEnds,
) -> Result<(), RepairError> {
    let geometry = draft.image.geometry();
    let mut buffer = vec![0; geometry.cluster_size() as usize];
    let (mut read, mut seen) = (0_u64, 0_u64);
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
        let clusters = leads_to(draft, cluster, &buffer)?;
        if clusters > 0 && !is_new_reftable(draft, cluster, &buffer)? {
            let table = offset;
            damage.push(Finding::LostTable { table, clusters });
        }
    }
    if read > READ_MAX {
        damage.push(Finding::LostTablesNotSought { clusters: seen });
    }
    Ok(())
}

/// To how many other leaked clusters an L2 table leads.
fn leads_to(draft: &Draft<'_>, table: Cluster, bytes: &[u8]) -> Result<u64, RepairError> {
    let geometry = draft.image.geometry();
    let mut found = 0;
    for run in l2_runs(draft.image.format(), bytes) {
        let offset = match run.entry.kind(draft.image.format()) {
            L2Kind::Normal(offset)
            | L2Kind::PreallocatedZero(offset)
            | L2Kind::Compressed(Region { offset, .. }) => offset,
            L2Kind::PlainZero | L2Kind::Unallocated => continue,
        };
        let clusters = Run::new(geometry.cluster_of(offset), ClusterCount(run.count));
        for cluster in clusters.iter() {
            found += u64::from(cluster != table && draft.is_leaked(cluster)?);
        }
    }
    Ok(found)
}

/// Whether a cluster is the first of a reftable that a repair wrote and did not come to switch to:
/// every entry leads to a refblock that counts what is referred to, the reftable and itself, and
/// nothing twice beside. The refblocks are all there when the reftable is written.
fn is_new_reftable(draft: &Draft<'_>, table: Cluster, bytes: &[u8]) -> Result<bool, RepairError> {
    let geometry = draft.image.geometry();
    let mut refblocks = BTreeMap::new();
    for (number, entry) in (0..).zip(bytes.as_chunks::<8>().0) {
        let offset = Offset(u64::from_be_bytes(*entry));
        let covers = geometry.first_covered(RefblockIndex(number));
        let extent = draft.image.extent;
        let is_in_file = offset.0 < extent.bytes && covers.0 < extent.clusters.0;
        if offset != Offset(0) {
            if !geometry.is_aligned(offset) || !is_in_file {
                return Ok(false);
            }
            refblocks.insert(geometry.cluster_of(offset), (offset, covers));
        }
    }
    let is_own = |cluster| cluster == table || refblocks.contains_key(&cluster);
    let mut block = vec![0; bytes.len()];
    for (offset, covers) in refblocks.values() {
        draft.storage.read_at(*offset, &mut block)?;
        let fits = |index: u64| {
            let cluster = covers.saturating_add(ClusterCount(index));
            let refcount = width::get(geometry.order(), &block, index as usize);
            let counted = draft.counts.get(cluster);
            match counted.saturating_sub(draft.going.get(cluster)) {
                references if is_own(cluster) => refcount == 1 && references == 0,
                0 => refcount <= 1,
                references => refcount == references.min(geometry.max_refcount()),
            }
        };
        if width::is_zero(&block) || !(0..geometry.refcounts_per_refblock()).all(fits) {
            return Ok(false);
        }
    }
    Ok(!refblocks.is_empty())
}
