//! Cases from arbitrary bytes, a fuzzer's or a seed's: every outcome is possible by construction,
//! nothing is mended afterwards.

use arbitrary::{Arbitrary, Result, Unstructured};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::synthetic::{
    Allocation, Bitmap, Content, Run, Sharing, Snapshots, Structures, Synthetic,
};
use super::{Case, Image, StorageLimit, refcount};

/// Random bytes that a case is made of: what it does not use up costs nothing.
const ENTROPY: usize = 4096;
/// Binary logarithms of cluster sizes: small ones more often, for they are quick.
const CLUSTER_BITS: [u32; 16] = [9, 9, 9, 9, 9, 10, 10, 11, 12, 12, 14, 14, 16, 16, 18, 21];
/// Guest clusters of one image, at most.
const GUEST_MAX: u32 = 64;
/// Clusters that may have been placed when a scattered image's L1 table still needs a run.
const SCATTER_SPAN: u32 = 16_384;
/// Binary logarithm of the bytes from one used cluster to the next in a sparse image, at most.
const STRETCH_BITS: u32 = 27;
/// A header of a small cluster with extensions leaves room for so many bytes more.
const UNKNOWN_EXTENSION_MAX: u32 = 40;

/// The case with a synthetic image that a seed stands for: the same one in every run of this
/// version.
#[expect(clippy::missing_panics_doc, reason = "no bytes are without a case")]
pub fn generate(seed: u64) -> Case {
    let mut bytes = vec![0; ENTROPY];
    ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
    let mut u = Unstructured::new(&bytes);
    let image = u.arbitrary().map(Image::Synthetic);
    let case = image.and_then(|image| with_image(image, &mut u));
    case.expect("bytes that run out read as zeros, which are a case")
}

/// A case with this image.
fn with_image(image: Image, u: &mut Unstructured<'_>) -> Result<Case> {
    let is_toy = matches!(image, Image::Model(_));
    Ok(Case {
        image,
        storage: u.arbitrary()?,
        algorithm: u.arbitrary()?,
        schedule: u.arbitrary()?,
        damage: if is_toy { Vec::new() } else { u.arbitrary()? },
    })
}

impl<'a> Arbitrary<'a> for Case {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let image = match u.choose_index(3)? {
            0 => Image::Model(u.arbitrary()?),
            1 => Image::Synthetic(u.arbitrary()?),
            _ => Image::Real(u.arbitrary()?),
        };
        with_image(image, u)
    }
}

impl<'a> Arbitrary<'a> for StorageLimit {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let spare = *u.choose(&[0, 1, 2, 3, 5, 8, 64, 200])?;
        let growing = u.ratio(1, 2)?;
        Ok(if growing {
            Self::Growing
        } else {
            Self::Fixed { spare }
        })
    }
}

impl<'a> Arbitrary<'a> for Synthetic {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let version = if u.ratio(1, 5)? { 2 } else { 3 };
        let cluster_bits = *u.choose(&CLUSTER_BITS)?;
        let new = version == 3;
        let refcount_order = if new { u.int_in_range(0..=6)? } else { 4 };
        let allocation = allocation(u, cluster_bits, refcount_order)?;
        let scattered = matches!(allocation, Allocation::Scattered { .. });
        let mut image = Self {
            version,
            cluster_bits,
            refcount_order,
            extended_l2: new && cluster_bits >= 14 && u.ratio(1, 2)?,
            allocation,
            structures: u.arbitrary()?,
            slack_sectors: *u.choose(&[0, 0, 1, 7, 1 << 12])?,
            // A LUKS header needs thousands of clusters in a row, which scattering leaves none of.
            luks: u.ratio(1, 16)? && !scattered,
            backing: u.ratio(1, 8)?.then(|| "base.raw".to_owned()),
            feature_names: u.ratio(1, 4)?,
            free_tail: *u.choose(&[0, 0, 0, 1, 5, 70])?,
            ..Self::default()
        };
        guest(u, &mut image)?;
        snapshots(u, &mut image)?;
        if new && image.virtual_size() > 0 {
            bitmaps(u, &mut image)?;
        }
        for _ in 0..u.int_in_range(0..=2)? {
            image
                .unknown_extensions
                .push(u.int_in_range(0..=UNKNOWN_EXTENSION_MAX)?);
        }
        Ok(image)
    }
}

