//! Which cases are possible.

use super::build::{self, BuildError};
use super::impossible::{Impossible, in_range};
use super::synthetic::{Allocation, Bitmap, Content, Structures, Synthetic};
use super::{Case, Image};

/// Bytes of a sector.
const SECTOR: u64 = 512;
/// The largest L1 table, in bytes.
const L1_MAX: u64 = 32 << 20;
/// Most snapshots of an image.
const SNAPSHOTS_MAX: u64 = 65_536;
/// Most guest clusters with contents in one image of ours: the builder keeps them in memory.
const GUEST_MAX: u64 = 1 << 20;
/// Most clusters of a random allocation: its order is kept in memory.
const SPAN_MAX: u64 = 1 << 20;
/// The smallest cluster, as its binary logarithm, that can have subclusters.
const EXTENDED_BITS_MIN: u64 = 14;
/// The longest name of a backing file, in bytes.
const BACKING_NAME_MAX: u64 = 1023;

impl Case {
    /// Fails where there cannot be such a case, and says why. Costs laying the image out.
    pub fn validate(&self) -> Result<(), Impossible> {
        if matches!(self.image, Image::Model(_)) && !self.damage.is_empty() {
            return Err(Impossible::DamagedModel);
        }
        match build::lay_out(&self.image) {
            Err(BuildError::Impossible(why)) => Err(why),
            // The rest is the machine's doing, not the case's; laying out does no I/O.
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

impl Synthetic {
    /// Guest clusters up to the last that holds something.
    #[must_use]
    pub fn guest_clusters(&self) -> u64 {
        let lengths = self.guest.iter();
        lengths.fold(0, |end: u64, run| {
            end.saturating_add(run.skip)
                .saturating_add(u64::from(run.clusters))
        })
    }

    /// The virtual disk's size in bytes.
    #[must_use]
    pub fn virtual_size(&self) -> u64 {
        let guest = self.guest_clusters().saturating_mul(1 << self.cluster_bits);
        guest.saturating_add(self.slack_sectors.saturating_mul(SECTOR))
    }

    /// Checks each field by itself; what follows from all of them together, the layout finds.
    pub(super) fn validate_fields(&self) -> Result<(), Impossible> {
        in_range("version", self.version.into(), 2, 3)?;
        in_range("cluster_bits", self.cluster_bits.into(), 9, 21)?;
        in_range("refcount_order", self.refcount_order.into(), 0, 6)?;
        if self.extended_l2 {
            let bits = u64::from(self.cluster_bits);
            in_range("cluster_bits with extended_l2", bits, EXTENDED_BITS_MIN, 21)?;
        }
        if self.version == 2 {
            self.validate_version_2()?;
        }
        self.validate_guest()?;
        self.validate_allocation()?;
        let groups = self.snapshots.iter();
        let snapshots = groups.map(|group| u64::from(group.count)).sum();
        in_range("the number of snapshots", snapshots, 0, SNAPSHOTS_MAX)?;
        for &Bitmap {
            granularity_bits, ..
        } in &self.bitmaps
        {
            in_range("granularity_bits", granularity_bits.into(), 9, 31)?;
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

    fn validate_version_2(&self) -> Result<(), Impossible> {
        let zeros = |run: &super::synthetic::Run| {
            matches!(run.content, Content::Zero | Content::Preallocated)
        };
        let newer = [
            (
                self.refcount_order != 4,
                "a refcount width other than 16 bits",
            ),
            (self.extended_l2, "extended_l2"),
            (!self.bitmaps.is_empty(), "a bitmap"),
            (self.guest.iter().any(zeros), "a zero cluster"),
        ];
        match newer.iter().find(|(present, _)| *present) {
            Some(&(_, what)) => Err(Impossible::NeedsVersion3 { what }),
            None => Ok(()),
        }
    }

    fn validate_guest(&self) -> Result<(), Impossible> {
        let filled = self.guest.iter().map(|run| u64::from(run.clusters)).sum();
        in_range(
            "the number of guest clusters with contents",
            filled,
            0,
            GUEST_MAX,
        )?;
        let cluster = 1_u64 << self.cluster_bits;
        let l2_entries = cluster / if self.extended_l2 { 16 } else { 8 };
        let l1_bytes = self.virtual_size().div_ceil(cluster * l2_entries) * 8;
        in_range("the L1 table's size in bytes", l1_bytes, 0, L1_MAX)?;
        for run in &self.guest {
            match run.content {
                Content::Compressed { incompressible } => {
                    in_range("incompressible", incompressible.into(), 0, cluster / 2)?;
                }
                Content::Subclusters { allocated, zero } => {
                    if !self.extended_l2 || allocated & zero != 0 {
                        return Err(Impossible::Subclusters);
                    }
                }
                Content::Data | Content::Preallocated | Content::Zero => (),
            }
        }
        Ok(())
    }

    fn validate_allocation(&self) -> Result<(), Impossible> {
        match &self.allocation {
            Allocation::Striped { step } => {
                in_range("step", u64::from(*step), 1, u64::from(u32::MAX))?;
            }
            Allocation::Scattered { span, .. } => {
                in_range("span", u64::from(*span), 1, SPAN_MAX)?;
            }
            Allocation::Dense
            | Allocation::OneARange { .. }
            | Allocation::AfterHole { .. }
            | Allocation::Listed(_) => (),
        }
        if let Structures::Correct {
            spare_reftable_clusters: spare,
        } = self.structures
        {
            let most = (8 << 20) >> self.cluster_bits;
            in_range("spare_reftable_clusters", spare.into(), 0, most)?;
        }
        Ok(())
    }
}
