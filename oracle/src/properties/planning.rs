//! One run of a planner on a toy, as the properties of plans look at it.

use std::cell::OnceCell;

use recount::{Layout, PlanError};

use super::Failure;
use crate::brute::Space;
use crate::case::Algorithm;
use crate::toy::{Clusters, Toy};

/// What brute force finds for a toy; each search is made when it is first asked for.
#[derive(Debug)]
pub struct Brute {
    toy: Toy,
    inside_file: OnceCell<Option<u32>>,
    whole_storage: OnceCell<Option<u32>>,
}

impl Brute {
    /// For a toy.
    #[must_use]
    pub const fn new(toy: Toy) -> Self {
        Self {
            toy,
            inside_file: OnceCell::new(),
            whole_storage: OnceCell::new(),
        }
    }

    /// The least reftable, in clusters, with which everything fits into the file as it is.
    pub fn least_inside_file(&self) -> Option<u32> {
        let search = || Space::inside_file(&self.toy).least_table();
        *self.inside_file.get_or_init(search)
    }

    /// The least reftable with which everything fits into the storage, the file growing if it can.
    pub fn least_in_storage(&self) -> Option<u32> {
        let search = || Space::whole_storage(&self.toy).least_table();
        *self.whole_storage.get_or_init(search)
    }
}

/// Where a layout puts what, as sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The reftable.
    pub reftable: Clusters,
    /// The refblocks.
    pub refblocks: Clusters,
    /// Reftables given up for larger ones.
    pub abandoned: Clusters,
    /// Clusters that two of these share, or that two refblocks do.
    pub shared: Clusters,
    /// The first cluster after all of them.
    pub end: u64,
}

impl Places {
    /// Those of a layout. Clusters past the largest that a set can hold only count for `end`.
    #[must_use]
    pub fn of(layout: &Layout) -> Self {
        let run = |run: &recount::Run| {
            let first = u32::try_from(run.first.0).unwrap_or(u32::MAX);
            Clusters::run(first, u32::try_from(run.count.0).unwrap_or(u32::MAX))
        };
        let mut places = Self {
            reftable: run(&layout.reftable),
            end: layout.reftable.end().0,
            ..Self::default()
        };
        for (_, cluster) in &layout.refblocks {
            let one = run(&recount::Run::single(*cluster));
            let taken = places.reftable.or(places.refblocks);
            places.shared = places.shared.or(taken.and(one));
            places.refblocks = places.refblocks.or(one);
            places.end = places.end.max(cluster.0 + 1);
        }
        for given_up in layout.abandoned.runs() {
            let clusters = run(given_up);
            let taken = places.reftable.or(places.refblocks);
            places.shared = places.shared.or(taken.and(clusters));
            places.abandoned = places.abandoned.or(clusters);
            places.end = places.end.max(given_up.end().0);
        }
        places
    }

    /// Everything that the new structures count beside what is referenced.
    #[must_use]
    pub const fn allocated(&self) -> Clusters {
        self.reftable.or(self.refblocks).or(self.abandoned)
    }
}

/// A run of a planner: what it was given, what came out, and what brute force says.
#[derive(Clone, Copy, Debug)]
pub struct Planning<'a> {
    /// The toy.
    pub toy: &'a Toy,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// What the planner said.
    pub outcome: &'a Result<Layout, PlanError>,
    /// Where the layout puts what; all empty when there is none.
    pub places: Places,
    /// What brute force says.
    pub brute: &'a Brute,
}

impl<'a> Planning<'a> {
    /// Of an outcome.
    #[must_use]
    pub fn new(
        toy: &'a Toy,
        algorithm: Algorithm,
        outcome: &'a Result<Layout, PlanError>,
        brute: &'a Brute,
    ) -> Self {
        Self {
            toy,
            algorithm,
            outcome,
            places: outcome.as_ref().map(Places::of).unwrap_or_default(),
            brute,
        }
    }

    /// The layout, if there is one.
    #[must_use]
    pub fn layout(&self) -> Option<&'a Layout> {
        self.outcome.as_ref().ok()
    }
}

