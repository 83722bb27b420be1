//! Two programs on the same images, in turn. What is compared is processor time: it hardly depends
//! on what else the machine does, as wall-clock time does. Waiting shows in the exact counts.

use std::fmt::Write as _;
use std::path::Path;

use indicatif::ProgressBar;

use super::Args;
use super::statistics::{Difference, difference};
use crate::error::Result;
use crate::versus::images::ImageKind;
use crate::versus::measure::{Subject, Task, median};

/// A run repeats its task until this much processor time went by, or so: a process that is over at
/// once is mostly its own beginning and end.
const ENOUGH: f64 = 0.05;
/// Repetitions at most.
const REPETITIONS_MAX: u32 = 8;

/// A task on a kind of image.
pub struct Row {
    pub name: String,
    /// Median processor seconds before.
    pub before: f64,
    /// And of this tree.
    pub after: f64,
    /// One for each series.
    pub series: Vec<Difference>,
}

impl Row {
    /// Whether every series says that it takes longer.
    pub fn is_regression(&self, threshold: f64) -> bool {
        self.series.iter().all(|series| series.is_slower(threshold))
    }

    fn is_improvement(&self) -> bool {
        self.series.iter().all(|series| series.high < 0.0)
    }
}

/// All tasks on all kinds.
pub fn all(
    args: &Args,
    kinds: &[ImageKind],
    before: &Subject,
    after: &Subject,
) -> Result<Vec<Row>> {
    let directory = tempfile::tempdir()?;
    let bar = ProgressBar::new((kinds.len() * 2 * args.series) as u64);
    let mut rows = Vec::new();
    for kind in kinds {
        let image = kind.make(directory.path(), &args.qemu_img, &after.program)?;
        for task in [Task::Check, Task::Rebuild] {
            let mut differences = Vec::new();
            let mut every = Vec::new();
            for _ in 0..args.series {
                let pairs = series(args.runs, task, before, after, &image)?;
                differences.push(difference(&pairs));
                every.extend(pairs);
                bar.inc(1);
            }
            rows.push(Row {
                name: format!("{}, {}", kind.describe(), task.name()),
                before: median(every.iter().map(|pair| pair.0).collect()),
                after: median(every.iter().map(|pair| pair.1).collect()),
                series: differences,
            });
        }
        std::fs::remove_file(&image)?;
    }
    bar.finish_and_clear();
    Ok(rows)
}

/// A B, B A, A B … so that a machine that becomes slower or faster favours neither.
fn series(
    runs: usize,
    task: Task,
    before: &Subject,
    after: &Subject,
    image: &Path,
) -> Result<Vec<(f64, f64)>> {
    // Not counted: it warms the cache, and says how long one takes.
    let once = before.run(task, image)?.processor;
    let enough = |repetitions: &u32| f64::from(*repetitions) * once >= ENOUGH;
    let repetitions = (1..REPETITIONS_MAX).find(enough);
    let repetitions = repetitions.unwrap_or(REPETITIONS_MAX);
    let time = |subject: &Subject| -> Result<f64> {
        let mut sum = 0.0;
        for _ in 0..repetitions {
            sum += subject.run(task, image)?.processor;
        }
        Ok(sum / f64::from(repetitions))
    };
    (0..runs)
        .map(|number| {
            if number % 2 == 0 {
                let first = time(before)?;
                Ok((first, time(after)?))
            } else {
                let first = time(after)?;
                Ok((time(before)?, first))
            }
        })
        .collect()
}

/// A Markdown table.
pub fn table(rows: &[Row], threshold: f64) -> String {
    let mut text = "\
| | before | this tree | difference, 95 % interval of each series | |
| --- | --: | --: | --- | --- |
"
    .to_owned();
    for row in rows {
        let series = row.series.iter().map(|series| {
            let Difference { percent, low, high } = series;
            format!("{percent:+.1} % ({low:+.1} to {high:+.1})")
        });
        let verdict = if row.is_regression(threshold) {
            "slower"
        } else if row.is_improvement() {
            "faster"
        } else {
            ""
        };
        let _ = writeln!(
            text,
            "| {} | {:.1} ms | {:.1} ms | {} | {verdict} |",
            row.name,
            row.before * 1e3,
            row.after * 1e3,
            series.collect::<Vec<_>>().join(", "),
        );
    }
    text
}
