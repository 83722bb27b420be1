//! The refcounts after a repair: `counts-every-cluster`, `no-leaks`, `clean-afterwards`; and where
//! the image is damaged, `keeps-what-it-cannot-follow` and `evidence-stays`.

use super::Failure;
use super::reading::Reading;
use crate::audit::{Audit, Corruption, Wrong, counters};
use crate::class::diagnose;
use crate::run::{Before, Run};
use crate::spec::{Counts, Damage};

/// Bits 0 and 1 of the incompatible features (specification, "Header").
const DIRTY_AND_CORRUPT: u64 = 3;

/// Each cluster that is referred to has its number of references as its refcount, as far as that can
/// count, the structures' own clusters included; or what is kept. With `-r leaks` only what is too
/// high has changed (rule 12). What has a refcount and no reference is the matter of `no-leaks`.
pub(super) fn every_cluster(before: &Before, run: &Run) -> Result<(), Failure> {
    let after = run.reading(before)?;
    for (&cluster, &references) in &after.references {
        let due = references
            .max(run.kept(before, cluster))
            .min(after.max_refcount);
        let due = if run.ask().options.only_leaks {
            let said = before.reading.count(cluster);
            said.map(|said| said.min(due))
        } else {
            Some(due)
        };
        let shown = |count: Option<u64>| count.map_or("unreadable".to_owned(), |n| n.to_string());
        let count = after.count(cluster);
        Failure::unless(count == due, || {
            format!(
                "the refcount of cluster {cluster} is {} after the repair; it should be {}: {}",
                shown(count),
                shown(due),
                after.referrers(cluster)
            )
        })?;
    }
    Ok(())
}

/// Nothing is allocated without a reference afterwards, except what the specification keeps.
pub(super) fn no_leaks(before: &Before, run: &Run) -> Result<(), Failure> {
    let after = run.reading(before)?;
    let mut unused = after.counts().iter().filter(|&(&cluster, _)| {
        after.references_to(cluster) == 0
            && after.is_checked(cluster)
            && run.kept(before, cluster) == 0
    });
    unused.next().map_or(Ok(()), |(cluster, count)| {
        Err(Failure::new(format!(
            "cluster {cluster} has refcount {count} after the repair, and nothing refers to it"
        )))
    })
}

/// The next check finds nothing, and the image is not marked as dirty or corrupt any more. A toy's
/// check: every refcount is the number of references.
pub(super) fn clean(before: &Before, run: &Run) -> Result<(), Failure> {
    let after = run.reading(before)?;
    if let Some(audit) = after.audit() {
        return clean_image(audit);
    }
    for cluster in after.clusters_in_use() {
        let count = after.count(cluster).unwrap_or(0);
        let due = after.references_to(cluster).min(after.max_refcount);
        Failure::unless(count == due, || {
            format!(
                "the check after the repair finds refcount {count} at cluster {cluster}: {}",
                after.referrers(cluster)
            )
        })?;
    }
    Ok(())
}

fn clean_image(audit: &Audit) -> Result<(), Failure> {
    Failure::unless(
        audit.header.incompatible & DIRTY_AND_CORRUPT == 0,
        || "nothing is wrong with the image, but it is still marked so",
    )?;
    let counters = counters(audit);
    let corruptions = audit.corruptions.iter().chain(&audit.qemu.copied);
    let mismatches = audit.mismatches.iter().map(|wrong| {
        format!(
            "cluster {} has refcount {} and {} references",
            wrong.cluster, wrong.on_disk, wrong.references
        )
    });
    Failure::unless(counters.exit_code() == 0, || {
        let mut wrong = corruptions.map(ToString::to_string).chain(mismatches);
        format!(
            "the check after the repair finds {} corruptions, {} leaks and {} errors; first: {}",
            counters.corruptions,
            counters.leaks,
            counters.check_errors,
            wrong.next().unwrap_or_default()
        )
    })
}

/// Of the clusters that the specification keeps because the image is damaged, none is released,
/// discarded or written over, nor a refcount lowered, so that mending the damage later brings
/// everything back. What happens to clusters with references is the matter of `leaves-data-alone`.
pub(super) fn kept(before: &Before, run: &Run) -> Result<(), Failure> {
    let Some(repaired) = run.repaired(before) else {
        return Ok(());
    };
    let damage = repaired.damage.first();
    keeps(before, run, run.reading(before)?, &repaired.kept, damage)
}

/// The same of any program, however its repair ended: of `kept` refcounts none is lower in `after`.
pub fn keeps(
    before: &Before,
    run: &Run,
    after: &Reading,
    kept: &Counts,
    damage: Option<&Damage>,
) -> Result<(), Failure> {
    let old = &before.reading;
    let bytes = [&before.bytes, &run.after];
    let damage = damage.map_or("damage".to_owned(), Damage::to_string);
    for (&cluster, &count) in kept {
        let now = after.count(cluster);
        Failure::unless(now.is_none_or(|now| now >= count), || {
            let now = now.unwrap_or_default();
            format!(
                "cluster {cluster} had refcount {count} and has {now}, although the image is \
                 damaged: {damage}"
            )
        })?;
        let [before, after] = bytes.map(|bytes| {
            let start = cluster << old.cluster_bits;
            bytes.bytes(start, old.cluster_size() as usize)
        });
        Failure::unless(old.references_to(cluster) > 0 || before == after, || {
            format!(
                "cluster {cluster} was allocated and has been written over, although the image is \
                 damaged: {damage}"
            )
        })?;
    }
    Ok(())
}

/// What was seen to be damaged is seen to be damaged afterwards, and the next repair keeps what this
/// one keeps.
pub(super) fn evidence_stays(before: &Before, run: &Run) -> Result<(), Failure> {
    let (Some(repaired), Some(audit)) = (run.repaired(before), run.reading(before)?.audit()) else {
        return Ok(());
    };
    let found = diagnose(&run.after, audit).map_err(Failure::new)?;
    let mut damage = repaired.damage.iter();
    // Both lists are in the same order.
    let mut left = found.damage.iter();
    let unseen = damage.find(|one| !left.any(|other| is_same(one, other)));
    unseen.map_or(Ok(()), |unseen| {
        Err(Failure::new(format!("{unseen} cannot be seen any more")))
    })?;
    Failure::unless(found.kept == repaired.kept, || {
        format!(
            "the next repair would keep {:?}, this one keeps {:?}",
            found.kept, repaired.kept
        )
    })
}

/// Whether two damages are one: COPIED of an entry may be set right (rule 6).
fn is_same(one: &Damage, other: &Damage) -> bool {
    let entry = |damage: &Damage| match *damage {
        Damage::Corruption(Corruption {
            referrer,
            wrong: Wrong::Reserved(entry),
        }) => Some((referrer, entry << 1)),
        _ => None,
    };
    one == other || entry(one).is_some() && entry(one) == entry(other)
}
