//! The map as a picture that a browser shows: SVG, without scripts, nothing loaded from elsewhere.

use indicatif::BinaryBytes;
use maud::{Markup, PreEscaped, html};
use recount::step::of;

use super::mark::{Mark, PROBLEMS, USES};
use super::picture::{Cell, Picture};

/// Cells of a map, at most: what bounds the size of the picture.
const CELLS: u64 = 16 << 10;
/// Cells of a row.
const COLUMNS: usize = 128;
/// The sides of a cell, of a line of text, and of the margin, in units of the picture.
const CELL: usize = 10;
const LINE: usize = 18;
const MARGIN: usize = 20;
const WIDTH: usize = COLUMNS * CELL + 2 * MARGIN;
/// The columns of the legend.
const LEGEND: usize = 3;

/// Light or dark as the reader's system is.
const STYLE: &str = "\
svg { --ink: #1b1f24; --paper: #ffffff; --free: #e4e7eb; background: var(--paper) }
@media (prefers-color-scheme: dark) {
  svg { --ink: #e6e8eb; --paper: #15181c; --free: #2b3037 }
}
text { font: 13px system-ui, sans-serif; fill: var(--ink) }
.title { font-weight: bold }
rect { stroke-width: 3 }
g:hover { filter: brightness(0.8) }";

/// The picture of these maps, one below the other, each with its title.
pub fn of_maps(maps: &[(String, &Picture)]) -> String {
    let (mut parts, mut top) = (Vec::new(), MARGIN);
    for (title, picture) in maps {
        let (part, height) = map(title, picture, top);
        parts.push(part);
        top += height + MARGIN;
    }
    let svg = html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox=(format_args!("0 0 {WIDTH} {top}")) {
            style { (PreEscaped(STYLE)) }
            @for part in parts { (part) }
        }
    };
    svg.into_string() + "\n"
}

/// One map from `top` on, and how high it is.
fn map(title: &str, picture: &Picture, top: usize) -> (Markup, usize) {
    let size = picture.cluster_size();
    let grid = picture.grid(CELLS);
    let clusters = of(picture.map.clusters().0, "cluster");
    let each = of(grid.clusters, "cluster");
    let title = format!(
        "{title}: {clusters} of {}, {each} a cell",
        BinaryBytes(size)
    );
    let seen = PROBLEMS.into_iter().chain(USES);
    let seen = seen.filter(|mark| picture.count(*mark) > 0);
    let seen: Vec<Mark> = seen.collect();
    let cells_top = top + (seen.len().div_ceil(LEGEND) + 2) * LINE;
    let rows = grid.cells.chunks(COLUMNS);
    let height = cells_top + rows.len() * CELL - top;
    let markup = html! {
        text.title x=(MARGIN) y=(top + LINE) { (title) }
        @for (position, mark) in seen.iter().enumerate() {
            @let (row, column) = (position / LEGEND + 1, position % LEGEND);
            @let (x, y) = (MARGIN + column * (WIDTH / LEGEND), top + row * LINE + CELL);
            (key(*mark, picture, (x, y)))
        }
        @for (row, cells_of_row) in rows.enumerate() {
            @for (column, alike) in runs(cells_of_row) {
                @let first = (row * COLUMNS + column) as u64 * grid.clusters;
                @let end = (first + alike.len() as u64 * grid.clusters).min(grid.end);
                @let place = (MARGIN + column * CELL, cells_top + row * CELL);
                @let says = says(&alike[0], first, end - 1, size);
                @let width = alike.len() * CELL - 1;
                g { title { (says) } (cell(alike[0].worst(), alike[0].holds, place, width)) }
            }
        }
    };
    (markup, height)
}

/// Neighbours of a row that are alike, each with the column of the first; those without a mark left out.
fn runs(row: &[Cell]) -> impl Iterator<Item = (usize, &[Cell])> {
    let alike = row.chunk_by(|one, next| one == next);
    let placed = alike.scan(0, |next, alike| {
        let column = *next;
        *next += alike.len();
        Some((column, alike))
    });
    placed.filter(|(_, alike)| alike[0] != Cell::default())
}

/// A rectangle in the colour of a use, in a frame where something is wrong.
fn cell(worst: Option<Mark>, holds: Option<Mark>, (x, y): (usize, usize), width: usize) -> Markup {
    let problem = worst.filter(|mark| mark.is_problem());
    // The frame lies inside.
    let inset = usize::from(problem.is_some());
    html! {
        rect x=(x + inset) y=(y + inset) width=(width - 2 * inset) height=(CELL - 1 - 2 * inset)
            fill=[holds.or(worst).map(Mark::fill)] stroke=[problem.map(Mark::fill)] {}
    }
}

/// What a browser shows under the pointer.
fn says(cell: &Cell, first: u64, last: u64, size: u64) -> String {
    let marks: Vec<_> = cell.marks.iter().map(Mark::name).collect();
    let marks = marks.join(", ");
    let offset = first.saturating_mul(size);
    if let Some(far) = cell.far {
        format!("clusters from {first} on, of which some lie at {far} and later: {marks}")
    } else if first == last {
        format!("cluster {first}, at {offset:#x}: {marks}")
    } else {
        format!("clusters {first} to {last}, from {offset:#x} on: {marks}")
    }
}

/// An entry of the legend.
fn key(mark: Mark, picture: &Picture, (x, y): (usize, usize)) -> Markup {
    let count = picture.count(mark);
    let bytes = BinaryBytes(count.saturating_mul(picture.cluster_size()));
    html! {
        (cell(Some(mark), None, (x, y), CELL - 1))
        text x=(x + 2 * CELL) y=(y + CELL) { (mark.name()) ": " (of(count, "cluster")) ", " (bytes) }
    }
}
