//! The differences from qemu-img that there are in sound images, and in what a read-only check says:
//! data. Each holds only for images of which its precondition is true, and only where both programs
//! ended as it says.

use std::collections::BTreeMap;

use recount_oracle::audit::{Audit, Mismatch, Referrer, Wrong, counters};
use recount_oracle::case::observed::{Ended, Observed, Said};

use super::question::Question::{
    self, CleanAfterRepair, InPlaceRepair, LeaksRepair, ReadOnlyCheck, RebuildVerdict,
    RebuiltLayout,
};
use super::subject::program::FILE_SIZE_EXCEEDED;

/// The most of all cases in which each may show, in parts of a thousand.
const CEILINGS: &str = include_str!("../../differences.toml");
/// With fewer cases a share says nothing.
const ENOUGH_CASES: u64 = 1_000;
/// The first qemu-img that counts reserved bits and contradictory subclusters.
const NEWER_CHECK: (u32, u32) = (6, 2);
/// qemu-img checks files of fewer clusters.
const CLUSTER_LIMIT: u64 = (1 << 31) - 1;
/// Autoclear features that are known (specification, "Header").
const KNOWN_AUTOCLEAR: u64 = 3;
/// Extra data that a version 3 snapshot must have, in bytes.
const EXTRA_MIN: u64 = 16;

/// One difference.
pub struct Difference {
    /// What recount does.
    pub name: &'static str,
    /// What qemu-img does there.
    pub theirs: &'static str,
    /// Where it may show.
    shows_in: &'static [Question],
    /// Of which images, beside which qemu-img.
    holds_of: fn(&Audit, &Observed) -> bool,
    /// How recount ends, and how qemu-img does.
    ends: (OursIs, fn(&Said) -> bool),
}

/// Of the audit of the damaged image, and of how recount ended.
type OursIs = fn(&Audit, &Ours<'_>) -> bool;

/// How recount ended.
pub struct Ours<'a> {
    pub asked: Question,
    pub said: &'a Said,
    /// What the audit says of what it left, where that is known.
    pub after: Option<Audit>,
}

/// It gave up.
fn gave_up(said: &Said) -> bool {
    said.ended == Ended::Code(1) && said.counters.is_none()
}

/// Its file became longer than it may, or it ended by itself.
fn answered_or_grew(said: &Said) -> bool {
    said.is_answer() || said.ended == Ended::Signal(FILE_SIZE_EXCEEDED)
}

fn crashed(said: &Said) -> bool {
    matches!(said.ended, Ended::Signal(_))
}

/// The audit finds nothing wrong with what recount left, and it says so.
fn is_clean(_: &Audit, ours: &Ours<'_>) -> bool {
    ours.said.is_clean() && ours.after.as_ref().is_some_and(Audit::is_clean)
}

/// Exit code and counters are those of the audit.
fn is_as_audited(_: &Audit, ours: &Ours<'_>) -> bool {
    ours.after.as_ref().is_some_and(|audit| {
        let figures = counters(audit);
        let named = figures.named();
        let mut named = named.iter();
        let gave_up = figures.gives_up && ours.said.counters.is_none();
        ours.said.ended == Ended::Code(figures.exit_code())
            && (gave_up
                || named.all(|&(name, count)| i64::try_from(count) == Ok(ours.said.counter(name))))
    })
}

/// All snapshots are there, and it is repaired.
fn keeps_snapshots(before: &Audit, ours: &Ours<'_>) -> bool {
    let has_all = |after: &Audit| after.header.snapshots == before.header.snapshots;
    ours.after.as_ref().is_some_and(has_all) && is_repaired(before, ours)
}

fn has_refused(_: &Audit, ours: &Ours<'_>) -> bool {
    gave_up(ours.said)
}

const CHECK: &[Question] = &[ReadOnlyCheck];
const REPAIRS: &[Question] = &[
    LeaksRepair,
    InPlaceRepair,
    RebuiltLayout,
    RebuildVerdict,
    CleanAfterRepair,
];

/// Whether qemu-img does not check the image at all.
fn refuses(observed: &Observed) -> bool {
    observed.check.counters.is_none()
}

/// Whether qemu-img looks for something else than the image.
const fn needs_more(audit: &Audit) -> bool {
    let header = &audit.header;
    header.crypt_method != 0 || header.external_data() || header.backing
}

const fn lacks_zstd(audit: &Audit, observed: &Observed) -> bool {
    observed.lacks_zstd && audit.header.zstd()
}

fn has_bitmaps(audit: &Audit) -> bool {
    audit.header.bitmaps.is_some()
}

/// Whether qemu-img writes the header before it repairs, and loses the snapshots in doing so.
fn loses_snapshots(audit: &Audit, observed: &Observed) -> bool {
    let unknown = audit.header.autoclear & !KNOWN_AUTOCLEAR != 0;
    observed.loses_snapshots && audit.header.snapshots > 0 && (has_bitmaps(audit) || unknown)
}

