//! Whether there is room for new refcount structures, by trying: every length of reftable in every
//! run of free clusters, and for each as many refblocks as its ranges need. Written without a look
//! at any planner.

use std::collections::BTreeSet;
use std::fmt;

use recount_oracle::audit::{Audit, Referrer};

/// Reftables longer than this are not tried, in clusters.
const LONGEST: u64 = 8;

/// Where a reftable fits, with the refblocks that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The reftable's first cluster.
    pub first: u64,
    pub length: u64,
    pub refblocks: u64,
    /// Clusters of the device.
    pub clusters: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a reftable of {} clusters at cluster {}, and {} refblocks",
            self.length, self.first, self.refblocks
        )
    }
}

/// The first place found on a device of `clusters` clusters.
pub fn find(audit: &Audit, clusters: u64) -> Option<Place> {
    let size = audit.header.cluster_size();
    let covered = audit.header.refblock_entries();
    let mut used = BTreeSet::new();
    // Also of a reftable that reaches past the end, and is not counted: what is there of it is needed
    // until there is another.
    let reftable = audit.header.reftable_offset / size;
    let end = reftable.saturating_add(audit.header.reftable_clusters);
    let mut taken: BTreeSet<u64> = (reftable..end.min(clusters)).collect();
    for (&cluster, by) in &audit.references {
        taken.insert(cluster);
        if !by.iter().all(Referrer::is_structure) {
            used.insert(cluster);
        }
    }
    // What lies past the end of the device is counted by no repair of it.
    used.retain(|&cluster| cluster < clusters);
    let last = used.last().copied().unwrap_or(0);
    for length in 1..=LONGEST {
        let reach = (length * size / 8).saturating_mul(covered);
        for first in 0..clusters.saturating_sub(length - 1) {
            let table = first..first + length;
            let is_free = table.clone().all(|cluster| !taken.contains(&cluster));
            if !is_free || last.max(table.end - 1) >= reach {
                continue;
            }
            let free = |cluster: &u64| !taken.contains(cluster) && !table.contains(cluster);
            if let Some(refblocks) = refblocks(&used, &table, covered, clusters.min(reach), free) {
                return Some(Place {
                    first,
                    length,
                    refblocks,
                    clusters,
                });
            }
        }
    }
    None
}

/// How many refblocks there are, when they fit: one for each range in use, and for each range that is
/// opened to put them.
fn refblocks(
    used: &BTreeSet<u64>,
    table: &std::ops::Range<u64>,
    covered: u64,
    clusters: u64,
    free: impl Fn(&u64) -> bool,
) -> Option<u64> {
    let in_use = used.iter().copied().chain(table.clone());
    let mut ranges: BTreeSet<u64> = in_use.map(|cluster| cluster / covered).collect();
    let free_in = |range: u64| {
        let all = range * covered..((range + 1) * covered).min(clusters);
        all.filter(|cluster| free(cluster)).count() as u64
    };
    let mut room: u64 = ranges.iter().map(|range| free_in(*range)).sum();
    let unused = (0..clusters.div_ceil(covered)).filter(|range| !ranges.contains(range));
    let mut unused: Vec<(u64, u64)> = unused.map(|range| (free_in(range), range)).collect();
    unused.sort_unstable();
    while room < ranges.len() as u64 {
        let (more, range) = unused.pop().filter(|(more, _)| *more > 1)?;
        room += more;
        ranges.insert(range);
    }
    Some(ranges.len() as u64)
}
