//! What is wrong with what refers to clusters, and what leads past the end of the file.

use crate::finding::Finding;
use crate::image::Image;
use crate::table::{Run, RunSet};
use crate::units::{Cluster, Offset, Region};

/// What may hide that clusters are in use: entries and tables that lead nowhere or contradict each
/// other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadEnds {
    /// How many there are.
    pub count: u64,
    /// The first few.
    pub examples: Vec<Finding>,
}

/// As many as a message can name.
const MAX_EXAMPLES: usize = 8;

impl DeadEnds {
    pub(crate) fn push(&mut self, finding: Finding) {
        self.count += 1;
        if self.examples.len() < MAX_EXAMPLES {
            self.examples.push(finding);
        }
    }
}

/// What regions past the end of the file reach: not each of them, since a file can name more than it
/// stores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beyond {
    /// The clusters of the file that regions touch which end too far past its end to be counted.
    /// What leads there reads them all the same.
    pub covered: RunSet,
    /// The first cluster that the file must not grow to: it would turn what is missing into zeros.
    pub limit: Option<Cluster>,
    /// One after the last byte that something refers to; 0 where nothing leads past the end.
    pub end: u64,
}

impl Beyond {
    /// Takes note of a region that ends a cluster or more past the end.
    pub(crate) fn dangling(&mut self, image: &Image, region: Region) {
        let geometry = image.geometry();
        let first = geometry.cluster_of(region.offset);
        let past = Cluster(image.extent.clusters.0);
        self.covered.insert(Run::new(first, past.since(first)));
        // The file may not even reach to less than a cluster before its end: it would count then.
        let reached =
            geometry.cluster_of(Offset(region.end().saturating_sub(geometry.cluster_size())));
        self.limit_to(first.max(past).min(reached), region.end());
    }

    /// Takes note of a region that is counted and whose last bytes are missing.
    pub(crate) fn in_part(&mut self, image: &Image, end: u64) {
        let cluster = image.geometry().cluster_of(Offset(image.extent.bytes));
        self.limit_to(cluster, end);
    }

    fn limit_to(&mut self, cluster: Cluster, end: u64) {
        let limit = self.limit.map_or(cluster, |limit| limit.min(cluster));
        self.limit = Some(limit);
        self.end = self.end.max(end);
    }
}
