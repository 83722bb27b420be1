//! What the properties are asked, and the view of the guest that they are asked about.

use std::collections::BTreeMap;

use proptest::prelude::*;
use recount_oracle::audit::{Audit, LayerId, Mapping, audit};
use recount_oracle::case::Case;
use recount_oracle::case::damage::{ReadWriteAt, SparseBytes};
use recount_oracle::properties::{
    Property, Verdict, bounded_cost, clean_afterwards, counts_every_cluster, idempotent,
    keeps_what_it_cannot_follow, leaves_data_alone, no_leaks, no_overlap_bytes,
};
use recount_oracle::run::{Before, ImageRepair, Run, run};

/// The image of a case and its repair; `None` when nobody can open such an image.
///
/// # Panics
///
/// If a case is impossible, which no strategy gives.
#[must_use]
pub fn prepare(case: &Case) -> Option<(Before, ImageRepair)> {
    match ImageRepair::new(case) {
        Ok(prepared) => Some(prepared),
        Err(recount_oracle::run::ImageError::Unreadable(_)) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Asks one property of a run in which nothing went wrong.
///
/// # Panics
///
/// If the property is not one that looks at a single run of an image.
pub fn ask(
    property: Property,
    before: &Before,
    quiet: &Run,
    repair: &ImageRepair,
) -> Result<(), TestCaseError> {
    let verdict = match property {
        Property::CountsEveryCluster => counts_every_cluster::judge(before, quiet),
        Property::NoOverlap => no_overlap_bytes::judge(before, quiet),
        Property::LeavesDataAlone => leaves_data_alone::judge(before, quiet),
        Property::KeepsWhatItCannotFollow => keeps_what_it_cannot_follow::judge(before, quiet),
        Property::NoLeaks => no_leaks::judge(before, quiet),
        Property::Idempotent => idempotent::judge(before, quiet, repair),
        Property::CleanAfterwards => clean_afterwards::judge(before, quiet),
        Property::BoundedCost => bounded_cost::judge(before, quiet),
        other => panic!("{other} is not asked of one run of an image"),
    };
    holds(property, verdict)
}

/// An error when a property fails.
pub fn holds(property: Property, verdict: Verdict) -> Result<(), TestCaseError> {
    match verdict {
        Verdict::Fails(failure) => Err(TestCaseError::fail(format!("{property}: {failure}"))),
        Verdict::Holds | Verdict::NotApplicable => Ok(()),
    }
}

/// Repairs these bytes with nothing going wrong; what they are then, and what the audit says.
pub fn repaired(
    bytes: SparseBytes,
    capacity: Option<u64>,
    repair: &ImageRepair,
) -> Result<(SparseBytes, Audit), TestCaseError> {
    let fail = |error: &dyn std::fmt::Display| TestCaseError::fail(error.to_string());
    let sector = recount_oracle::disk::SECTOR;
    let kind = recount_oracle::properties::reading::Kind::Image;
    let before = Before::new(bytes, sector, capacity, kind).map_err(|error| fail(&error))?;
    let run = run(repair, &before, &[]);
    run.outcome.map_err(|error| fail(&error))?;
    let after = audit(&run.after).map_err(|error| fail(&error))?;
    Ok((run.after, after))
}

/// An error when the audit finds anything at all.
pub fn is_clean(audit: &Audit) -> Result<(), TestCaseError> {
    let wrong = audit.corruptions.iter().chain(&audit.copied);
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
#[must_use]
pub fn view(audit: &Audit, bytes: &SparseBytes) -> View {
    let size = audit.header.cluster_size();
    let read = |offset: u64, length: u64| {
        let present = ReadWriteAt::len(bytes).saturating_sub(offset).min(length);
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
            let length = if offset == 0 { 0 } else { size };
            ("subclusters", parts, read(offset, length))
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
