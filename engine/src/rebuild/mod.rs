//! Building the refcount structures anew: a pure plan first, then its writes.

mod first_fit;
mod layout;
mod overlay;
mod planned;
mod tail;
mod writes;

pub use layout::Layout;
pub use planned::{proven_tries, tries_within_file};
pub use writes::{CommitError, commit};
pub(crate) use writes::{Writes, pointer_to};

use crate::table::{OutOfMemory, RefcountTable, Run, RunSet};
use crate::units::{Cluster, ClusterCount};

/// How new refcount structures are placed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Ours: counts everything but the old structures, which stay untouched until the switch.
    #[default]
    Planned,
    /// As QEMU 7.1 and later place them, byte for byte.
    FirstFit,
    /// As QEMU up to 7.0 places them.
    Tail,
}

impl Algorithm {
    /// Whether a flush stands between the new structures and the switch of the header to them.
    /// QEMU has none there (observed with qemu-img 5.2 to 11.1).
    #[must_use]
    pub const fn flushes_before_switch(self) -> bool {
        matches!(self, Self::Planned)
    }
}

/// What a planner works from. It reads this and does no I/O.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// How often each cluster is referred to: for [`Algorithm::Planned`] without the old refcount
    /// structures, for the others with them.
    pub references: &'a RefcountTable,
    /// Clusters without a count that must not be written: the old structures, before the switch,
    /// and what references that reach past the end of the file cover. Only [`Algorithm::Planned`]
    /// heeds it; QEMU's algorithms have counted the old structures, and know nothing of the rest.
    pub reserved: &'a RunSet,
    /// Free clusters that are taken only when nothing else is left, because what the disk said of
    /// them cannot be read. Only [`Algorithm::Planned`] heeds it.
    pub doubtful: &'a RunSet,
    /// Clusters of the file as it is, the last one perhaps in part.
    pub file: ClusterCount,
    /// Clusters that the file can never exceed; `None` when it can grow.
    pub capacity: Option<ClusterCount>,
}

/// Why there is no layout. Nothing has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The structures do not fit.
    #[error(
        "no room for new refcount structures: they need {needed} clusters, of which {reftable} in \
         a row; {free} clusters are free, the longest run of them has {longest_run}, and the \
         storage cannot grow. Move the image to larger storage{}", if *reserved > ClusterCount(0) {
            format!(", or, at the risk that a crash during the repair loses them, let the \
                     {reserved} clusters of the old structures be overwritten with --reuse-old")
         } else { String::new() }
    )]
    NoSpace {
        /// Clusters of the new structures.
        needed: ClusterCount,
        /// Those of them that the reftable takes, side by side.
        reftable: ClusterCount,
        /// Free clusters.
        free: ClusterCount,
        /// The longest run of free clusters.
        longest_run: ClusterCount,
        /// Clusters of the old structures, which are not free before the switch.
        reserved: ClusterCount,
    },
    /// A new snapshot table does not fit.
    #[error(
        "no room for a new snapshot table: it needs {needed} clusters in a row; {free} clusters \
         are free, the longest run of them has {longest_run}, and the storage cannot grow. Move \
         the image to larger storage"
    )]
    NoRun {
        /// Clusters of the table.
        needed: ClusterCount,
        /// Free clusters.
        free: ClusterCount,
        /// The longest run of free clusters.
        longest_run: ClusterCount,
    },
    /// The reftable would exceed 8 MiB, and no program opens such an image.
    #[error(
        "the new refcount table would take {clusters} clusters, more than the {limit} clusters \
         (8 MiB) with which an image can be opened. Copy the image to larger clusters or narrower \
         refcounts with `qemu-img convert`"
    )]
    ReftableTooLarge {
        /// Clusters that it would take.
        clusters: ClusterCount,
        /// Clusters that it may take.
        limit: ClusterCount,
    },
    /// The algorithm would place ever larger reftables after one another, for ever.
    #[error(
        "this rebuild algorithm does not end on this image: each refcount table it places after \
         the end, now of {clusters} clusters, needs a larger one. Use the algorithm `planned`"
    )]
    Diverges {
        /// Clusters of the table at which that became certain.
        clusters: ClusterCount,
    },
    /// Memory ran out.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// Plans new refcount structures: where each refblock goes, where the reftable goes.
pub fn plan(algorithm: Algorithm, input: &Input<'_>) -> Result<Layout, PlanError> {
    match algorithm {
        Algorithm::Planned => planned::plan(input),
        Algorithm::FirstFit => first_fit::plan(input),
        Algorithm::Tail => tail::plan(input),
    }
}

/// How many of the storage's clusters are neither counted nor in `excluded`, and how long the
/// longest run of them is: for the message that says why something does not fit.
fn free_space(
    references: &RefcountTable,
    excluded: &RunSet,
    limit: ClusterCount,
) -> (ClusterCount, ClusterCount) {
    let (mut free, mut longest) = (0, 0);
    let mut from = Cluster(0);
    while let Some(run) = overlay::free_run(references, excluded, from, Cluster(limit.0)) {
        free += run.count.0;
        longest = longest.max(run.count.0);
        from = run.end();
    }
    (ClusterCount(free), ClusterCount(longest))
}

/// The lowest run of `count` free clusters for something else that a rebuild puts into the image:
/// inside the file, or after its end where the storage can grow; what is doubtful only where there
/// is nothing else.
pub(crate) fn lowest_free_run(input: &Input<'_>, count: ClusterCount) -> Result<Run, PlanError> {
    let limit = input
        .capacity
        .map_or(Cluster(u64::MAX), |capacity| Cluster(capacity.0));
    let inside = Cluster(input.file.0).min(limit);
    let mut credible = input.reserved.clone();
    credible.extend(input.doubtful);
    let lowest = |excluded, limit| {
        let mut from = Cluster(0);
        loop {
            let gap = overlay::free_run(input.references, excluded, from, limit)?;
            if gap.count >= count {
                return Some(Run::new(gap.first, count));
            }
            from = gap.end();
        }
    };
    let places = [
        (&credible, inside),
        (&credible, limit),
        (input.reserved, inside),
        (input.reserved, limit),
    ];
    let place = places
        .into_iter()
        .find_map(|(excluded, limit)| lowest(excluded, limit));
    place.ok_or_else(|| {
        let limit = ClusterCount(limit.0);
        let (free, longest_run) = free_space(input.references, input.reserved, limit);
        PlanError::NoRun {
            needed: count,
            free,
            longest_run,
        }
    })
}

/// An error unless the file may become `end` clusters long.
fn within_capacity(input: &Input<'_>, layout: &Layout) -> Result<(), PlanError> {
    let Some(capacity) = input.capacity else {
        return Ok(());
    };
    if layout.end() <= Cluster(capacity.0) {
        return Ok(());
    }
    let (free, longest_run) = free_space(input.references, &RunSet::new(), capacity);
    Err(PlanError::NoSpace {
        needed: ClusterCount(layout.refblocks.len() as u64 + layout.reftable.count.0),
        reftable: layout.reftable.count,
        free,
        longest_run,
        reserved: ClusterCount(0),
    })
}

/// An error when a reftable of `clusters` clusters is too large to open.
fn within_reftable_limit(input: &Input<'_>, clusters: ClusterCount) -> Result<(), PlanError> {
    let limit = input.references.geometry().max_reftable_clusters();
    if clusters > limit {
        return Err(PlanError::ReftableTooLarge { clusters, limit });
    }
    Ok(())
}
