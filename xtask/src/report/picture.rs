//! A picture of an image: what each of its clusters holds.

use std::collections::BTreeSet;

use recount_oracle::audit::{self, Audit, Referrer};
use recount_oracle::case::damage::SparseBytes;
use serde::{Deserialize, Serialize};
use strum::VariantArray as _;

/// Stretches of a picture, at most; what is left out is said.
const STRETCHES: usize = 400;

/// What a cluster holds.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    strum::Display,
    strum::VariantArray,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Use {
    /// Nothing, and its refcount is 0.
    Free,
    /// Nothing, and it is allocated.
    Leaked,
    Data,
    Compressed,
    /// Bitmaps: directory, tables, bits.
    Bitmap,
    /// The snapshot table, or an L1 or L2 table of a snapshot alone.
    Snapshot,
    L2,
    /// The active L1 table.
    L1,
    Refblock,
    Reftable,
    /// The header, or a LUKS header.
    Header,
}

impl Use {
    /// All, in the order of the legend.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::VARIANTS.iter().rev().copied()
    }
}

/// Neighbouring clusters that are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stretch {
    pub first: u64,
    pub clusters: u64,
    /// What they hold. Where several things lie in one cluster, the last in the order of [`Use`].
    pub holds: Use,
    /// Whether their refcounts are not their references.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wrong: bool,
}

/// What lies where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Picture {
    /// Bytes of a cluster.
    pub cluster_size: u64,
    pub clusters: u64,
    /// From cluster 0 on, without gaps.
    pub stretches: Vec<Stretch>,
    /// Stretches after these that are left out.
    #[serde(default, skip_serializing_if = "super::model::is_zero")]
    pub left_out: u64,
}

impl Picture {
    /// Of an image; `None` when it cannot be read.
    pub fn of(image: &SparseBytes) -> Option<Self> {
        audit::audit(image).ok().map(|audit| Self::new(&audit))
    }

    fn new(audit: &Audit) -> Self {
        let wrong: BTreeSet<u64> = audit.mismatches.iter().map(|wrong| wrong.cluster).collect();
        let mut known: BTreeSet<u64> = audit.references.keys().copied().collect();
        known.extend(audit.disk.counts().keys());
        known.extend(&wrong);
        let mut picture = Self {
            cluster_size: audit.header.cluster_size(),
            clusters: audit.clusters,
            stretches: Vec::new(),
            left_out: 0,
        };
        let mut next = 0;
        for &cluster in known.range(..audit.clusters) {
            let holds = match audit.references.get(&cluster) {
                Some(by) => by.iter().map(holds).max().unwrap_or(Use::Leaked),
                None if audit.disk.count(cluster) == Some(0) => Use::Free,
                None => Use::Leaked,
            };
            picture.add(next, cluster - next, Use::Free, false);
            picture.add(cluster, 1, holds, wrong.contains(&cluster));
            next = cluster + 1;
        }
        picture.add(next, audit.clusters.saturating_sub(next), Use::Free, false);
        let all = picture.stretches.len();
        picture.stretches.truncate(STRETCHES);
        picture.left_out = (all - picture.stretches.len()) as u64;
        picture
    }

    fn add(&mut self, first: u64, clusters: u64, holds: Use, wrong: bool) {
        if clusters == 0 {
            return;
        }
        match self.stretches.last_mut() {
            Some(last) if last.holds == holds && last.wrong == wrong => last.clusters += clusters,
            _ => self.stretches.push(Stretch {
                first,
                clusters,
                holds,
                wrong,
            }),
        }
    }
}

fn holds(by: &Referrer) -> Use {
    use recount_oracle::audit::LayerId::{Active, Snapshot};
    match by {
        Referrer::Header | Referrer::LuksHeader => Use::Header,
        Referrer::L1 { layer: Active } => Use::L1,
        Referrer::L2 { layer: Active, .. } => Use::L2,
        Referrer::L1 { layer: Snapshot(_) }
        | Referrer::L2 {
            layer: Snapshot(_), ..
        }
        | Referrer::SnapshotTable => Use::Snapshot,
        Referrer::Data { .. } => Use::Data,
        Referrer::Compressed { .. } => Use::Compressed,
        Referrer::Reftable => Use::Reftable,
        Referrer::Refblock { .. } => Use::Refblock,
        Referrer::BitmapDirectory | Referrer::BitmapTable { .. } | Referrer::BitmapData { .. } => {
            Use::Bitmap
        }
    }
}

#[cfg(test)]
mod tests {
    use recount_oracle::case::build;
    use recount_oracle::case::generate;

    use super::*;

    #[test]
    fn a_picture_has_every_cluster_once() {
        for seed in 0..20 {
            let case = generate(seed);
            let image = build::build(&case).unwrap().bytes;
            let Some(picture) = Picture::of(&image) else {
                continue;
            };
            let mut next = 0;
            for stretch in &picture.stretches {
                assert_eq!(stretch.first, next, "seed {seed}");
                next += stretch.clusters;
            }
            assert!(
                picture.left_out > 0 || next == picture.clusters,
                "seed {seed}"
            );
            assert_eq!(picture.stretches[0].holds, Use::Header);
        }
    }
}
