//! The differences from qemu-img that there are in sound images, and in what a read-only check says:
//! data. Each holds only for images of which its precondition is true, and only where both programs
//! ended as it says.

use std::collections::BTreeMap;

use recount_oracle::audit::{Audit, Mismatch, Referrer, Wrong, counters};
use recount_oracle::case::observed::{Ended, Observed, Said};

use super::comparison::Comparison::{
    self, CleanAfterRepair, InPlaceRepair, LeaksRepair, ReadOnlyCheck, RebuildVerdict,
    RebuiltLayout,
};

/// The most of all cases in which each may show, in parts of a thousand.
const CEILINGS: &str = include_str!("../../differences.toml");
/// With fewer cases a share says nothing.
const ENOUGH_CASES: u64 = 1_000;
/// The signal that ends a program which makes a file longer than it may.
const FILE_SIZE_EXCEEDED: i32 = super::subject::program::FILE_SIZE_EXCEEDED;
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
    shows_in: &'static [Comparison],
    /// Of which images, beside which qemu-img.
    holds_of: fn(&Audit, &Observed) -> bool,
    /// How recount ends.
    ours_is: fn(&Audit, &Side<'_>) -> bool,
    /// How qemu-img ends.
    theirs_is: fn(&Audit, &Side<'_>) -> bool,
}

/// How one of both ended.
pub struct Side<'a> {
    /// What it said.
    pub said: &'a Said,
    /// What the audit says of what it left, where that is known.
    pub after: Option<&'a Audit>,
}

impl Side<'_> {
    /// It gave up.
    fn refuses(&self) -> bool {
        self.said.ended == Ended::Code(1) && self.said.counters.is_none()
    }

    /// The audit finds nothing wrong with what it left, and it says so.
    fn is_clean(&self) -> bool {
        self.said.is_clean() && self.after.is_some_and(Audit::is_clean)
    }

    /// No leak is left, and it says of what is left what the audit says.
    fn has_released(&self) -> bool {
        let has_leak = |after: &Audit| after.mismatches.iter().any(Mismatch::is_leak);
        self.is_as_audited() && self.after.is_some_and(|after| !has_leak(after))
    }

    /// Exit code and counters are those of the audit.
    fn is_as_audited(&self) -> bool {
        let Some(audit) = self.after else {
            return false;
        };
        let figures = counters(audit);
        let named = figures.named();
        let mut named = named.iter();
        self.said.ended == Ended::Code(figures.exit_code())
            && (figures.gives_up && self.said.counters.is_none()
                || named.all(|&(name, count)| i64::try_from(count) == Ok(self.said.counter(name))))
    }
}

