//! The comparison as a picture: for each task the interval of each series, around no difference.

use maud::html;

use super::compare::Row;
use crate::versus::report::tenths;

const LABEL_WIDTH: f64 = 280.0;
const WIDTH: f64 = 480.0;
const SERIES_HEIGHT: f64 = 8.0;
const GAP: f64 = 14.0;

/// The chart, as SVG.
pub fn chart(rows: &[Row], threshold: f64) -> String {
    let series = rows.iter().flat_map(|row| &row.series);
    let (lowest, highest) = series.fold((-threshold, 2.0 * threshold), |(low, high), series| {
        (series.low.min(low), series.high.max(high))
    });
    let x = |percent: f64| tenths(LABEL_WIDTH + (percent - lowest) / (highest - lowest) * WIDTH);
    let top = 2.5 * GAP;
    // Where each row begins, and last where they end.
    let mut starts = vec![top + GAP];
    for row in rows {
        let lines = row.series.iter().map(|_| SERIES_HEIGHT);
        starts.push(starts[starts.len() - 1] + lines.sum::<f64>() + GAP);
    }
    let (width, height) = (LABEL_WIDTH + WIDTH + 20.0, starts[rows.len()]);
    let colour = |row: &Row| {
        if row.is_regression(threshold) {
            "#c33"
        } else {
            "#3a6ea5"
        }
    };
    let chart = html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox={ "0 0 " (width) " " (height) }
            font-family="sans-serif" font-size="12" {
            rect width="100%" height="100%" fill="#fff" {}
            text x="8" y=(GAP) {
                "How much more processor time this tree takes: median and 95 % interval of each \
                 series (red: slower in all)"
            }
            // Each on its side: the two lines may be close together.
            @for (percent, colour, anchor) in [(0.0, "#000", "end"), (threshold, "#c33", "start")] {
                line x1=(x(percent)) x2=(x(percent)) y1=(top) y2=(height) stroke=(colour) {}
                text x=(x(percent)) y=(top - 2.0) text-anchor=(anchor) fill=(colour) {
                    (format!("{percent:+.0} %"))
                }
            }
            @for (row, start) in rows.iter().zip(&starts) {
                text x=(LABEL_WIDTH - 6.0) y=(start + 6.0) text-anchor="end" { (row.name) }
                @for (number, series) in (0_u32..).zip(&row.series) {
                    @let y = start + f64::from(number) * SERIES_HEIGHT;
                    line x1=(x(series.low)) x2=(x(series.high)) y1=(y) y2=(y) stroke=(colour(row))
                        stroke-width="2" {}
                    circle cx=(x(series.percent)) cy=(y) r="3" fill=(colour(row)) {}
                }
            }
        }
    };
    chart.into_string() + "\n"
}
