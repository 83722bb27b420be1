//! Where the refcount structures go when they are built anew.

mod layout;
mod planned;
mod qemu;
mod space;

pub use layout::Layout;

use space::Space;

use crate::geometry::Geometry;
use crate::table::{OutOfMemory, RefcountTable, Run, RunSet};
use crate::units::{Cluster, ClusterCount};

/// How new refcount structures are placed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Ours: inside the file first, the old structures untouched until the new ones are in use.
    #[default]
    Planned,
    /// As QEMU 7.1 and later, byte for byte; it need not end, and says so when it will not.
    FirstFit,
    /// As QEMU up to 7.0.
    Tail,
}

/// What a planner works from. It reads this and does no I/O.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// How often each cluster is referred to.
    pub references: &'a RefcountTable,
    /// Clusters without a count that must not be written: the old structures, before the switch,
    /// and what references that reach past the end of the file cover. QEMU's algorithms take them for
    /// clusters in use, which need refblocks.
    pub reserved: &'a RunSet,
    /// Clusters of the file as it is, the last one perhaps in part.
    pub file: ClusterCount,
    /// Clusters that the file can never exceed; `None` when it can grow.
    pub capacity: Option<ClusterCount>,
}

/// What is built anew, with its clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, derive_more::Display)]
pub enum New {
    /// Refcount structures; how many clusters of them have to be in a row, for the reftable.
    #[display("new refcount structures: they need {_0} clusters, of which {_1} in a row")]
    Structures(ClusterCount, ClusterCount),
    /// A snapshot table.
    #[display("a new snapshot table: it needs {_0} clusters in a row")]
    SnapshotTable(ClusterCount),
}

/// Why there is no layout. Nothing has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// What is built anew does not fit.
    #[error(
        "no room for {what}; {free} clusters are free, the longest run of them has {longest_run}, \
         and the storage cannot grow. Move the image to larger storage{}", if *reserved > ClusterCount(0) {
            format!(", or, at the risk that a crash during the repair loses them, let the \
                     {reserved} clusters of the old structures be overwritten with --reuse-old")
         } else { String::new() }
    )]
    NoSpace {
        /// What it is.
        what: New,
        /// Free clusters.
        free: ClusterCount,
        /// The longest run of free clusters.
        longest_run: ClusterCount,
        /// Clusters of the old structures, which are not free before the switch; 0 where nothing is
        /// known of them.
        reserved: ClusterCount,
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

impl Input<'_> {
    /// The first cluster that the file can never have.
    fn limit(&self) -> Cluster {
        let addressable = u64::MAX >> self.references.geometry().cluster_bits();
        let capacity = self.capacity.map_or(addressable, |capacity| capacity.0);
        Cluster(capacity.min(addressable))
    }

    /// Looks for a place inside the file as it is, then, if it can grow, with the space after its end.
    fn first_place<T>(
        &self,
        place: impl Fn(Space<'_>) -> Result<T, PlanError>,
    ) -> Result<T, PlanError> {
        let space = |limit| Space {
            references: self.references,
            taken: self.reserved,
            limit,
        };
        let limit = self.limit();
        let inside = Cluster(self.file.0).min(limit);
        match place(space(inside)) {
            Err(PlanError::NoSpace { .. }) if inside < limit => place(space(limit)),
            placed => placed,
        }
    }
}

/// Plans new refcount structures: where each refblock goes, where the reftable goes.
pub fn plan(algorithm: Algorithm, input: &Input<'_>) -> Result<Layout, PlanError> {
    match algorithm {
        Algorithm::Planned => planned::plan(input),
        Algorithm::FirstFit => qemu::first_fit(input),
        Algorithm::Tail => qemu::tail(input),
    }
}

/// The lowest run of `count` free clusters for something else that a rebuild puts into the image.
pub(crate) fn lowest_free_run(input: &Input<'_>, count: ClusterCount) -> Result<Run, PlanError> {
    input.first_place(|space| {
        let run = space.lowest_run(Cluster(0), count);
        run.ok_or_else(|| space.no_space(New::SnapshotTable(count)))
    })
}

/// An error when a reftable of `clusters` clusters is too large to open.
fn within_reftable_limit(geometry: &Geometry, clusters: ClusterCount) -> Result<(), PlanError> {
    let limit = geometry.max_reftable_clusters();
    if clusters > limit {
        return Err(PlanError::ReftableTooLarge { clusters, limit });
    }
    Ok(())
}