fn has_newer_corruptions(audit: &Audit, observed: &Observed) -> bool {
    let newer = |wrong: &Wrong| {
        matches!(
            wrong,
            Wrong::Reserved(_) | Wrong::Subclusters(..) | Wrong::Unaligned(_)
        )
    };
    let mut corruptions = audit.corruptions.iter();
    observed.qemu < NEWER_CHECK && corruptions.any(|corruption| newer(&corruption.wrong))
}

/// Whether a snapshot has less extra data than it must have, so that the table is written anew.
fn has_misshapen_snapshot(audit: &Audit) -> bool {
    let mut entries = audit.snapshots.entries.iter();
    audit.header.version == 3 && entries.any(|entry| entry.extra < EXTRA_MIN)
}

fn leads_past_the_end(audit: &Audit, is_one: fn(&Referrer) -> bool) -> bool {
    let mut corruptions = audit.corruptions.iter();
    corruptions.any(|corruption| {
        is_one(&corruption.referrer) && matches!(corruption.wrong, Wrong::PastTheEnd { .. })
    })
}

fn refblock_past_the_end(audit: &Audit) -> bool {
    leads_past_the_end(audit, |referrer| {
        matches!(referrer, Referrer::Refblock { .. })
    })
}

fn reftable_is_cut(audit: &Audit) -> bool {
    leads_past_the_end(audit, |referrer| *referrer == Referrer::Reftable)
}

/// All of them.
pub const ALL: &[Difference] = &[
    Difference {
        name: "checks with an unusable refcount table",
        theirs: "opens no image whose header has an impossible place or size of the reftable",
        shows_in: CHECK,
        holds_of: |audit, _| !audit.header.reftable_usable,
        ends: (is_as_audited, gave_up),
    },
    Difference {
        name: "replaces an unusable refcount table",
        theirs: "opens no image whose header has an impossible place or size of the reftable, nor repairs it",
        shows_in: REPAIRS,
        holds_of: |audit, observed| refuses(observed) && !audit.header.reftable_usable,
        ends: (is_repaired, gave_up),
    },
    Difference {
        name: "reads on behind a broken bitmap",
        theirs: "gives up, or does not open the image",
        shows_in: CHECK,
        holds_of: |audit, _| audit.qemu.gives_up,
        ends: (is_as_audited, gave_up),
    },
    Difference {
        name: "checks images of compression type zstd",
        theirs: "may be built without zstd, as Debian's 5.2 is, and opens none",
        shows_in: CHECK,
        holds_of: lacks_zstd,
        ends: (is_as_audited, gave_up),
    },
    Difference {
        name: "repairs images of compression type zstd",
        theirs: "may be built without zstd, and then repairs none",
        shows_in: REPAIRS,
        holds_of: lacks_zstd,
        ends: (is_repaired, gave_up),
    },
    Difference {
        name: "checks without other files and without the key",
        theirs: "opens no image without its backing file, data file or key",
        shows_in: CHECK,
        holds_of: |audit, _| needs_more(audit),
        ends: (is_as_audited, gave_up),
    },
    Difference {
        name: "repairs without other files and without the key",
        theirs: "opens no image without its backing file, data file or key, nor repairs it",
        shows_in: REPAIRS,
        holds_of: |audit, observed| refuses(observed) && needs_more(audit),
        ends: (is_repaired, gave_up),
    },
    Difference {
        name: "checks files of 2^31 clusters",
        theirs: "refuses them",
        shows_in: CHECK,
        holds_of: |audit, _| audit.clusters >= CLUSTER_LIMIT,
        ends: (is_as_audited, gave_up),
    },
    Difference {
        name: "counts what qemu-img counts since 6.2",
        theirs: "is older, and does not see reserved bits and contradictory subclusters",
        shows_in: CHECK,
        holds_of: has_newer_corruptions,
        ends: (is_as_audited, Said::is_answer),
    },
    Difference {
        name: "loses no snapshots",
        theirs: "writes a header without snapshots before it repairs, as with enabled bitmaps or unknown autoclear bits",
        shows_in: REPAIRS,
        holds_of: loses_snapshots,
        ends: (keeps_snapshots, Said::is_answer),
    },
    Difference {
        name: "stores no bitmaps anew",
        theirs: "drops the bitmaps that it cannot load, and stores the others at other places",
        shows_in: &[RebuiltLayout, RebuildVerdict],
        holds_of: |audit, _| has_bitmaps(audit),
        ends: (is_repaired, Said::is_answer),
    },
    Difference {
        name: "builds anew to make room for a snapshot table",
        theirs: "puts the new table elsewhere; only the end of the image differs",
        shows_in: REPAIRS,
        holds_of: |audit, _| has_misshapen_snapshot(audit),
        ends: (is_repaired, Said::is_answer),
    },
    Difference {
        name: "does not grow to a hostile reftable entry",
        theirs: "makes the file as long as a reftable entry makes it believe",
        shows_in: REPAIRS,
        holds_of: |audit, _| refblock_past_the_end(audit),
        ends: (is_repaired, answered_or_grew),
    },
    Difference {
        name: "replaces a refcount table that is not all there",
        theirs: "frees what is left of it as a leak",
        shows_in: REPAIRS,
        holds_of: |audit, _| reftable_is_cut(audit),
        ends: (is_repaired, Said::is_answer),
    },
    Difference {
        name: "goes on where refcounts cannot be read",
        theirs: "marks the image as corrupt when it meets a refblock that is not aligned, and gives up in the middle of the repair",
        shows_in: &[InPlaceRepair, RebuildVerdict],
        holds_of: |audit, _| audit.qemu.check_errors > 0,
        ends: (is_clean, gave_up),
    },
    Difference {
        name: "goes on where qemu-img's overlap check gives up",
        theirs: "takes stale bitmaps for structures that it would write over, and stops in the middle of the repair",
        shows_in: &[LeaksRepair, InPlaceRepair, RebuildVerdict],
        holds_of: |audit, observed| observed.stopped_by_overlap && !has_bitmaps(audit),
        ends: (is_clean, gave_up),
    },
    Difference {
        name: "survives what qemu-img crashes on",
        theirs: "is killed by a signal where `-r leaks` would need new structures",
        shows_in: &[LeaksRepair],
        holds_of: |audit, _| audit.qemu.rebuild_needed,
        ends: (has_refused, crashed),
    },
];

