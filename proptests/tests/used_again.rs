//! Images that live on: damaged, repaired, written to by a guest that takes whatever the image's
//! refcounts call free, damaged and repaired again. A model remembers what was written; after each
//! repair the image is clean, the active layer reads as the model says and the snapshots as ever.
//! The sequence shrinks as a whole; seeds that once failed are in `proptest-regressions/` and are
//! tried first.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use recount_oracle::audit::{Audit, LayerId, Mapping, Mismatch, audit};
use recount_oracle::case::build::build;
use recount_oracle::case::damage::{Damage, PointerDamage, SparseBytes, apply};
use recount_oracle::case::synthetic::{Content, Run, Synthetic};
use recount_oracle::case::{Algorithm, Case, Image, Pick, Schedule, StorageLimit};
use recount_proptests::judge::{View, fails, repaired, view};
use recount_proptests::{Guest, refcounts, synthetic};
use recount_subjects::ImageRepair;

/// Clusters larger than this only make writing slower.
const CLUSTER_BITS_MAX: u32 = 16;

/// What happens between two looks at the image.
#[derive(Clone, Debug)]
struct Round {
    damage: Vec<Damage>,
    algorithm: Algorithm,
    /// Guest clusters, modulo those there are, and the byte that fills them.
    writes: Vec<(u32, u8)>,
}

fn round() -> impl Strategy<Value = Round> {
    let pick = || any::<u32>().prop_map(Pick);
    let copied = prop_oneof![
        pick().prop_map(|entry| Damage::L2Entry {
            entry,
            becomes: PointerDamage::Copied
        }),
        pick().prop_map(|entry| Damage::L1Entry {
            table: Pick(0),
            entry,
            becomes: PointerDamage::Copied
        }),
    ];
    let algorithm = prop_oneof![4 => Just(Algorithm::Planned), 1 => Just(Algorithm::FirstFit)];
    let writes = vec((any::<u32>(), any::<u8>()), 0..12);
    // Bits 63 first: a table that is no longer led to cannot be damaged.
    let damage = (vec(copied, 0..2), refcounts(0)).prop_map(|(mut damage, refcounts)| {
        damage.extend(refcounts);
        damage
    });
    (damage, algorithm, writes).prop_map(|(damage, algorithm, writes)| Round {
        damage,
        algorithm,
        writes,
    })
}

/// An image that the naive guest understands.
fn image() -> impl Strategy<Value = Synthetic> {
    synthetic().prop_filter("the guest knows no subclusters", |image| {
        !image.extended_l2 && image.cluster_bits <= CLUSTER_BITS_MAX && image.virtual_size() > 0
    })
}

/// The image and what it must read as.
struct Life {
    bytes: SparseBytes,
    /// Bit 63 of a compressed entry has no right value that a repair could know.
    has_compressed: bool,
    /// What the guest saw at the start, in every layer.
    first: View,
    written: BTreeMap<u64, u8>,
}

impl Life {
    fn begin(image: Synthetic) -> Self {
        let compressed = |run: &Run| matches!(run.content, Content::Compressed { .. });
        let has_compressed = image.guest.iter().any(compressed);
        let case = Case {
            image: Image::Synthetic(image),
            damage: Vec::new(),
            storage: StorageLimit::Growing,
            algorithm: Algorithm::Planned,
            schedule: Schedule::Quiet,
        };
        let bytes = build(&case).expect("strategies give possible cases").bytes;
        let audit = audit(&bytes).expect("the builder makes images");
        Self {
            first: view(&audit, &bytes),
            written: BTreeMap::new(),
            bytes,
            has_compressed,
        }
    }

    fn live(&mut self, round: &Round) -> Result<(), TestCaseError> {
        for damage in &round.damage {
            if self.has_compressed && matches!(damage, Damage::L2Entry { .. }) {
                continue;
            }
            apply(&mut self.bytes, damage);
        }
        let repair = ImageRepair::by(round.algorithm);
        let bytes = std::mem::take(&mut self.bytes);
        // A sound image is clean then; one with an emptied table may keep leaks.
        let (bytes, after) = repaired(bytes, None, &repair)?;
        self.bytes = bytes;
        only_leaks(&after)?;
        self.compare()?;

        let mut guest = Guest::open(&mut self.bytes);
        for &(cluster, byte) in &round.writes {
            let cluster = u64::from(cluster) % guest.clusters();
            if guest.write(cluster, byte).is_err() {
                break;
            }
            self.written.insert(cluster, byte);
        }
        let after = audit(&self.bytes).map_err(fails)?;
        // A check does not look past the end of the file; refcounts there that are too high are
        // leaks once the file has grown over them, and the next repair's to release.
        only_leaks(&after)?;
        self.compare()
    }

    /// Every layer against the model.
    fn compare(&self) -> Result<(), TestCaseError> {
        let audit = audit(&self.bytes).map_err(fails)?;
        let size = audit.header.cluster_size() as usize;
        let mut now = view(&audit, &self.bytes);
        let mut first = self.first.clone();
        let (Some(now_active), Some(first_active)) =
            (now.remove(&LayerId::Active), first.remove(&LayerId::Active))
        else {
            return Err(TestCaseError::fail("no active layer"));
        };
        prop_assert!(now == first, "a snapshot reads differently");
        for (cluster, seen) in &now_active {
            let expected = match self.written.get(cluster) {
                Some(&byte) => Some(("data", 0, vec![byte; size])),
                None => first_active.get(cluster).cloned(),
            };
            prop_assert!(
                Some(seen) == expected.as_ref(),
                "guest cluster {cluster} is lost"
            );
        }
        let mut expected = self.written.keys().chain(first_active.keys());
        let missing = expected.find(|cluster| !now_active.contains_key(cluster));
        prop_assert_eq!(missing, None, "a guest cluster is gone");
        Ok(())
    }
}

fn only_leaks(audit: &Audit) -> Result<(), TestCaseError> {
    let leaks = audit.mismatches.iter().all(Mismatch::is_leak);
    prop_assert!(leaks && audit.corruptions.is_empty() && audit.qemu.copied.is_empty());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(120),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("proptest-regressions/used_again.txt"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_a_guest_wrote_is_there_after_any_number_of_repairs(
        image in image(),
        rounds in vec(round(), 1..5),
    ) {
        let mut life = Life::begin(image);
        for round in &rounds {
            life.live(round)?;
        }
        let nothing_more = Round {
            damage: Vec::new(),
            algorithm: Algorithm::Planned,
            writes: Vec::new(),
        };
        life.live(&nothing_more)?;
    }
}

#[test]
fn a_guest_that_trusts_wrong_refcounts_is_seen_to_lose_data() {
    let image = Synthetic {
        cluster_bits: 9,
        guest: vec![Run {
            skip: 0,
            clusters: 8,
            content: Content::Data,
        }],
        slack_sectors: 64,
        ..Synthetic::default()
    };
    let mut life = Life::begin(image);
    let audit = audit(&life.bytes).expect("an image");
    let Some(Mapping::Data { offset }) = audit.layers[0].map.get(&0).copied() else {
        panic!("the first cluster has data");
    };
    let zero = Damage::Refcount {
        among: recount_oracle::case::damage::Among::Allocated,
        cluster: Pick((offset / 512) as u32),
        to: recount_oracle::case::damage::To::Zero,
    };
    apply(&mut life.bytes, &zero);
    Guest::open(&mut life.bytes).write(20, 7).expect("room");
    life.written.insert(20, 7);
    let lost = life.compare().expect_err("the guest wrote over cluster 0");
    assert!(
        lost.to_string().contains("guest cluster 0 is lost"),
        "{lost}"
    );
}
