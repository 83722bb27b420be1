//! What lies where in an image, as lines of text.

use std::fmt::Write as _;

use crate::properties::reading::Reading;

/// Most lines of a picture.
const LINES_MAX: usize = 64;

/// A line for each run of clusters with the same use and the same refcount.
pub(super) fn of(reading: &Reading) -> String {
    let mut lines: Vec<(u64, u64, String)> = Vec::new();
    for cluster in reading.clusters_in_use() {
        let references = reading.references_to(cluster);
        let count = reading.count(cluster);
        let count = count.map_or("unreadable".to_owned(), |count| count.to_string());
        let what = format!(
            "{references} references, refcount {count}: {}",
            reading.referrers(cluster)
        );
        match lines.last_mut() {
            Some((_, last, known)) if *last + 1 == cluster && *known == what => *last = cluster,
            _ => lines.push((cluster, cluster, what)),
        }
    }
    let mut text = String::new();
    for (first, last, what) in lines.iter().take(LINES_MAX) {
        let _ = if first == last {
            writeln!(text, "  cluster {first}: {what}")
        } else {
            writeln!(text, "  clusters {first} to {last}: each {what}")
        };
    }
    if let Some(more) = lines.len().checked_sub(LINES_MAX + 1) {
        let _ = writeln!(text, "  and {} lines more", more + 1);
    }
    text
}
