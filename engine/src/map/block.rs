//! A few clusters that lie side by side, looked at in one go.

use std::sync::Arc;

use super::{Map, Stretch, Use, Wrong};
use crate::table::{RefcountTable, Run, width};
use crate::units::{Cluster, ClusterCount, Region};

/// What is known of the clusters of a block.
pub struct Block<'a> {
    map: &'a Map,
    first: Cluster,
    references: width::Counts,
    /// As what: L1 table, L2 table, refcount structure, anything else but data, compressed data.
    as_kind: [width::Counts; 5],
    as_active: width::Counts,
    /// `None` where they cannot be read.
    refcounts: Option<width::Counts>,
}

impl<'a> Block<'a> {
    /// The block that a cluster is in.
    pub fn at(map: &'a Map, cluster: Cluster) -> Self {
        let (look, geometry) = (&map.survey.look, map.survey.image.geometry());
        let (walked, compared) = (&look.references, &look.comparison);
        let first = Cluster(cluster.0 - cluster.0 % width::BLOCK as u64);
        let block = |table: &RefcountTable| table.block(first.0);
        let references = block(&walked.table);
        // No block reaches into the range of a second refblock.
        let (order, refblock) = (geometry.order(), geometry.refblock_of(first));
        let index = first.since(geometry.first_covered(refblock)).0 as usize;
        let at = index / width::BLOCK * width::block_bytes(order);
        let on_disk = |bytes: &Arc<[u8]>| width::decode(order, bytes.get(at..).unwrap_or_default());
        let refcounts = match compared.differing.get(&refblock) {
            _ if compared.unreadable.binary_search(&refblock).is_ok() => None,
            Some(bytes) => Some(on_disk(bytes)),
            None => Some(references.map(|count| count.min(order.max_refcount()))),
        };
        let (as_l1, as_l2, as_other) = (&walked.as_l1, &walked.as_l2, &walked.as_other);
        let (structure, compressed) = (&map.as_structure, &map.as_compressed);
        let kinds = [as_l1, as_l2, structure, as_other, compressed];
        Self {
            map,
            first,
            references,
            as_kind: kinds.map(block),
            as_active: block(&map.as_active),
            refcounts,
        }
    }

    /// One after its last cluster.
    pub fn end(&self) -> Cluster {
        self.first.saturating_add(ClusterCount(width::BLOCK as u64))
    }

    /// Its clusters from `start` up to `end`, each on its own.
    pub fn stretches(&self, start: Cluster, end: Cluster) -> impl Iterator<Item = Stretch> {
        let clusters = Run::new(start, self.end().min(end).since(start)).iter();
        clusters.map(|cluster| {
            let (run, index) = (Run::single(cluster), cluster.since(self.first).0 as usize);
            let (holds, wrong) = self.look_at(cluster, index);
            Stretch { run, holds, wrong }
        })
    }

    fn look_at(&self, cluster: Cluster, index: usize) -> (Use, Option<Wrong>) {
        let max = self.map.survey.image.geometry().max_refcount();
        let references = self.references[index];
        let wrong = match self.refcounts.as_ref().map(|counts| counts[index]) {
            _ if self.is_overlap(index) => Some(Wrong::Overlap),
            None => Some(Wrong::Unreadable),
            Some(1..) if references == 0 => return (Use::Leaked, None),
            Some(refcount) if refcount > references => Some(Wrong::TooHigh),
            Some(refcount) if refcount < references.min(max) => Some(Wrong::TooLow),
            Some(_) => (references > max).then_some(Wrong::TooLow),
        };
        (self.holds(cluster, index), wrong)
    }

    fn holds(&self, cluster: Cluster, index: usize) -> Use {
        let image = &self.map.survey.image;
        let (geometry, header) = (image.geometry(), &image.header);
        let (offset, length) = (header.reftable_offset, header.reftable_clusters);
        let length = u64::from(length) << geometry.cluster_bits();
        let snapshots = self.map.survey.look.references.snapshots.region;
        let is_in = |region: Region| region.clusters(geometry).contains(cluster);
        let [as_l1, as_l2, as_structure, as_other, as_compressed] =
            self.as_kind.each_ref().map(|counts| counts[index] > 0);
        match cluster {
            _ if self.references[index] == 0 => Use::Free,
            Cluster(0) => Use::Header,
            _ if as_structure && is_in(Region { offset, length }) => Use::Reftable,
            _ if as_structure => Use::Refblock,
            _ if as_l1 => Use::L1Table,
            _ if as_l2 => Use::L2Table,
            _ if as_other && is_in(snapshots) => Use::SnapshotTable,
            _ if as_other && image.extensions.luks.is_some_and(is_in) => Use::LuksHeader,
            _ if as_other => Use::Bitmap,
            _ if as_compressed => Use::Compressed,
            _ => Use::Data,
        }
    }

    /// Whether it is used as two things, or twice by one layer; of snapshots that is seen only where
    /// there are more uses than layers.
    fn is_overlap(&self, index: usize) -> bool {
        let (layers, references) = (self.map.layers, self.references[index]);
        if references <= 1 {
            return false;
        }
        let uses = self.as_kind.each_ref().map(|counts| counts[index]);
        let [_, as_l2, as_structure, as_other, _] = uses;
        let as_data = uses
            .iter()
            .fold(references, |rest, uses| rest.saturating_sub(*uses));
        let kinds = uses.iter().filter(|uses| **uses > 0).count();
        // Compressed clusters share clusters with each other, layers share tables and data.
        kinds + usize::from(as_data > 0) > 1
            || as_structure.max(as_other).max(self.as_active[index]) > 1
            || as_l2.max(as_data) > layers
    }
}