/// Whether recount left nothing wrong but what it was not asked to mend, with `-r leaks` all but leaks
/// (contract, rule 12),
/// or what a narrow refcount cannot count, and said so; or refused `-r leaks` where structures have to
/// be built anew.
fn is_repaired(before: &Audit, ours: &Ours<'_>) -> bool {
    let narrow = |after: &Audit| {
        let mut corruptions = after.corruptions.iter();
        let overflow = |wrong: &Wrong| matches!(wrong, Wrong::TooManyReferences(_));
        after.qemu.check_errors == 0
            && after.mismatches.is_empty()
            && corruptions.all(|corruption| overflow(&corruption.wrong))
    };
    let has_no_leak = |after: &Audit| !after.mismatches.iter().any(Mismatch::is_leak);
    let is_mended = |after| match ours.asked {
        LeaksRepair => has_no_leak(after),
        _ => narrow(after),
    };
    is_clean(before, ours)
        || is_as_audited(before, ours) && ours.after.as_ref().is_some_and(is_mended)
        || gave_up(ours.said) && (before.qemu.rebuild_needed || reftable_is_cut(before))
}

/// The difference that explains how both ended.
pub fn find(
    before: &Audit,
    observed: &Observed,
    ours: &Ours<'_>,
    theirs: &Said,
) -> Option<&'static Difference> {
    ALL.iter().find(|one| {
        let (ours_is, theirs_is) = one.ends;
        one.shows_in.contains(&ours.asked)
            && (one.holds_of)(before, observed)
            && ours_is(before, ours)
            && theirs_is(theirs)
    })
}

/// The ceilings, by name, in parts of a thousand.
fn ceilings() -> BTreeMap<String, u64> {
    toml::from_str(CEILINGS).unwrap_or_default()
}

/// Differences that show in more of the cases than they may: a line each.
pub fn too_frequent(shown: &BTreeMap<String, u64>, cases: u64) -> Vec<String> {
    if cases <= ENOUGH_CASES {
        return Vec::new();
    }
    let ceilings = ceilings();
    let over = shown.iter().filter_map(|(name, &times)| {
        let ceiling = ceilings.get(name).copied().unwrap_or(0);
        (times * 1_000 > ceiling * cases).then(|| {
            format!(
                "`{name}` shows in {times} of {cases} cases; xtask/differences.toml allows {ceiling} \
                 of 1,000"
            )
        })
    });
    over.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_is_documented() {
        let page = include_str!("../../../docs/report.md");
        for Difference { name, theirs, .. } in ALL {
            let row = format!("| {name} | {theirs} |");
            assert!(page.contains(&row), "docs/report.md does not have: {row}");
        }
        let rows = page
            .lines()
            .skip_while(|line| !line.starts_with("| recount …"));
        let rows = rows.take_while(|line| line.starts_with('|')).count();
        assert_eq!(rows, ALL.len() + 2, "docs/report.md has others");
    }

    #[test]
    fn every_difference_has_a_ceiling() {
        let named: Vec<String> = ceilings().into_keys().collect();
        let mut all: Vec<&str> = ALL.iter().map(|one| one.name).collect();
        all.sort_unstable();
        assert_eq!(named, all);
    }

    #[test]
    fn what_shows_too_often_is_named_in_long_runs() {
        let shown = BTreeMap::from([(ALL[0].name.to_owned(), 1_001)]);
        assert!(too_frequent(&shown, 1_000).is_empty());
        assert_eq!(too_frequent(&shown, 1_001).len(), 1);
    }
}
