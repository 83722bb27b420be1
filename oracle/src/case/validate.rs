//! Which cases are possible. Others are refused, never silently changed.

use super::synthetic::{Allocation, Content, Synthetic};
use super::{Case, Image, build, refcount};
use crate::disk::SECTOR;
use crate::format::{BACKING_NAME_MAX, L1_MAX, SNAPSHOTS_MAX};

/// Most guest clusters with contents in one image of ours: the builder keeps them in memory.
const GUEST_MAX: u64 = 1 << 20;
/// Most clusters of a random allocation: its order is kept in memory.
const SPAN_MAX: u64 = 1 << 20;
/// The smallest cluster, as its binary logarithm, that can have subclusters.
const EXTENDED_BITS_MIN: u64 = 14;

/// Why a case cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Impossible(String);

/// Fails, and says why.
pub(super) fn impossible<T>(why: impl Into<String>) -> Result<T, Impossible> {
    Err(Impossible(why.into()))
}

/// Fails unless `least <= value <= most`.
pub(super) fn in_range(field: &str, value: u64, least: u64, most: u64) -> Result<(), Impossible> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    impossible(format!("{field} is {value}; it must be {least} to {most}"))
}

/// Fails where a cluster has more references than 2^`order` bits can count.
pub(super) fn refuse_overflow(
    mut counts: impl Iterator<Item = (u64, u64)>,
    order: u32,
) -> Result<(), Impossible> {
    let max = refcount::largest(order);
    match counts.find(|&(_, references)| references > max) {
        None => Ok(()),
        Some((cluster, references)) => impossible(format!(
            "cluster {cluster} has {references} references; a refcount here counts to {max}"
        )),
    }
}

impl Case {
    /// Fails where there cannot be such a case, and says why. Costs building the image.
    pub fn validate(&self) -> Result<(), Impossible> {
        match self.image {
            Image::Real(_) => Ok(()),
            Image::Synthetic(_) | Image::Model(_) => build::build(self).map(drop),
        }
    }
}

impl Synthetic {
    /// Guest clusters up to the last that holds something.
    pub fn guest_clusters(&self) -> u64 {
        let runs = self.guest.iter();
        let lengths = runs.map(|run| run.skip.saturating_add(run.clusters.into()));
        lengths.fold(0, u64::saturating_add)
    }

    /// The virtual disk's size in bytes.
    pub fn virtual_size(&self) -> u64 {
        let guest = self.guest_clusters().saturating_mul(1 << self.cluster_bits);
        guest.saturating_add(self.slack_sectors.saturating_mul(SECTOR))
    }

    /// Bytes of an L2 entry.
    pub(super) const fn l2_entry_size(&self) -> u64 {
        if self.extended_l2 { 16 } else { 8 }
    }

    /// Checks each field by itself; what follows from all of them together, the builder finds.
    pub(super) fn validate_fields(&self) -> Result<(), Impossible> {
        in_range("version", self.version.into(), 2, 3)?;
        let bits = self.cluster_bits.into();
        in_range("cluster_bits", bits, 9, 21)?;
        in_range("refcount_order", self.refcount_order.into(), 0, 6)?;
        if self.extended_l2 {
            in_range("cluster_bits with extended_l2", bits, EXTENDED_BITS_MIN, 21)?;
        }
        self.validate_version()?;
        let clusters = self.guest.iter().map(|run| u64::from(run.clusters)).sum();
        in_range("guest clusters with contents", clusters, 0, GUEST_MAX)?;
        let cluster = 1_u64 << self.cluster_bits;
        let per_table = cluster * (cluster / self.l2_entry_size());
        let l1_bytes = self.virtual_size().div_ceil(per_table) * 8;
        in_range("the L1 table's size in bytes", l1_bytes, 0, L1_MAX)?;
        for run in &self.guest {
            match run.content {
                Content::Compressed { incompressible } => {
                    in_range("incompressible", incompressible.into(), 0, cluster / 2)?;
                }
                Content::Subclusters { allocated, zero } => {
                    if !self.extended_l2 || allocated & zero != 0 {
                        return impossible(
                            "subclusters need extended_l2 = true, and not both bits for one \
                             subcluster",
                        );
                    }
                }
                Content::Data | Content::Preallocated | Content::Zero => (),
            }
        }
        match self.allocation {
            Allocation::Striped { step } => in_range("step", step.into(), 1, u32::MAX.into())?,
            Allocation::Scattered { span, .. } => in_range("span", span.into(), 1, SPAN_MAX)?,
            _ => (),
        }
        let snapshots = self.snapshots.iter().map(|group| u64::from(group.count));
        in_range("snapshots", snapshots.sum(), 0, SNAPSHOTS_MAX)?;
        for bitmap in &self.bitmaps {
            in_range("granularity_bits", bitmap.granularity_bits.into(), 9, 31)?;
        }
        if let Some(name) = &self.backing {
            let length = name.len() as u64;
            in_range("the length of backing", length, 1, BACKING_NAME_MAX)?;
        }
        for &length in &self.unknown_extensions {
            in_range("an unknown extension's length", length.into(), 0, 1 << 21)?;
        }
        Ok(())
    }

    fn validate_version(&self) -> Result<(), Impossible> {
        let is_zero = |content| matches!(content, Content::Zero | Content::Preallocated);
        let zeros = self.guest.iter().any(|run| is_zero(run.content));
        let width = self.refcount_order != 4;
        let newer = [
            (width, "a refcount width other than 16 bits"),
            (self.extended_l2, "extended_l2"),
            (!self.bitmaps.is_empty(), "a bitmap"),
            (zeros, "a zero cluster"),
        ];
        let mut newer = newer.into_iter().filter(|_| self.version == 2);
        match newer.find(|(present, _)| *present) {
            Some((_, what)) => impossible(format!(
                "{what} needs version 3 of the format; this image has version 2"
            )),
            None => Ok(()),
        }
    }
}