/// Patterns that keep the file under a few hundred GiB, all holes.
fn allocation(
    u: &mut Unstructured<'_>,
    cluster_bits: u32,
    refcount_order: u32,
) -> Result<Allocation> {
    let range_bits = cluster_bits + 3 - refcount_order;
    Ok(match u.int_in_range(0..=5)? {
        2 => Allocation::Striped {
            step: (*u.choose(&[2, 3, 4, 7, 64, 1000])?).min(1 << (STRETCH_BITS - cluster_bits)),
        },
        3 if range_bits + cluster_bits <= STRETCH_BITS => Allocation::OneARange {
            place: u.int_in_range(0..=4096)?,
        },
        4 => Allocation::AfterHole {
            clusters: *u.choose(&[1, 2, 5, 63, 64, 300])?,
        },
        5 => Allocation::Scattered {
            seed: u.int_in_range(0..=0xffff)?,
            span: SCATTER_SPAN,
        },
        _ => Allocation::Dense,
    })
}

impl<'a> Arbitrary<'a> for Structures {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        if u.ratio(1, 4)? {
            return Ok(Self::Absent);
        }
        Ok(Self::Correct {
            spare_reftable_clusters: *u.choose(&[0, 0, 0, 1, 3])?,
        })
    }
}

fn guest(u: &mut Unstructured<'_>, image: &mut Synthetic) -> Result<()> {
    let mut left = GUEST_MAX;
    for _ in 0..u.int_in_range(0..=6)? {
        let clusters = u.int_in_range(1..=left.min(16))?;
        left -= clusters;
        let skip = *u.choose(&[0, 0, 0, 1, 3, 62, 500])?;
        let content = content(u, image)?;
        image.guest.push(Run {
            skip,
            clusters,
            content,
        });
        if left == 0 {
            break;
        }
    }
    Ok(())
}

fn content(u: &mut Unstructured<'_>, image: &Synthetic) -> Result<Content> {
    Ok(match u.int_in_range(0..=7)? {
        0 | 1 => Content::Compressed {
            incompressible: u.int_in_range(0..=(1 << image.cluster_bits) / 2)?,
        },
        2 if image.version == 3 => Content::Preallocated,
        3 if image.version == 3 => Content::Zero,
        4 | 5 if image.extended_l2 => {
            let allocated = u.arbitrary()?;
            let zero: u32 = u.arbitrary()?;
            Content::Subclusters {
                allocated,
                zero: zero & !allocated,
            }
        }
        _ => Content::Data,
    })
}

/// Snapshots, no more than the refcounts can count; sometimes just as many.
fn snapshots(u: &mut Unstructured<'_>, image: &mut Synthetic) -> Result<()> {
    let max = refcount::largest(image.refcount_order);
    let mut left = u32::try_from(max - 1).unwrap_or(u32::MAX);
    for _ in 0..u.int_in_range(0..=2)? {
        let sharing = *u.choose(&[Sharing::Tables, Sharing::Data, Sharing::Nothing])?;
        let most = match sharing {
            Sharing::Nothing => 2,
            Sharing::Data => left.min(3),
            // With 4-bit refcounts up to the largest count.
            Sharing::Tables => left.min(14),
        };
        if most == 0 {
            continue;
        }
        let count = if u.ratio(1, 4)? { most } else { most.min(2) };
        if sharing != Sharing::Nothing {
            left -= count;
        }
        image.snapshots.push(Snapshots { count, sharing });
    }
    Ok(())
}

fn bitmaps(u: &mut Unstructured<'_>, image: &mut Synthetic) -> Result<()> {
    let most = 2 - u32::from(image.luks || image.backing.is_some());
    for _ in 0..u.int_in_range(0..=most)? {
        let granularity_bits = *u.choose(&[9, 12, 16, 31])?;
        let bits = image.virtual_size().div_ceil(1 << granularity_bits);
        let entries = bits.div_ceil(8 << image.cluster_bits);
        let entries = u32::try_from(entries).unwrap_or(u32::MAX).min(8);
        let clusters = u.int_in_range(0..=entries)?;
        image.bitmaps.push(Bitmap {
            granularity_bits,
            clusters,
            all_ones: u.int_in_range(0..=entries - clusters)?,
        });
    }
    Ok(())
}
