//! What the properties are asked, and the view of the guest that they are asked about.

use std::collections::BTreeMap;
use std::fmt::Display;

use proptest::prelude::*;
use recount_oracle::audit::{Audit, LayerId, Mapping, audit};
use recount_oracle::case::Case;
use recount_oracle::case::build::build;
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::properties::reading::Kind;
use recount_oracle::properties::undo_restores::Points;
use recount_oracle::properties::{Property, Verdict, judge_all, unread};
use recount_oracle::run::{Before, Run, run};
use recount_subjects::ImageRepair;

use crate::{Asked, check};

/// Holds a property against cases of which the image can be opened, as [`check`] does. Of another one
/// it is asked what the engine itself can tell: it is refused, or repaired for good.
///
/// # Panics
///
/// As [`check`]; and if a case is impossible, which no strategy gives.
pub fn check_opened(
    name: &str,
    regressions: Option<&'static str>,
    cases: u32,
    strategy: impl Strategy<Value = Case>,
    property: impl Fn(&Case, &Before, &ImageRepair) -> Result<Asked, TestCaseError>,
) {
    check(name, regressions, cases, strategy, |case| {
        let built = build(case).expect("strategies give possible cases");
        let repair = ImageRepair::by(case.algorithm);
        match Before::new(built.bytes.clone(), built.capacity, Kind::Image) {
            Ok(before) => property(case, &before, &repair),
            Err(_) => match unread::judge(built.bytes, built.capacity, &repair) {
                Ok(()) => Ok(Asked::Nothing),
                Err((property, failure)) => Err(fails(format!("{property}: {failure}"))),
            },
        }
    });
}

/// An error of a test, from any other.
pub fn fails(error: impl Display) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}

/// Repairs with nothing going wrong, and asks every property.
pub fn judged(before: &Before, repair: &ImageRepair) -> Result<Run, TestCaseError> {
    let run = run(repair, before, &[]);
    hold(judge_all(before, &run, repair, Points::Spread(1)))?;
    Ok(run)
}

/// An error when a property fails.
pub fn hold(verdicts: Vec<(Property, Verdict)>) -> Result<(), TestCaseError> {
    for (property, verdict) in verdicts {
        if let Verdict::Fails(failure) = verdict {
            return Err(fails(format!("{property}: {failure}")));
        }
    }
    Ok(())
}

/// Whether only refcounts can be wrong in an image, so that it has to be clean after this repair.
pub fn is_sound(before: &Before, run: &Run) -> bool {
    let repaired = run.repaired(before);
    repaired.is_some_and(|repaired| repaired.damage.is_empty())
}

/// Repairs these bytes with nothing going wrong, and asks every property; what they are then, and
/// what the audit says.
pub fn repaired(
    bytes: SparseBytes,
    capacity: Option<u64>,
    repair: &ImageRepair,
) -> Result<(SparseBytes, Audit), TestCaseError> {
    let before = Before::new(bytes, capacity, Kind::Image).map_err(fails)?;
    let run = judged(&before, repair)?;
    run.outcome.map_err(fails)?;
    let after = audit(&run.after).map_err(fails)?;
    Ok((run.after, after))
}

/// An error when the audit finds anything at all.
pub fn is_clean(audit: &Audit) -> Result<(), TestCaseError> {
    let wrong = audit.corruptions.iter().chain(&audit.qemu.copied);
    let wrong: Vec<String> = wrong.map(ToString::to_string).take(3).collect();
    let counts = audit.mismatches.iter().take(3).collect::<Vec<_>>();
    prop_assert!(audit.is_clean(), "not clean: {wrong:?} {counts:?}");
    Ok(())
}

/// What a guest reads from one cluster: how it is mapped, and the bytes that this leads to. Where
/// they lie does not matter to it.
pub type Seen = (&'static str, u64, Vec<u8>);

/// What the guest sees in each layer.
pub type View = BTreeMap<LayerId, BTreeMap<u64, Seen>>;

/// What the guest sees in each layer of an image, cluster by cluster.
pub fn view(audit: &Audit, bytes: &SparseBytes) -> View {
    let size = audit.header.cluster_size();
    let read = |offset: u64, length: u64| {
        let present = bytes.len().saturating_sub(offset).min(length);
        bytes.bytes(offset, present as usize)
    };
    let seen = |mapping: &Mapping| match *mapping {
        Mapping::Data { offset } => ("data", 0, read(offset, size)),
        Mapping::Subclusters {
            offset,
            allocated,
            zero,
        } => {
            let parts = u64::from(allocated) << 32 | u64::from(zero);
            let length = size / u64::from(u32::BITS);
            // What lies in the others is not the guest's.
            let indices = (0..u32::BITS).filter(|index| allocated >> index & 1 == 1);
            let bytes = indices.flat_map(|index| read(offset + u64::from(index) * length, length));
            ("subclusters", parts, bytes.collect())
        }
        Mapping::Preallocated { .. } | Mapping::Zero => ("zeros", 0, Vec::new()),
        Mapping::Compressed { offset, bytes } => ("compressed", 0, read(offset, bytes)),
    };
    let layers = audit.layers.iter().map(|layer| {
        let map = layer.map.iter();
        (layer.id, map.map(|(&at, to)| (at, seen(to))).collect())
    });
    layers.collect()
}
