//! What a check comes to, in a few sentences: what is wrong, what that means for the data, what to do.

use std::path::Path;

use recount::finding::Finding;
use recount::guest::Layers;
use recount::step::of;
use recount::storage::shown;
use recount::{RepairError, RepairPlan, Report, Storage};

use crate::findings::Findings;
use crate::lost::{self, LostData};

/// What is said of errors that a check has found; `plan` is what would repair them.
pub fn of_errors(
    file: &Path,
    report: &Report,
    plan: &Result<RepairPlan, RepairError>,
    findings: &Findings,
    lost: &[LostData],
    length: u64,
) -> Vec<String> {
    let name = shown(file);
    let mut lines = vec![
        format!("recount: {name}: {}", what(report, findings)),
        meaning(report, findings, !lost.is_empty()),
    ];
    lines.extend(findings.past_end().map(|end| {
        format!("The file ends at byte {length}, and tables and entries lead up to byte {end}.")
    }));
    lines.extend(lost::lines(lost));
    lines.push(match plan {
        Err(error) => format!("A repair would write nothing: {error}."),
        Ok(plan) => next(&name, report, plan.kept.damage > 0),
    });
    lines
}

/// What was found, in one sentence.
fn what(report: &Report, findings: &Findings) -> String {
    let too_low = findings.count(|one| matches!(one, Finding::TooLow(..)));
    let copied = |one: &Finding| matches!(one, Finding::L1Copied(_) | Finding::L2Copied(..));
    let copied = findings.count(copied);
    let others = report.corruptions.saturating_sub(too_low + copied);
    let found = [
        (others, "damaged entry", ""),
        (findings.count(is_hidden_damage), "sign", " of other damage"),
        (too_low, "cluster", " in use with too low a refcount"),
        (copied, "wrong COPIED bit", ""),
        (
            report.check_errors,
            "cluster",
            " whose refcount cannot be read",
        ),
        (report.leaks, "leaked cluster", ""),
    ];
    let found = found.iter().filter(|(count, ..)| *count > 0);
    let found: Vec<String> = found
        .map(|(count, noun, which)| format!("{}{which}", of(*count, noun)))
        .collect();
    format!("found {}.", found.join(", "))
}

/// Whether a check alone does not count it: it shows that guest data may have lost what referred to it.
const fn is_hidden_damage(finding: &Finding) -> bool {
    matches!(
        finding,
        Finding::AtHeader(..)
            | Finding::NotATable { .. }
            | Finding::DoubledTable { .. }
            | Finding::Overlap { .. }
            | Finding::LostTable { .. }
            | Finding::LostTablesNotSought { .. }
            | Finding::EmptiedTables { .. }
    )
}

/// What that means for the guest's data.
fn meaning(report: &Report, findings: &Findings, is_lost: bool) -> String {
    let is_at_risk = report.corruptions > 0 || report.check_errors > 0;
    let overflow = findings.count(|one| matches!(one, Finding::Overflow(..)));
    let meaning = if is_lost {
        "Guest data is missing, and the next write may destroy more: keep a copy of the file, and let \
         nothing write to it."
    } else if findings.count(is_hidden_damage) > 0 {
        "Guest data may be missing, and be in clusters that nothing refers to: keep a copy of the \
         file, and let nothing write to it."
    } else if overflow > 0 {
        "The refcounts are too narrow for the references: the next write may destroy guest data."
    } else if is_at_risk {
        "All guest data can be read, but the next write to the image may destroy some: let nothing \
         write to it before it is repaired."
    } else {
        "No data is at risk: space is wasted."
    };
    meaning.to_owned()
}

/// What to do.
fn next(name: &str, report: &Report, is_damaged: bool) -> String {
    if is_damaged {
        return format!(
            "Mend what is damaged, or get the missing part of the file, and check again. \
             `recount find {name}` shows what was lost, `recount check --plan {name}` what a repair \
             does until then, and what it keeps."
        );
    }
    let is_leak_only = report.corruptions == 0 && report.check_errors == 0;
    let what = if is_leak_only { "leaks" } else { "all" };
    format!(
        "`recount check --plan {name}` shows what a repair would write, \
         `recount check -r {what} --undo NEW-FILE {name}` repairs."
    )
}

/// What the bits of the header mean that qemu sets for the image as a whole.
pub fn of_flags(file: &Path, storage: &dyn Storage) -> Vec<String> {
    let (name, layers) = (shown(file), Layers::read(storage).ok());
    let is_set = |bit: fn(&Layers) -> bool| layers.as_ref().is_some_and(bit);
    let clears = format!("`recount check -r all {name}` clears it once nothing else is wrong");
    let dirty = is_set(Layers::is_dirty).then(|| {
        format!(
            "recount: {name}: the dirty bit is set: the image was not closed, and its refcounts may \
             be out of date; {clears}."
        )
    });
    let corrupt = is_set(Layers::is_corrupt).then(|| {
        format!(
            "recount: {name}: the corrupt bit is set: qemu has seen damage, and lets nobody write \
             to the image; {clears}."
        )
    });
    dirty.into_iter().chain(corrupt).collect()
}
