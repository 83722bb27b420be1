//! What a repair cannot follow it keeps. One entry of an L1, L2, snapshot or bitmap table is
//! damaged so that it leads past the end of the file or into a cluster; the image is repaired; the
//! entry is put right; the image is repaired again. Then everything that any layer of it ever held
//! is back, and the image is clean. A failure shrinks to a case file; seeds that once failed are in
//! `proptest-regressions/` and are tried first.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use recount_oracle::audit::{Audit, Corruption, Referrer, Wrong, audit};
use recount_oracle::case::build::build;
use recount_oracle::case::damage::{
    Among, Applied, Damage, PointerDamage, ReftableDamage, SparseBytes, To,
};
use recount_oracle::case::{Algorithm, Case, Image, Pick, Schedule, StorageLimit, text};
use recount_oracle::properties::reading::Kind;
use recount_oracle::run::Before;
use recount_oracle::spec::Damage as Damaged;
use recount_proptests::judge::{check_opened, fails, is_clean, judged, repaired, view};
use recount_proptests::{Asked, check, entry_damaged, nowhere, synthetic};
use recount_subjects::ImageRepair;

const REGRESSIONS: Option<&str> = Some("proptest-regressions/keeping.txt");

#[test]
fn nothing_allocated_is_lost_while_an_entry_leads_nowhere() {
    let name = "nothing_allocated_is_lost_while_an_entry_leads_nowhere";
    check_opened(
        name,
        REGRESSIONS,
        250,
        entry_damaged(),
        |_, before, repair| {
            let run = judged(before, repair)?;
            let kept = run
                .repaired(before)
                .is_some_and(|repaired| !repaired.damage.is_empty());
            Ok(if kept { Asked::Judged } else { Asked::Nothing })
        },
    );
}

#[test]
fn everything_is_back_when_the_entry_is_put_right() {
    let name = "everything_is_back_when_the_entry_is_put_right";
    check(name, REGRESSIONS, 250, trustworthy(), |case| {
        let whole = undamaged(case)?;
        let built = build(case).map_err(fails)?;
        let bytes = built.bytes;
        let entry = built.damage.last().cloned().unwrap_or_default();
        prop_assume!(!entry.is_nothing() && audit(&bytes).is_ok());
        prop_assume!(leads_nowhere(&bytes));

        let mut repair = ImageRepair::by(case.algorithm);
        let damaged = Before::new(bytes, None, Kind::Image).map_err(fails)?;
        // Where there is no room but in clusters that may hold data, it is refused, and all is there.
        let mut bytes = judged(&damaged, &repair)?.after;
        put_right(&mut bytes, &entry);
        let right = Before::new(bytes, None, Kind::Image).map_err(fails)?;
        let run = judged(&right, &repair)?;
        let damage = run.repaired(&right).map(|repaired| &repaired.damage);
        // What an old reftable or refblock holds can look like entries of an L2 table. Where something
        // kept one, or a table gone astray lay over it, it reads as a lost one.
        let old = structures(&whole.0);
        let is_old =
            |damage: &Damaged| matches!(damage, Damaged::At("lost table", at) if old.contains(at));
        prop_assert!(
            damage.is_some_and(|found| found.iter().all(is_old)),
            "{damage:?}"
        );
        // Where there is none, there is nothing to release.
        repair.options.release_unreachable = damage.is_some_and(|found| !found.is_empty());
        let (bytes, after) = repaired(run.after, None, &repair)?;
        is_clean(&after)?;
        let before = view(&whole.0, &whole.1);
        prop_assert!(
            view(&after, &bytes) == before,
            "not all of the data is back"
        );
        prop_assert_eq!(&after.bitmaps, &whole.0.bitmaps);
        Ok(Asked::Judged)
    });
}

/// The image of a case before any damage.
fn undamaged(case: &Case) -> Result<(Audit, SparseBytes), TestCaseError> {
    let whole = Case {
        damage: Vec::new(),
        ..case.clone()
    };
    let bytes = build(&whole).map_err(fails)?.bytes;
    let audit = audit(&bytes).map_err(fails)?;
    Ok((audit, bytes))
}

