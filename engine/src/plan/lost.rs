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
const READ_MAX: u64 = 1 << 30;
/// Once so many were found, no more are looked for.
const FOUND_MAX: u64 = 8;
/// Bytes that show of most clusters that they are no table.
const SAMPLE: usize = 512;
/// As many clusters that a block counts rightly make it a refblock.
const ENOUGH: u64 = 16;

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
        if clusters > 0 && !is_new_structure(draft, cluster, &buffer)? {
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

/// Whether a cluster is part of what a repair wrote and did not come to switch to: a refblock, of
/// the range where the header is or one that counts enough clusters; or the first of a reftable, which
/// leads to such a one first. Its refblocks are all there when it is written.
fn is_new_structure(draft: &Draft<'_>, at: Cluster, bytes: &[u8]) -> Result<bool, RepairError> {
    let geometry = draft.image.geometry();
    let mut counts = draft.counts.clone();
    draft.look.old.uncount(&mut counts)?;
    let counts_enough = |number: &RefblockIndex| {
        number.0 == 0 || counts.count_ones(Run::covered_by(geometry, *number), 1) >= ENOUGH
    };
    let mut ranges = counts.used_refblocks().filter(counts_enough);
    if ranges.any(|number| is_new_refblock(&counts, number, [at; 2], bytes)) {
        return Ok(true);
    }
    let mut block = vec![0; bytes.len()];
    for (number, entry) in (0..).map(RefblockIndex).zip(bytes.as_chunks::<8>().0) {
        let offset = Offset(u64::from_be_bytes(*entry));
        if number.0 > 0 && offset.0 == 0 {
            continue;
        }
        draft.storage.read_at(offset, &mut block)?;
        let is_needed = geometry.first_covered(number).0 < draft.image.extent.clusters.0;
        let own = [at, geometry.cluster_of(offset)];
        let is_right = is_needed && is_new_refblock(&counts, number, own, &block);
        if !is_right || !geometry.is_aligned(offset) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a block gives each cluster its references, its own structures one, and others that have
/// none at most one.
fn is_new_refblock(
    counts: &RefcountTable,
    number: RefblockIndex,
    own: [Cluster; 2],
    block: &[u8],
) -> bool {
    let range = Run::covered_by(counts.geometry(), number);
    let (mut differing, mut missing) = (differences(counts, block, range), own.to_vec());
    missing.retain(|at| range.contains(*at));
    differing.all(|one| {
        missing.retain(|at| *at != one.cluster);
        (one.refcount, one.references) == (1, 0)
    }) && missing.is_empty()
}
