//! How fast each run was, over its time.

use std::fmt::Write as _;

use super::super::model::{Progress, Report, Run};

const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 160.0;
/// Room for the numbers at the sides.
const MARGIN: f64 = 40.0;

/// A line for each run: cases a second, between one note and the next.
pub fn of(report: &Report) -> String {
    let runs: Vec<Vec<(f64, f64)>> = report.runs.iter().map(rates).collect();
    let points = || runs.iter().flatten();
    let longest = points().map(|point| point.0).fold(0.0, f64::max);
    let fastest = points().map(|point| point.1).fold(0.0, f64::max);
    if longest <= 0.0 || fastest <= 0.0 {
        return String::new();
    }
    let mut html = format!(
        "<h2>Cases a second</h2><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"cases a second over time\">"
    );
    let x = |seconds: f64| MARGIN + (WIDTH - 2.0 * MARGIN) * seconds / longest;
    let y = |rate: f64| HEIGHT - MARGIN / 2.0 - (HEIGHT - MARGIN) * rate / fastest;
    for (rate, label) in [(0.0, "0".to_owned()), (fastest, format!("{fastest:.0}"))] {
        let (left, right, at) = (MARGIN, WIDTH - MARGIN, y(rate));
        let _ = write!(
            html,
            "<line x1=\"{left}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            left - 6.0,
            at + 4.0
        );
    }
    for run in &runs {
        let line: Vec<String> = run
            .iter()
            .map(|(seconds, rate)| format!("{:.1},{:.1}", x(*seconds), y(*rate)))
            .collect();
        let _ = write!(html, "<polyline points=\"{}\"/>", line.join(" "));
    }
    let _ = write!(
        html,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{longest:.0} s</text></svg>",
        WIDTH - MARGIN,
        HEIGHT - 4.0
    );
    html
}

/// Seconds, and cases a second since the note before.
#[expect(clippy::cast_precision_loss, reason = "a point of a line is not exact")]
fn rates(run: &Run) -> Vec<(f64, f64)> {
    let pairs = run.progress.windows(2);
    pairs
        .filter_map(|pair| {
            let [Progress { seconds, cases, .. }, now] = pair else {
                return None;
            };
            let passed = now.seconds - seconds;
            let done = now.cases.saturating_sub(*cases) as f64;
            (passed > 0.0).then_some((now.seconds, done / passed))
        })
        .collect()
}
