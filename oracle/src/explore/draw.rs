//! A toy as a line of text, a mark for each cluster.

use std::fmt::Write as _;

use crate::placement::{NoPlacement, Placement};
use crate::properties::plan::Places;
use crate::toy::Toy;

/// What the marks stand for.
pub const LEGEND: &str =
    "# used   o old structure   . free   T new reftable   0-9a-z new refblock   x given up";

/// The toy before: a mark for each cluster of the file, then `|`, then the room after its end.
pub fn before(toy: &Toy) -> String {
    line(toy, None)
}

/// The toy with the new structures in it, or why there are none.
pub fn after(toy: &Toy, outcome: &Result<Placement, NoPlacement>) -> String {
    match outcome {
        Ok(layout) => line(toy, Some(layout)),
        Err(error) => error.to_string(),
    }
}

fn line(toy: &Toy, layout: Option<&Placement>) -> String {
    let places = layout.map(Places::of).unwrap_or_default();
    let file = u64::from(toy.clusters);
    let end = file.max(places.end).max(toy.capacity().unwrap_or(0).into());
    let mut line = String::new();
    for cluster in 0..end as u32 {
        if cluster == toy.clusters {
            line.push('|');
        }
        line.push(mark(toy, layout, &places, cluster));
    }
    if toy.capacity().is_none() {
        let _ = write!(line, "{}...", if end == file { "|" } else { "" });
    } else {
        line.push(']');
    }
    line
}

fn mark(toy: &Toy, layout: Option<&Placement>, places: &Places, cluster: u32) -> char {
    if places.reftable.contains(cluster) {
        return 'T';
    }
    if places.refblocks.contains(cluster) {
        let refblocks = layout.map(|layout| layout.refblocks.as_slice());
        let mut refblocks = refblocks.unwrap_or_default().iter();
        let found = refblocks.find(|(_, place)| *place == u64::from(cluster));
        let number = found.map_or(0, |(refblock, _)| *refblock);
        return char::from_digit(u32::try_from(number).unwrap_or(u32::MAX) % 36, 36).unwrap_or('?');
    }
    if places.abandoned.contains(cluster) {
        'x'
    } else if toy.used.contains(cluster) {
        '#'
    } else if toy.old.contains(cluster) {
        'o'
    } else {
        '.'
    }
}
