//! The result of a check as `qemu-img check` prints it (observed on 10.0): which counters, in which
//! order, and when a line or a field is left out.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use recount::plan::Kept;
use recount::{Outcome, Report};
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Value, json};

use crate::findings::Told;
use crate::lost::LostData;

/// What the process exits with.
pub const fn exit_code(report: &Report) -> u8 {
    match (report.check_errors, report.corruptions, report.leaks) {
        (1.., _, _) => 1,
        (_, 1.., _) => 2,
        (_, _, 1..) => 3,
        _ => 0,
    }
}

/// JSON indented as qemu indents it, on lines of its own.
pub fn pretty(value: &impl Serialize) -> io::Result<String> {
    let mut bytes = Vec::new();
    let formatter = PrettyFormatter::with_indent(b"    ");
    value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter))?;
    bytes.push(b'\n');
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The outcome of a check or a repair, as it is printed.
pub struct Counters<'a> {
    pub outcome: &'a Outcome,
    pub file: &'a Path,
    pub more: &'a More,
}

/// What qemu-img does not say.
#[derive(Default)]
pub struct More {
    pub findings: Vec<Told>,
    pub lost: Vec<LostData>,
    /// What a repair keeps; `None` where there is none, or it would not be made.
    pub kept: Option<Kept>,
    /// The undo file that was written.
    pub undo: Option<PathBuf>,
}

impl More {
    /// For programs, under `recount`; the version changes where a field does.
    fn json(&self) -> Value {
        let finding = |told: &Told| {
            json!({
                "kind": told.kind,
                "text": told.text,
                "count": told.count.max(told.left_out),
                "guest": told.guest.as_ref().map(|guest| json!({
                    "start": guest.range.start,
                    "end": guest.range.end,
                    "snapshot": guest.snapshot,
                })),
            })
        };
        let kept = |kept: &Kept| {
            let examples = kept.examples.iter().map(ToString::to_string);
            json!({
                "clusters": kept.clusters,
                "damage": kept.damage,
                "examples": examples.collect::<Vec<_>>(),
            })
        };
        json!({
            "version": 1,
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
            "lost": self.lost.iter().map(LostData::json).collect::<Vec<_>>(),
            "kept": self.kept.as_ref().map(kept),
            "undo": self.undo,
        })
    }
}

/// The fields in qemu's order, which is that of a hash table and the same in every version looked
/// at.
impl Serialize for Counters<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (report, fixed) = (&self.outcome.report, &self.outcome.fixed);
        let fields: [(&str, Value); 12] = [
            ("image-end-offset", report.image_end_offset.into()),
            ("compressed-clusters", report.compressed_clusters.into()),
            ("total-clusters", report.total_clusters.into()),
            ("corruptions", report.corruptions.into()),
            ("corruptions-fixed", fixed.corruptions.into()),
            ("check-errors", report.check_errors.into()),
            ("leaks", report.leaks.into()),
            ("leaks-fixed", fixed.leaks.into()),
            ("allocated-clusters", report.allocated_clusters.into()),
            ("filename", self.file.to_string_lossy().into()),
            ("format", "qcow2".into()),
            ("fragmented-clusters", report.fragmented_clusters.into()),
        ];
        let is_shown = |(name, value): &(&str, Value)| *name == "check-errors" || *value != 0;
        let shown = fields.into_iter().filter(is_shown);
        serializer.collect_map(shown.chain([("recount", self.more.json())]))
    }
}

/// For people, as `qemu-img check` says it.
impl fmt::Display for Counters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (report, fixed) = (&self.outcome.report, &self.outcome.fixed);
        if fixed.corruptions > 0 || fixed.leaks > 0 {
            writeln!(
                f,
                "The following inconsistencies were found and repaired:\n\n\
                 \x20   {} leaked clusters\n\
                 \x20   {} corruptions\n\n\
                 Double checking the fixed image now...",
                fixed.leaks, fixed.corruptions
            )?;
        }
        if report.is_clean() {
            writeln!(f, "No errors were found on the image.")?;
        }
        // What leaked may be data that damage hides.
        let leaked = if self.more.kept.as_ref().is_some_and(|kept| kept.damage > 0) {
            "leaked clusters were found on the image."
        } else {
            "leaked clusters were found on the image.\n\
             This means waste of disk space, but no harm to data."
        };
        let found = [
            (
                report.corruptions,
                "errors were found on the image.\n\
                 Data may be corrupted, or further writes to the image may corrupt it.",
            ),
            (report.leaks, leaked),
            (
                report.check_errors,
                "internal errors have occurred during the check.",
            ),
        ];
        for (count, what) in found.into_iter().filter(|(count, _)| *count > 0) {
            writeln!(f, "\n{count} {what}")?;
        }
        if report.total_clusters > 0 && report.allocated_clusters > 0 {
            writeln!(
                f,
                "{}/{} = {:.2}% allocated, {:.2}% fragmented, {:.2}% compressed clusters",
                report.allocated_clusters,
                report.total_clusters,
                percent(report.allocated_clusters, report.total_clusters),
                percent(report.fragmented_clusters, report.allocated_clusters),
                percent(report.compressed_clusters, report.allocated_clusters),
            )?;
        }
        if report.image_end_offset > 0 {
            writeln!(f, "Image end offset: {}", report.image_end_offset)?;
        }
        Ok(())
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "shown with two digits after the point"
)]
fn percent(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole as f64
}
