//! The table, and the page with its chart.

use std::fs;

use maud::html;

use super::Row;
use super::curve::Growth;
use crate::error::Result;

const PAGE: &str = "docs/performance.md";
const CHART: &str = "docs/performance.svg";
/// The first lines of the table.
pub const HEAD: &str = "\
| image | | floor | recount | qemu-img | ratio | target | memory: recount | qemu-img | runs | |
| --- | --- | --: | --: | --: | --: | --: | --: | --: | --: | --- |
";
/// What the page says before the table.
const TITLE: &str = "\
# Performance

All on this page is written by `cargo xtask versus --write`: recount and qemu-img in turn on the
same images, warm cache, medians of whole processes. `check` is read-only; before `-r all` the
header's reftable pointer was set to zeros, so that both build the refcount structures anew, and
say which clusters have lost their refcounts, qemu-img on a line for each. The *floor* is the time of
reading the same L2 tables and refblocks one by one and nothing else; for `-r all`, of writing the
refblocks and of three flushes as well. Where one pair of runs takes long there are fewer of them.

";
/// And between the tables.
const CHART_LINK: &str = "
![How many times as long qemu-img takes](performance.svg)

## How the cost grows

recount alone, 64 KiB clusters.

";
const BAR_HEIGHT: usize = 18;
const LABEL_WIDTH: f64 = 360.0;
const CHART_WIDTH: f64 = 420.0;

/// A line of the table, which is Markdown and reads well on a terminal too.
pub fn line(row: &Row) -> String {
    format!(
        "| {} | `{}` | {} | {} | {} | {:.1} | {:.0} | {} | {} | {} | {} |\n",
        row.kind.describe(),
        row.task.name(),
        seconds(row.floor),
        seconds(row.recount.seconds),
        seconds(row.qemu_img.seconds),
        row.ratio(),
        row.target(),
        mebibytes(row.recount.memory),
        mebibytes(row.qemu_img.memory),
        row.runs,
        if row.is_met() { "" } else { "missed" },
    )
}

/// Writes the page and the chart.
pub fn write(rows: &[Row], growth: &Growth) -> Result<()> {
    fs::create_dir_all("docs")?;
    fs::write(CHART, chart(rows))?;
    let table: String = rows.iter().map(line).collect();
    let growth = growth.tables();
    Ok(fs::write(
        PAGE,
        format!("{TITLE}{HEAD}{table}{CHART_LINK}{growth}"),
    )?)
}

/// Seconds, to the millisecond.
pub fn seconds(value: f64) -> String {
    format!("{value:.3} s")
}

/// A place in a chart: more digits nobody sees.
pub fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Whole mebibytes, rounded up.
pub fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

/// A bar for each row: how many times as long qemu-img takes, on a logarithmic scale, with a mark
/// where the target is.
fn chart(rows: &[Row]) -> String {
    let largest = rows.iter().map(Row::ratio).fold(10.0, f64::max);
    let width = |ratio: f64| tenths(ratio.max(1.0).log10() / largest.log10() * CHART_WIDTH);
    let x = |ratio: f64| LABEL_WIDTH + width(ratio);
    let height = (rows.len() + 2) * BAR_HEIGHT + BAR_HEIGHT / 2;
    let powers = [1.0, 10.0, 100.0, 1000.0]
        .into_iter()
        .filter(|power| *power <= largest);
    let tops = (2 * BAR_HEIGHT + BAR_HEIGHT / 4..).step_by(BAR_HEIGHT);
    let chart = html! {
        svg xmlns="http://www.w3.org/2000/svg"
            viewBox={ "0 0 " (LABEL_WIDTH + CHART_WIDTH + 60.0) " " (height) }
            font-family="sans-serif" font-size="12" {
            rect width="100%" height="100%" fill="#fff" {}
            text x="8" y="14" { "How many times as long qemu-img takes (red: target)" }
            @for power in powers {
                line x1=(x(power)) x2=(x(power)) y1=(BAR_HEIGHT * 2) y2=(height) stroke="#ccc" {}
                text x=(x(power)) y=(BAR_HEIGHT * 2 - 4) text-anchor="middle" fill="#666" {
                    (power) "×"
                }
            }
            @for (row, top) in rows.iter().zip(tops) {
                @let ratio = row.ratio();
                text x=(LABEL_WIDTH - 6.0) y=(top + 10) text-anchor="end" {
                    (row.kind.describe()) ", " (row.task.name())
                }
                rect x=(LABEL_WIDTH) y=(top) width=(width(ratio)) height="12" fill="#3a6ea5" {}
                rect x=(x(row.target())) y=(top) width="2" height="12" fill="#c33" {}
                text x=(x(ratio) + 4.0) y=(top + 10) { (format!("{ratio:.1}×")) }
            }
        }
    };
    chart.into_string() + "\n"
}
