//! Comparing what is said of an image, by both or before and after.

use std::collections::HashSet;

use recount_oracle::case::observed::Said;

/// Both say this of a wrong COPIED bit.
const COPIED: &str = "ERROR OFLAG_COPIED";
/// qemu-img says this of a refcount that cannot be raised any more.
pub(super) const OVERFLOW: &str = "ERROR: overflow cluster offset=";

/// Whether both have the same counters but for those named.
pub(super) fn alike_but_for(theirs: &Said, ours: &Said, names: &[&str]) -> bool {
    let alike = |said: &Said| {
        let mut counters = said.counters.clone()?;
        for name in names {
            counters.0.remove(*name);
        }
        Some(counters)
    };
    alike(theirs).is_some() && alike(theirs) == alike(ours)
}

/// Whether both end alike but for the end of the image, and perhaps a leak or COPIED bits that
/// theirs leave.
pub(super) fn makes_room(theirs: &Said, ours: &Said) -> bool {
    let corrupt = |said: &Said| said.counter("corruptions") + said.counter("check-errors") > 0;
    let mut others = vec!["image-end-offset", "leaks"];
    let copied = copied_at_end(theirs);
    if copied > 0 && theirs.counter("corruptions") == ours.counter("corruptions") + copied {
        others.extend(["corruptions", "corruptions-fixed"]);
    }
    alike_but_for(theirs, ours, &others)
        && ours.counter("leaks") <= theirs.counter("leaks")
        && (theirs.ended == ours.ended || !corrupt(ours))
}

/// Whether the file has more clusters than qemu-img counts.
pub(super) fn has_too_many_clusters(said: &Said) -> bool {
    said.counters.is_none() && said.stderr.contains("Check failed: File too large")
}

/// Whether all that a repair leaves wrong are COPIED bits.
pub(super) fn ends_with_copied(said: &Said) -> bool {
    let left = said.counter("corruptions");
    left > 0 && said.counter("check-errors") == 0 && copied_at_end(said) >= left
}

/// How many wrong COPIED bits qemu-img names at the end of what it says.
fn copied_at_end(said: &Said) -> i64 {
    let last = said.stderr.lines().rev();
    let copied = last.take_while(|line| line.starts_with(COPIED));
    copied.count().try_into().unwrap_or(i64::MAX)
}

/// Whether all that is wrong are COPIED bits.
pub(super) fn only_copied(said: &Said) -> bool {
    names_only(said, &[COPIED])
}

/// The same, or that there are more references than a refcount can count.
pub(super) fn only_copied_and_overflow(said: &Said) -> bool {
    names_only(said, &[COPIED, OVERFLOW])
}

/// Whether something is wrong, and nothing that does not begin like one of these.
fn names_only(said: &Said, beginnings: &[&str]) -> bool {
    let mut wrong = said
        .stderr
        .lines()
        .filter(|line| line.starts_with("ERROR"))
        .peekable();
    let is_one = |line: &str| beginnings.iter().any(|with| line.starts_with(with));
    wrong.peek().is_some() && wrong.all(is_one)
}

/// Whether ours did nothing but leave corrupt what theirs wrote to: COPIED bits too, which may have
/// become wrong by refcounts that were set right.
pub(super) fn leaves_alone(before: &Said, theirs: &Said, ours: &Said) -> bool {
    ours.counter("check-errors") == theirs.counter("check-errors")
        && ours.counter("corruptions") >= theirs.counter("corruptions")
        && is_no_worse(ours, before)
}

/// Whether a repair left no more wrong than something else, a check before or another repair, COPIED
/// bits aside: these become wrong when refcounts are set right beside a table that is left alone.
pub(super) fn is_no_worse(after: &Said, other: &Said) -> bool {
    !is_worse(after, other) || all_wrong(after) - copied(after) <= all_wrong(other) - copied(other)
}

/// Whether ours leaves something wrong, but no more than theirs and so many refcounts: what a header
/// that is taken for a table leads to is counted by a check, and not by a repair.
pub(super) fn is_worse_by_no_more(ours: &Said, theirs: &Said, refcounts: usize) -> bool {
    let refcounts = i64::try_from(refcounts).unwrap_or(i64::MAX);
    ours.counter("corruptions") > 0
        && ours.counter("check-errors") == theirs.counter("check-errors")
        && all_wrong(ours) <= all_wrong(theirs).saturating_add(refcounts)
}

/// Whether a check of what a repair left names more than a check before, COPIED bits aside: before,
/// the refcounts may have been unreadable, and nothing said of these.
pub(super) fn names_more(after: &Said, before: &Said) -> bool {
    let others = |said: &Said| {
        let lines = said.stderr.lines();
        let copied = lines.filter(|line| line.starts_with(COPIED));
        all_wrong(said) - i64::try_from(copied.count()).unwrap_or(i64::MAX)
    };
    others(after) > others(before)
}

/// How many wrong COPIED bits are named; by a repair that checks twice, some of them twice.
fn copied(said: &Said) -> i64 {
    let lines: HashSet<&str> = said
        .stderr
        .lines()
        .filter(|line| line.starts_with(COPIED))
        .collect();
    lines.len().try_into().unwrap_or(i64::MAX)
}

/// How much is wrong, leaks included.
fn all_wrong(said: &Said) -> i64 {
    let names = ["check-errors", "corruptions", "leaks"];
    names.iter().map(|name| said.counter(name)).sum()
}

/// Whether a repair left more wrong than a check found before.
pub(super) fn is_worse(after: &Said, before: &Said) -> bool {
    all_wrong(after) > all_wrong(before)
}

pub(super) fn only_leaks(verdict: &Said) -> bool {
    verdict.counter("corruptions") == 0 && verdict.counter("check-errors") == 0
}
