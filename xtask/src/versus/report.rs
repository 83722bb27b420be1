//! The table, and the page with its chart.

use std::fmt::Write as _;
use std::fs;
use std::io;

use super::Row;
use super::curve::Growth;

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
say of every cluster that its refcount was lost. The *floor* is the time of reading the same L2
tables and refblocks one by one and nothing else; for `-r all`, of writing the refblocks and of two
flushes as well. Where one pair of runs takes long there are fewer of them.

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
        row.recount.runs,
        if row.is_met() { "" } else { "missed" },
    )
}

/// Writes the page and the chart.
pub fn write(rows: &[Row], growth: &Growth) -> io::Result<()> {
    fs::create_dir_all("docs")?;
    fs::write(CHART, chart(rows))?;
    let table: String = rows.iter().map(line).collect();
    let growth = growth.tables();
    fs::write(PAGE, format!("{TITLE}{HEAD}{table}{CHART_LINK}{growth}"))
}

/// Seconds, to the millisecond.
pub fn seconds(value: f64) -> String {
    format!("{value:.3} s")
}

/// Whole mebibytes, rounded up.
pub fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

/// A bar for each row: how many times as long qemu-img takes, on a logarithmic scale, with a mark
/// where the target is.
fn chart(rows: &[Row]) -> String {
    let largest = rows.iter().map(Row::ratio).fold(10.0, f64::max);
    let decades = largest.log10();
    let x = |ratio: f64| LABEL_WIDTH + ratio.max(1.0).log10() / decades * CHART_WIDTH;
    let height = (rows.len() + 2) * BAR_HEIGHT + BAR_HEIGHT / 2;
    let width = LABEL_WIDTH + CHART_WIDTH + 60.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"8\" y=\"14\">How many times as long qemu-img takes (red: target)</text>\n"
    );
    for power in [1.0, 10.0, 100.0, 1000.0] {
        if power <= largest {
            let _ = writeln!(
                svg,
                "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{1}\" y2=\"{height}\" stroke=\"#ccc\"/>\
                 <text x=\"{0:.1}\" y=\"{2}\" text-anchor=\"middle\" fill=\"#666\">{power}×</text>",
                x(power),
                BAR_HEIGHT * 2,
                BAR_HEIGHT * 2 - 4,
            );
        }
    }
    for (index, row) in rows.iter().enumerate() {
        svg.push_str(&bar(row, (index + 2) * BAR_HEIGHT + BAR_HEIGHT / 4, x));
    }
    svg.push_str("</svg>\n");
    svg
}

fn bar(row: &Row, top: usize, x: impl Fn(f64) -> f64) -> String {
    format!(
        "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\">{}, {}</text>\
         <rect x=\"{LABEL_WIDTH}\" y=\"{top}\" width=\"{:.1}\" height=\"12\" fill=\"#3a6ea5\"/>\
         <rect x=\"{:.1}\" y=\"{top}\" width=\"2\" height=\"12\" fill=\"#c33\"/>\
         <text x=\"{:.1}\" y=\"{text}\">{:.1}×</text>\n",
        LABEL_WIDTH - 6.0,
        row.kind.describe(),
        row.task.name(),
        x(row.ratio()) - LABEL_WIDTH,
        x(row.target()),
        x(row.ratio()) + 4.0,
        row.ratio(),
        text = top + 10,
    )
}