/// The clusters of the reftable and the refblocks.
fn structures(audit: &Audit) -> BTreeSet<u64> {
    let (header, size) = (&audit.header, audit.header.cluster_size());
    let first = header.reftable_offset / size;
    let reftable = first..first + header.reftable_clusters;
    let refblocks = audit.disk.refblocks().map(|(_, at)| at / size);
    reftable.chain(refblocks).collect()
}

/// Whether there is anything that cannot be followed: with clusters of one sector an entry that
/// leads astray leads to another cluster. And whether the image can be checked at all.
fn leads_nowhere(bytes: &SparseBytes) -> bool {
    audit(bytes).is_ok_and(|audit| audit.blocked == 0 && has_wrong_entry(&audit))
}

/// Whether an entry is wrong that refers to something else than refcounts, and may be all that
/// refers to it.
fn has_wrong_entry(audit: &Audit) -> bool {
    let mut corruptions = audit.corruptions.iter();
    corruptions.any(|corruption| {
        let overflow = matches!(corruption.wrong, Wrong::TooManyReferences(_));
        !overflow && !corruption.referrer.is_structure()
    })
}

/// Undoes an act of damage.
fn put_right(bytes: &mut SparseBytes, entry: &Applied) {
    for change in &entry.changes {
        bytes.write_at(change.at, &change.before).expect("memory");
    }
}

/// An entry that leads nowhere in an image whose refcounts never claim that a cluster in use is
/// free: they are right, too high, or cannot be read.
fn trustworthy() -> impl Strategy<Value = Case> {
    let pick = || any::<u32>().prop_map(Pick);
    let harmless = prop_oneof![
        pick().prop_map(|cluster| Damage::Refcount {
            among: Among::Allocated,
            cluster,
            to: To::Up
        }),
        pick().prop_map(|cluster| Damage::Refcount {
            among: Among::Free,
            cluster,
            to: To::Up
        }),
        Just(Damage::Reftable(ReftableDamage::Gone)),
        pick().prop_map(|entry| Damage::ReftableEntry {
            entry,
            becomes: PointerDamage::Cleared
        }),
    ];
    let damage = (vec(harmless, 0..3), nowhere());
    let algorithms = prop::sample::select(&[Algorithm::Planned][..]);
    (synthetic(), damage, algorithms).prop_map(|(image, (mut damage, entry), algorithm)| {
        damage.push(entry);
        Case {
            image: Image::Synthetic(image),
            damage,
            storage: StorageLimit::Growing,
            algorithm,
            schedule: Schedule::Quiet,
        }
    })
}

/// Every refcount of the image is as high as it can be, and kept so because of an entry of the
/// first L2 table.
const ALL_KEPT: &str = r#"
version = 1

[case]
storage = "growing"
algorithm = "planned"

[case.image.synthetic]
version = 3
cluster_bits = 16
refcount_order = 3
allocation = "dense"

[[case.image.synthetic.guest]]
clusters = 3
content = "data"

[[case.image.synthetic.guest]]
skip = 8189
clusters = 9
content = "data"

[[case.damage]]

[case.damage.refblock]
refblock = 0
becomes = "ones"

[[case.damage]]

[case.damage.l2-entry]
entry = 0

[case.damage.l2-entry.becomes.shifted]
sectors = 5
"#;

#[test]
fn an_l2_table_is_not_taken_for_something_else_because_its_refcount_is_kept() {
    let file = text::parse(Path::new("all-kept.toml"), ALL_KEPT).expect("a case file");
    let bytes = build(&file.case).expect("an image").bytes;
    let repair = ImageRepair::by(file.case.algorithm);
    let (_, after) = repaired(bytes, None, &repair).expect("a repair");
    let in_second = |corruption: &&Corruption| {
        let Referrer::Data { l1_index, .. } = corruption.referrer else {
            return true;
        };
        l1_index > 0
    };
    assert_eq!(after.qemu.copied.iter().find(in_second), None);
    assert!(has_wrong_entry(&after));
    assert!(!after.mismatches.is_empty(), "nothing is kept");
}
