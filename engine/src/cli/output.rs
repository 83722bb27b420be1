//! The result of a check as `qemu-img check` prints it (observed on 10.0): which counters, in which
//! order, and when a line or a field is left out.

use std::fmt;
use std::path::Path;

use recount::Report;
use serde::Serialize;

/// The counters of a check and of the repair before it.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    pub report: Report,
    pub corruptions_fixed: u64,
    pub leaks_fixed: u64,
}

impl Counters {
    /// What the process exits with.
    pub const fn exit_code(&self) -> u8 {
        if self.report.check_errors > 0 {
            1
        } else if self.report.corruptions > 0 {
            2
        } else if self.report.leaks > 0 {
            3
        } else {
            0
        }
    }

    /// The result as a JSON object over several lines.
    pub fn to_json(&self, file: &Path) -> serde_json::Result<String> {
        let report = &self.report;
        let json = Json {
            image_end_offset: report.image_end_offset,
            compressed_clusters: report.compressed_clusters,
            total_clusters: report.total_clusters,
            corruptions: report.corruptions,
            corruptions_fixed: self.corruptions_fixed,
            check_errors: report.check_errors,
            leaks: report.leaks,
            leaks_fixed: self.leaks_fixed,
            allocated_clusters: report.allocated_clusters,
            filename: file.to_string_lossy().into_owned(),
            format: "qcow2",
            fragmented_clusters: report.fragmented_clusters,
        };
        pretty(&json)
    }
}

/// JSON indented as qemu indents it.
pub fn pretty(value: &impl Serialize) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    value.serialize(&mut serde_json::Serializer::with_formatter(
        &mut bytes, formatter,
    ))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The fields in qemu's order, which is that of a hash table and the same in every version looked
/// at.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Json {
    #[serde(skip_serializing_if = "is_zero")]
    image_end_offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    compressed_clusters: u64,
    #[serde(skip_serializing_if = "is_zero")]
    total_clusters: u64,
    #[serde(skip_serializing_if = "is_zero")]
    corruptions: u64,
    #[serde(skip_serializing_if = "is_zero")]
    corruptions_fixed: u64,
    check_errors: u64,
    #[serde(skip_serializing_if = "is_zero")]
    leaks: u64,
    #[serde(skip_serializing_if = "is_zero")]
    leaks_fixed: u64,
    #[serde(skip_serializing_if = "is_zero")]
    allocated_clusters: u64,
    filename: String,
    format: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    fragmented_clusters: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// For people, as `qemu-img check` says it.
impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = &self.report;
        if self.corruptions_fixed > 0 || self.leaks_fixed > 0 {
            writeln!(
                f,
                "The following inconsistencies were found and repaired:\n\n\
                 \x20   {} leaked clusters\n\
                 \x20   {} corruptions\n\n\
                 Double checking the fixed image now...",
                self.leaks_fixed, self.corruptions_fixed
            )?;
        }
        if report.is_clean() {
            writeln!(f, "No errors were found on the image.")?;
        }
        if report.corruptions > 0 {
            writeln!(
                f,
                "\n{} errors were found on the image.\n\
                 Data may be corrupted, or further writes to the image may corrupt it.",
                report.corruptions
            )?;
        }
        if report.leaks > 0 {
            writeln!(
                f,
                "\n{} leaked clusters were found on the image.\n\
                 This means waste of disk space, but no harm to data.",
                report.leaks
            )?;
        }
        if report.check_errors > 0 {
            writeln!(
                f,
                "\n{} internal errors have occurred during the check.",
                report.check_errors
            )?;
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