/// What is wrong with a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Complaint {
    /// It would go on for ever.
    #[error(
        "it would not end: a reftable of {clusters} clusters after the end of everything needs a \
         larger one, and so does that"
    )]
    Diverges {
        /// Clusters of the reftable at which that was certain.
        clusters: u64,
    },
    /// It took longer than was proven.
    #[error("it took {tries} tries; at most {bound} are proven to do")]
    TooManyTries {
        /// How many it took.
        tries: u64,
        /// How many may be needed.
        bound: u64,
    },
    /// A counted cluster that no refblock covers.
    #[error(
        "cluster {cluster} has references or belongs to the new structures, but refblock \
         {refblock}, which would count it, does not exist"
    )]
    Uncovered {
        /// The cluster.
        cluster: u32,
        /// The refblock that would count it.
        refblock: u32,
    },
    /// A refblock that the reftable has no entry for.
    #[error("refblock {refblock} lies past the last of the reftable's {entries} entries")]
    PastReftable {
        /// The refblock.
        refblock: u64,
        /// Entries of the reftable.
        entries: u64,
    },
    /// A refblock that is never written.
    #[error("refblock {refblock} is never written")]
    NeverWritten {
        /// The refblock.
        refblock: u64,
    },
    /// Two refblocks of one range.
    #[error("refblock {refblock} is there twice, or out of order")]
    Unordered {
        /// The refblock.
        refblock: u64,
    },
    /// A refblock for a range without any count.
    #[error("refblock {refblock} counts nothing, so nothing needs it")]
    Useless {
        /// The refblock.
        refblock: u64,
    },
    /// A new structure on a referenced cluster.
    #[error("a new structure lies in cluster {cluster}, which has references")]
    OnReferenced {
        /// The cluster.
        cluster: u32,
    },
    /// A new structure on an old one.
    #[error("a new structure lies in cluster {cluster}, which belongs to the old structures")]
    OnReserved {
        /// The cluster.
        cluster: u32,
    },
    /// Two new structures in one place.
    #[error("two new structures lie in cluster {cluster}")]
    Shared {
        /// The cluster.
        cluster: u32,
    },
    /// Something past what the storage can hold.
    #[error("the new structures reach to cluster {end}; the storage has {capacity} clusters")]
    PastCapacity {
        /// The first cluster after them.
        end: u64,
        /// Clusters of the storage.
        capacity: u32,
    },
    /// There is room.
    #[error("it fails for space, but there is a placement with a reftable of {reftable} clusters")]
    ThereIsRoom {
        /// Clusters of the least reftable with a placement.
        reftable: u32,
    },
    /// The file grows and need not.
    #[error(
        "the file grows from {clusters} to {end} clusters, but there is a placement inside it \
         with a reftable of {reftable} clusters"
    )]
    GrowsWithoutNeed {
        /// Clusters of the file.
        clusters: u32,
        /// Clusters of the file afterwards.
        end: u64,
        /// Clusters of the least reftable with a placement inside.
        reftable: u32,
    },
    /// The reftable is larger than needed.
    #[error("the reftable takes {clusters} clusters; {least} can do")]
    LargerThanNeeded {
        /// Its clusters.
        clusters: u64,
        /// The least number of clusters with a placement.
        least: u32,
    },
    /// A placement that brute force rules out: one of the two is wrong.
    #[error(
        "brute force finds no placement with a reftable of {clusters} clusters, yet this is one"
    )]
    Impossible {
        /// Clusters of the reftable.
        clusters: u64,
    },
    /// A cluster that is counted and that nothing refers to.
    #[error("cluster {cluster} stays allocated, but nothing refers to it: a reftable given up")]
    Leaks {
        /// The cluster.
        cluster: u32,
    },
    /// A refblock that is written more than once.
    #[error("refblock {refblock} is written {times} times")]
    WrittenAgain {
        /// The refblock.
        refblock: u64,
        /// How often.
        times: usize,
    },
}

impl From<Complaint> for Failure {
    fn from(complaint: Complaint) -> Self {
        Self {
            message: complaint.to_string(),
        }
    }
}
