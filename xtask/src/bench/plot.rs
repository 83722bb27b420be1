//! The comparison as a picture: for each task the interval of each series, around no difference.

use std::fmt::Write as _;

use super::compare::Row;

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
    let x = |percent: f64| LABEL_WIDTH + (percent - lowest) / (highest - lowest) * WIDTH;
    let heights = rows.iter().map(|row| {
        row.series
            .iter()
            .fold(GAP, |height, _| height + SERIES_HEIGHT)
    });
    let height = heights.sum::<f64>() + 3.5 * GAP;
    let width = LABEL_WIDTH + WIDTH + 20.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"8\" y=\"{GAP}\">How much more processor time this tree takes: median and 95 % \
         interval of each series (red: slower in all)</text>\n"
    );
    let top = 2.5 * GAP;
    // Each on its side: the two lines may be close together.
    for (percent, colour, anchor) in [(0.0, "#000", "end"), (threshold, "#c33", "start")] {
        let _ = writeln!(
            svg,
            "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{top}\" y2=\"{height}\" stroke=\"{colour}\"/>\
             <text x=\"{0:.1}\" y=\"{1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{percent:+.0} %</text>",
            x(percent),
            top - 2.0,
        );
    }
    let mut y = top + GAP;
    for row in rows {
        let is_slower = row.is_regression(threshold);
        let colour = if is_slower { "#c33" } else { "#3a6ea5" };
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            LABEL_WIDTH - 6.0,
            y + 6.0,
            row.name,
        );
        for series in &row.series {
            let _ = writeln!(
                svg,
                "<line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{y}\" y2=\"{y}\" stroke=\"{colour}\" \
                 stroke-width=\"2\"/><circle cx=\"{:.1}\" cy=\"{y}\" r=\"3\" fill=\"{colour}\"/>",
                x(series.low),
                x(series.high),
                x(series.percent),
            );
            y += SERIES_HEIGHT;
        }
        y += GAP;
    }
    svg.push_str("</svg>\n");
    svg
}
