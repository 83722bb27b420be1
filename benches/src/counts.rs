//! What each task costs on each kind of image, in numbers that are the same on every machine: a
//! change of the engine that reads twice, writes once more or tries again shows here, however busy
//! the machine is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use recount::repair::plan;
use recount::{RepairOptions, Storage, Survey, check, repair};
use recount_oracle::case::Operation;
use recount_oracle::disk::SimulatedDisk;
use recount_subjects::engine::Lent;
use serde::{Deserialize, Serialize};

use crate::{Kind, Task};

/// Guest clusters of the images.
const CLUSTERS: u32 = 4_000;

/// The first lines of the file.
const HEAD: &str = "\
# What a check, a repair in place and a rebuild cost on each kind of image. `cargo test` fails when
# one of these numbers changes without this file; `cargo xtask bench --counts` writes it anew.
";

/// What one task costs on one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Reads.
    pub reads: u32,
    /// Bytes that they were for.
    pub bytes_read: u64,
    /// Writes.
    pub writes: u32,
    /// Bytes that they were for.
    pub bytes_written: u64,
    /// Flushes.
    pub flushes: u32,
    /// Placements that the planner tried, where there was anything to plan.
    pub planner_tries: u64,
    /// Bytes of the table of counts, when everything is counted.
    pub table_bytes: usize,
}

/// By kind of image and task.
pub type All = BTreeMap<String, Counts>;

/// Does the task and counts.
///
/// # Errors
/// When there is no such image, or the engine fails.
pub fn of(kind: Kind, task: Task) -> Result<Counts, String> {
    let bytes = kind.build(CLUSTERS, task)?;
    let planned = SimulatedDisk::new(bytes.clone(), None);
    let (planner_tries, table_bytes) = beforehand(&Lent::Shown(&planned))?;
    let mut disk = SimulatedDisk::new(bytes, None);
    let report = match task {
        Task::Check => check(&Lent::Shown(&disk), &mut ()).map_err(said)?,
        Task::RepairInPlace | Task::Rebuild => {
            let outcome = repair(
                &mut Lent::Whole(&mut disk),
                &RepairOptions::default(),
                &mut (),
            );
            outcome.map_err(said)?.report
        }
    };
    if !report.is_clean() {
        return Err(format!(
            "{} is not clean after {}",
            kind.name(),
            task.name()
        ));
    }
    let asked = disk.asked();
    let times = |operation| asked.operations[operation as usize];
    let written = disk.trace().writes().map(|(_, length)| length as u64);
    Ok(Counts {
        reads: times(Operation::Read),
        bytes_read: asked.bytes_read,
        writes: times(Operation::Write),
        bytes_written: written.sum(),
        flushes: times(Operation::Flush),
        planner_tries,
        table_bytes,
    })
}

/// What the operations on the disk do not show: tries of the planner, and memory of the table.
fn beforehand(storage: &dyn Storage) -> Result<(u64, usize), String> {
    let survey = Survey::take(storage, &mut ()).map_err(said)?;
    let plan = plan(storage, &RepairOptions::default(), &mut ()).map_err(said)?;
    let tries = plan.layout.as_ref().map_or(0, |layout| layout.tries);
    Ok((tries, survey.look.references.table.memory()))
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// All kinds, all tasks.
///
/// # Errors
/// As [`of`].
pub fn all() -> Result<All, String> {
    let scenarios = Kind::ALL
        .iter()
        .flat_map(|kind| Task::ALL.iter().map(|task| (*kind, *task)));
    scenarios
        .map(|(kind, task)| {
            let name = format!("{}/{}", kind.name(), task.name());
            Ok((name, of(kind, task)?))
        })
        .collect()
}

/// Where the numbers are kept.
pub fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("counts.toml")
}

/// The numbers that are kept.
///
/// # Errors
/// When the file cannot be read, or is not such a file.
pub fn kept() -> Result<All, String> {
    let text = std::fs::read_to_string(path()).map_err(said)?;
    toml::from_str(&text).map_err(said)
}

/// Keeps these numbers.
///
/// # Errors
/// When the file cannot be written.
pub fn keep(counts: &All) -> Result<(), String> {
    let text = toml::to_string(counts).map_err(said)?;
    std::fs::write(path(), HEAD.to_owned() + "\n" + &text).map_err(said)
}

/// One line for each number that changed.
pub fn changes(before: &All, after: &All) -> Vec<String> {
    let names: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    names
        .into_iter()
        .flat_map(|name| match (before.get(name), after.get(name)) {
            (Some(before), Some(after)) => changed(name, before, after),
            (None, _) => vec![format!("{name}: is not in the file")],
            (_, None) => vec![format!("{name}: there is no such scenario any more")],
        })
        .collect()
}

fn changed(name: &str, before: &Counts, after: &Counts) -> Vec<String> {
    let numbers = |counts: &Counts| {
        [
            ("reads", u64::from(counts.reads)),
            ("bytes_read", counts.bytes_read),
            ("writes", u64::from(counts.writes)),
            ("bytes_written", counts.bytes_written),
            ("flushes", u64::from(counts.flushes)),
            ("planner_tries", counts.planner_tries),
            ("table_bytes", counts.table_bytes as u64),
        ]
    };
    let pairs = numbers(before).into_iter().zip(numbers(after));
    pairs
        .filter(|(before, after)| before != after)
        .map(|((what, before), (_, after))| format!("{name}: {what} {before} -> {after}"))
        .collect()
}
