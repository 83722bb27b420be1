//! The comparison as a picture: for each task the interval of each series, around no difference.

use std::fmt::Write as _;

use super::compare::Row;

const LABEL_WIDTH: f64 = 380.0;
const WIDTH: f64 = 480.0;
const SERIES_HEIGHT: f64 = 8.0;
const GAP: f64 = 14.0;

/// The chart, as SVG.
pub fn chart(rows: &[Row], threshold: f64) -> String {
    let series = rows.iter().flat_map(|row| &row.series);
    let reach = series
        .flat_map(|series| [series.low.abs(), series.high.abs()])
        .fold(threshold * 2.0, f64::max);
    let x = |percent: f64| LABEL_WIDTH + WIDTH / 2.0 + percent / reach * WIDTH / 2.0;
    let heights = rows.iter().map(|row| {
        row.series
            .iter()
            .fold(GAP, |height, _| height + SERIES_HEIGHT)
    });
    let height = heights.sum::<f64>() + 2.0 * GAP;
    let width = LABEL_WIDTH + WIDTH + 20.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>How much more processor time this tree takes, in percent</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    for (percent, colour) in [(0.0, "#000"), (threshold, "#c33")] {
        let _ = writeln!(
            svg,
            "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{GAP}\" y2=\"{height}\" stroke=\"{colour}\"/>\
             <text x=\"{0:.1}\" y=\"11\" text-anchor=\"middle\">{percent:+.0} %</text>",
            x(percent),
        );
    }
    let mut y = 2.0 * GAP;
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
