//! Whole images laid out by the builder.

use proptest::collection::vec;
use proptest::prelude::*;
use recount_oracle::case::synthetic::{
    Allocation, Bitmap, Content, Run, Sharing, Snapshots, Structures, Synthetic,
};

/// Cluster sizes as binary logarithms, simplest first and small ones more often.
const CLUSTER_BITS: [u32; 12] = [9, 9, 9, 9, 10, 11, 12, 12, 14, 16, 18, 21];
/// Binary logarithm of the bytes from one used cluster to the next, at most.
const STRETCH_BITS: u32 = 27;

/// What everything else has to respect.
#[derive(Clone, Copy, Debug)]
struct Format {
    version: u32,
    cluster_bits: u32,
    refcount_order: u32,
    extended_l2: bool,
}

/// An image with everything that the format has.
pub fn synthetic() -> impl Strategy<Value = Synthetic> {
    (format().prop_flat_map(body), extras()).prop_map(|(image, extras)| {
        let mut image = Synthetic {
            slack_sectors: extras.slack_sectors,
            backing: extras.backing.then(|| "base.raw".to_owned()),
            feature_names: extras.feature_names,
            free_tail: extras.free_tail,
            // A LUKS header needs thousands of clusters in a row, which scattering leaves none of.
            luks: extras.luks && !matches!(image.allocation, Allocation::Scattered { .. }),
            ..image
        };
        let entries = |bitmap: &Bitmap| {
            let bits = image.virtual_size().div_ceil(1 << bitmap.granularity_bits);
            bits.div_ceil(8 << image.cluster_bits)
        };
        let fits = |bitmap: &Bitmap| {
            u64::from(bitmap.clusters) + u64::from(bitmap.all_ones) <= entries(bitmap)
        };
        if image.version == 3 && image.virtual_size() > 0 {
            image.bitmaps = extras.bitmaps.into_iter().filter(fits).collect();
        }
        image
    })
}

fn format() -> impl Strategy<Value = Format> {
    let bits = prop::sample::select(CLUSTER_BITS.to_vec());
    (bits, 0_u32..=6, any::<bool>(), 0_u32..5).prop_map(|(cluster_bits, order, extended, old)| {
        let version = if old == 4 { 2 } else { 3 };
        Format {
            version,
            cluster_bits,
            refcount_order: if version == 2 { 4 } else { order },
            extended_l2: extended && version == 3 && cluster_bits >= 14,
        }
    })
}

fn body(format: Format) -> impl Strategy<Value = Synthetic> {
    let guest = vec(run(format), 0..6);
    let picked = vec((any::<u32>(), 0_u32..3), 0..3);
    let structures = prop_oneof![
        Just(Structures::Absent),
        (0_u32..3).prop_map(|spare_reftable_clusters| Structures::Correct {
            spare_reftable_clusters
        }),
    ];
    (guest, picked, allocation(format), structures).prop_map(
        move |(guest, picked, allocation, structures)| Synthetic {
            version: format.version,
            cluster_bits: format.cluster_bits,
            refcount_order: format.refcount_order,
            extended_l2: format.extended_l2,
            allocation,
            structures,
            guest,
            snapshots: snapshots(format, &picked),
            ..Synthetic::default()
        },
    )
}

/// No more sharing snapshots than the refcounts can count.
fn snapshots(format: Format, picked: &[(u32, u32)]) -> Vec<Snapshots> {
    let max = u64::MAX >> (64 - (1 << format.refcount_order));
    let mut left = u32::try_from(max - 1).unwrap_or(u32::MAX);
    let mut groups = Vec::new();
    for &(count, sharing) in picked {
        let (sharing, most) = match sharing {
            0 => (Sharing::Tables, left.min(14)),
            1 => (Sharing::Data, left.min(3)),
            _ => (Sharing::Nothing, 2),
        };
        if most > 0 {
            let count = 1 + count % most;
            if sharing != Sharing::Nothing {
                left -= count;
            }
            groups.push(Snapshots { count, sharing });
        }
    }
    groups
}

fn run(format: Format) -> impl Strategy<Value = Run> {
    let skip = prop::sample::select(vec![0_u64, 1, 3, 62, 500]);
    (skip, 1_u32..12, content(format)).prop_map(|(skip, clusters, content)| Run {
        skip,
        clusters,
        content,
    })
}

fn content(format: Format) -> BoxedStrategy<Content> {
    let half = 1_u32 << (format.cluster_bits - 1);
    let compressed = (0..=half).prop_map(|incompressible| Content::Compressed { incompressible });
    let always = prop_oneof![2 => Just(Content::Data), 1 => compressed];
    let zeros = prop::sample::select(vec![Content::Zero, Content::Preallocated]);
    let parts = any::<(u32, u32)>().prop_map(|(allocated, zero)| Content::Subclusters {
        allocated,
        zero: zero & !allocated,
    });
    match (format.version, format.extended_l2) {
        (2, _) => always.boxed(),
        (_, false) => prop_oneof![3 => always, 1 => zeros].boxed(),
        (_, true) => prop_oneof![3 => always, 1 => zeros, 2 => parts].boxed(),
    }
}

fn allocation(format: Format) -> BoxedStrategy<Allocation> {
    let stretch = 1_u32 << (STRETCH_BITS - format.cluster_bits);
    let simple = prop_oneof![
        Just(Allocation::Dense),
        (1_u32..300).prop_map(|clusters| Allocation::AfterHole { clusters }),
        (2_u32..1000).prop_map(move |step| Allocation::Striped {
            step: step.min(stretch)
        }),
        (0_u64..0xffff).prop_map(|seed| Allocation::Scattered { seed, span: 16_384 }),
    ];
    let range_bits = format.cluster_bits + 3 - format.refcount_order;
    if range_bits + format.cluster_bits > STRETCH_BITS {
        return simple.boxed();
    }
    let one_a_range = (0_u32..4096).prop_map(|place| Allocation::OneARange { place });
    prop_oneof![4 => simple, 1 => one_a_range].boxed()
}

#[derive(Clone, Debug)]
struct Extras {
    slack_sectors: u64,
    free_tail: u32,
    luks: bool,
    backing: bool,
    feature_names: bool,
    bitmaps: Vec<Bitmap>,
}

fn extras() -> impl Strategy<Value = Extras> {
    let slack = prop::sample::select(vec![0_u64, 1, 7, 4096]);
    let granularity = prop::sample::select(vec![16_u32, 9, 12, 31]);
    let bitmap =
        (granularity, 0_u32..3, 0_u32..3).prop_map(|(granularity_bits, clusters, ones)| Bitmap {
            granularity_bits,
            clusters,
            all_ones: ones,
        });
    let rarely = prop::bool::weighted(0.06);
    (
        slack,
        0_u32..70,
        rarely,
        any::<(bool, bool)>(),
        vec(bitmap, 0..3),
    )
        .prop_map(
            |(slack_sectors, free_tail, luks, (backing, feature_names), bitmaps)| Extras {
                slack_sectors,
                free_tail,
                luks,
                backing,
                feature_names,
                bitmaps,
            },
        )
}
