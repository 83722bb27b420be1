//! Hands a toy to the engine's planners.

use recount::rebuild::{self, Input};
use recount::{Cluster, ClusterCount, Layout, PlanError, RefcountTable, Run, RunSet};

use crate::case::Algorithm;
use crate::properties::plan::geometry;
use crate::run::engine_algorithm;
use crate::toy::{Clusters, Shape, Toy};

/// Something that plans as the engine does. Tests put one in its place that is broken.
pub type Planner = fn(recount::Algorithm, &Input<'_>) -> Result<Layout, PlanError>;

/// The counts and reserved clusters of one toy after another; cheap where they differ by little.
#[derive(Debug)]
pub struct Engine {
    planner: Planner,
    shape: Shape,
    counted: Clusters,
    references: RefcountTable,
    old: Clusters,
    reserved: RunSet,
    doubtful: RunSet,
}

impl Engine {
    /// For toys of a shape.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        Self::with(rebuild::plan, shape)
    }

    /// With another planner.
    #[must_use]
    pub fn with(planner: Planner, shape: Shape) -> Self {
        Self {
            planner,
            shape,
            counted: Clusters::NONE,
            references: RefcountTable::new(geometry(shape)),
            old: Clusters::NONE,
            reserved: RunSet::new(),
            doubtful: RunSet::new(),
        }
    }

    /// The counts that the algorithm that planned last was given.
    #[must_use]
    pub const fn references(&self) -> &RefcountTable {
        &self.references
    }

    /// Plans for a toy of this shape.
    pub fn plan(&mut self, toy: &Toy, algorithm: Algorithm) -> Result<Layout, PlanError> {
        // QEMU's algorithms count the old structures; planned has them reserved.
        let (counted, old) = match algorithm {
            Algorithm::Planned => (toy.used, toy.old),
            Algorithm::FirstFit | Algorithm::Tail => (toy.used.or(toy.old), Clusters::NONE),
        };
        self.count(counted, toy.old)?;
        self.reserve(old);
        let input = Input {
            references: &self.references,
            reserved: &self.reserved,
            doubtful: &self.doubtful,
            file: ClusterCount(toy.clusters.into()),
            capacity: toy.capacity().map(|clusters| ClusterCount(clusters.into())),
        };
        (self.planner)(engine_algorithm(algorithm), &input)
    }

    fn count(&mut self, counted: Clusters, old: Clusters) -> Result<(), PlanError> {
        for cluster in Clusters(counted.0 ^ self.counted.0).iter() {
            let references = match (counted.contains(cluster), old.contains(cluster)) {
                (false, _) => 0,
                (true, true) => 1,
                (true, false) => self.shape.references_of(cluster),
            };
            self.references.set(Cluster(cluster.into()), references)?;
        }
        self.counted = counted;
        Ok(())
    }

    fn reserve(&mut self, old: Clusters) {
        if old == self.old {
            return;
        }
        self.reserved.clear();
        for cluster in old.iter() {
            self.reserved.insert(Run::single(Cluster(cluster.into())));
        }
        self.old = old;
    }
}