const CHECK: &[Comparison] = &[ReadOnlyCheck];
const REPAIRS: &[Comparison] = &[
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
    header.encrypted || header.external_data() || header.backing
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
            Wrong::Reserved { .. }
                | Wrong::Subclusters { .. }
                | Wrong::SubclustersWithoutCluster { .. }
                | Wrong::CompressedSubclusters { .. }
                | Wrong::Unaligned { .. }
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
        ours_is: |_, ours| ours.is_as_audited(),
        theirs_is: |_, theirs| theirs.refuses(),
    },
    Difference {
        name: "replaces an unusable refcount table",
        theirs: "opens no image whose header has an impossible place or size of the reftable, nor repairs it",
        shows_in: REPAIRS,
        holds_of: |audit, observed| refuses(observed) && !audit.header.reftable_usable,
        ours_is: is_repaired,
        theirs_is: |_, theirs| theirs.refuses(),
    },
    Difference {
        name: "reads on behind a broken bitmap",
        theirs: "gives up, or does not open the image",
        shows_in: CHECK,
        holds_of: |audit, _| audit.qemu.gives_up.is_some(),
        ours_is: |_, ours| ours.is_as_audited(),
        theirs_is: |_, theirs| theirs.refuses(),
    },
    Difference {
        name: "checks without other files and without the key",
        theirs: "opens no image without its backing file, data file or key",
        shows_in: CHECK,
        holds_of: |audit, _| needs_more(audit),
        ours_is: |_, ours| ours.is_as_audited(),
        theirs_is: |_, theirs| theirs.refuses(),
    },
    Difference {
        name: "repairs without other files and without the key",
        theirs: "opens no image without its backing file, data file or key, nor repairs it",
        shows_in: REPAIRS,
        holds_of: |audit, observed| refuses(observed) && needs_more(audit),
        ours_is: is_repaired,
        theirs_is: |_, theirs| theirs.refuses(),
    },
    Difference {
        name: "checks files of 2^31 clusters",
        theirs: "refuses them",
        shows_in: CHECK,
        holds_of: |audit, _| audit.clusters >= CLUSTER_LIMIT,
        ours_is: |_, ours| ours.is_as_audited(),
        theirs_is: |_, theirs| theirs.refuses(),
    },
    Difference {
        name: "counts what qemu-img counts since 6.2",
        theirs: "is older, and does not see reserved bits and contradictory subclusters",
        shows_in: CHECK,
        holds_of: has_newer_corruptions,
        ours_is: |_, ours| ours.is_as_audited(),
        theirs_is: |_, theirs| theirs.said.is_answer(),
    },
    Difference {
        name: "loses no snapshots",
        theirs: "writes a header without snapshots before it repairs, as with enabled bitmaps or unknown autoclear bits",
        shows_in: REPAIRS,
        holds_of: loses_snapshots,
        ours_is: |before, ours| {
            let snapshots = ours.after.map(|after| after.header.snapshots);
            let stay = snapshots == Some(before.header.snapshots);
            stay && (is_repaired(before, ours) || ours.has_released())
        },
        theirs_is: |_, theirs| theirs.said.is_answer(),
    },
    Difference {
        name: "stores no bitmaps anew",
        theirs: "drops the bitmaps that it cannot load, and stores the others at other places",
        shows_in: &[RebuiltLayout, RebuildVerdict],
        holds_of: |audit, _| has_bitmaps(audit),
        ours_is: is_repaired,
        theirs_is: |_, theirs| theirs.said.is_answer(),
    },
    Difference {
        name: "builds anew to make room for a snapshot table",
        theirs: "puts the new table elsewhere; only the end of the image differs",
        shows_in: REPAIRS,
        holds_of: |audit, _| has_misshapen_snapshot(audit),
        ours_is: is_repaired,
        theirs_is: |_, theirs| theirs.said.is_answer(),
    },
    Difference {
        name: "does not grow to a hostile reftable entry",
        theirs: "makes the file as long as a reftable entry makes it believe",
        shows_in: REPAIRS,
        holds_of: |audit, _| refblock_past_the_end(audit),
        ours_is: is_repaired,
        theirs_is: |_, theirs| {
            theirs.said.is_answer() || theirs.said.ended == Ended::Signal(FILE_SIZE_EXCEEDED)
        },
    },
    Difference {
        name: "replaces a refcount table that is not all there",
        theirs: "frees what is left of it as a leak",
        shows_in: REPAIRS,
        holds_of: |audit, _| reftable_is_cut(audit),
        ours_is: is_repaired,
        theirs_is: |_, theirs| theirs.said.is_answer(),
    },
    Difference {
        name: "goes on where refcounts cannot be read",
        theirs: "marks the image as corrupt when it meets a refblock that is not aligned, and gives up in the middle of the repair",
        shows_in: &[RebuildVerdict],
        holds_of: |audit, _| audit.qemu.check_errors > 0,
        ours_is: |_, ours| ours.is_clean(),
        theirs_is: |_, theirs| theirs.refuses(),
    },
    Difference {
        name: "goes on where qemu-img's overlap check gives up",
        theirs: "takes stale bitmaps for structures that it would write over, and stops in the middle of the repair",
        shows_in: &[LeaksRepair, InPlaceRepair, RebuildVerdict],
        holds_of: |audit, observed| observed.stopped_by_overlap && !has_bitmaps(audit),
        ours_is: |_, ours| ours.is_clean(),
        theirs_is: |_, theirs| theirs.refuses(),
    },
    Difference {
        name: "survives what qemu-img crashes on",
        theirs: "is killed by a signal where `-r leaks` would need new structures",
        shows_in: &[LeaksRepair],
        holds_of: |audit, _| audit.qemu.rebuild_needed,
        ours_is: |_, ours| ours.refuses(),
        theirs_is: |_, theirs| matches!(theirs.said.ended, Ended::Signal(_)),
    },
];

/// Whether recount left nothing wrong but what a narrow refcount cannot count, and said so; or refused
/// `-r leaks` where structures have to be built anew.
fn is_repaired(before: &Audit, ours: &Side<'_>) -> bool {
    let narrow = |after: &Audit| {
        let mut corruptions = after.corruptions.iter();
        let overflow = |wrong: &Wrong| matches!(wrong, Wrong::TooManyReferences { .. });
        after.qemu.check_errors == 0
            && after.mismatches.is_empty()
            && corruptions.all(|corruption| overflow(&corruption.wrong))
    };
    ours.is_clean()
        || ours.is_as_audited() && ours.after.is_some_and(narrow)
        || ours.refuses() && (before.qemu.rebuild_needed || reftable_is_cut(before))
}

/// The difference that explains how both ended.
pub fn find(
    comparison: Comparison,
    before: &Audit,
    observed: &Observed,
    ours: &Side<'_>,
    theirs: &Side<'_>,
) -> Option<&'static Difference> {
    ALL.iter().find(|one| {
        one.shows_in.contains(&comparison)
            && (one.holds_of)(before, observed)
            && (one.ours_is)(before, ours)
            && (one.theirs_is)(before, theirs)
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
