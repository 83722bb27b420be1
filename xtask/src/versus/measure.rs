//! Running programs in turn and measuring them from outside.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use wait4::Wait4 as _;

use crate::error::Result;

/// Where the header's reftable pointer is, and how long.
const REFTABLE_POINTER: (u64, usize) = (48, 12);

/// After this no further run is begun.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// A read-only check.
    Check,
    /// `-r all` on an image whose reftable pointer is gone.
    Rebuild,
}

impl Task {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Rebuild => "-r all",
        }
    }
}

/// A program with the options of `qemu-img check`.
pub struct Subject {
    name: &'static str,
    pub program: PathBuf,
}

/// What one run took.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Seconds of all processors.
    pub processor: f64,
    /// Peak resident memory, in bytes.
    pub memory: u64,
}

impl Used {
    /// Medians over the runs, each by itself.
    pub fn median(runs: &[Self]) -> Self {
        let of = |part: fn(&Self) -> f64| median(runs.iter().map(part).collect());
        let mut memory: Vec<u64> = runs.iter().map(|run| run.memory).collect();
        memory.sort_unstable();
        Self {
            seconds: of(|run| run.seconds),
            processor: of(|run| run.processor),
            memory: memory.get(memory.len() / 2).copied().unwrap_or(0),
        }
    }
}

impl Subject {
    pub const fn new(name: &'static str, program: PathBuf) -> Self {
        Self { name, program }
    }

    pub fn run(&self, task: Task, image: &Path) -> Result<Used> {
        if task == Task::Rebuild {
            let file = OpenOptions::new().write(true).open(image)?;
            let (position, length) = REFTABLE_POINTER;
            file.write_all_at(&vec![0; length], position)?;
            file.sync_all()?;
        }
        let mut command = Command::new(&self.program);
        command.args(["check", "-q", "-f", "qcow2"]);
        if task == Task::Rebuild {
            command.args(["-r", "all"]);
        }
        command
            .arg(image)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let started = Instant::now();
        let mut child = command.spawn()?;
        let used = child.wait4()?;
        let seconds = started.elapsed().as_secs_f64();
        if !used.status.success() {
            let (name, task) = (self.name, task.name());
            return Err(format!("{name} {task}: {}", used.status).into());
        }
        Ok(Used {
            seconds,
            processor: (used.rusage.utime + used.rusage.stime).as_secs_f64(),
            memory: used.rusage.maxrss,
        })
    }
}

/// Runs both in turn, A B A B …, after one run of each that is not counted; medians, and of how many
/// runs. What takes longer than `PATIENCE` is run less often, at the least once; then the first run is
/// the one that counts.
pub fn in_turn(
    task: Task,
    one: &Subject,
    other: &Subject,
    image: &Path,
    runs: usize,
) -> Result<(Used, Used, usize)> {
    let (mut ones, mut others) = (Vec::new(), Vec::new());
    let started = Instant::now();
    for _ in 0..=runs {
        ones.push(one.run(task, image)?);
        others.push(other.run(task, image)?);
        if started.elapsed() > PATIENCE {
            break;
        }
    }
    let uncounted = usize::from(ones.len() > 1);
    let (ones, others) = (&ones[uncounted..], &others[uncounted..]);
    Ok((Used::median(ones), Used::median(others), ones.len()))
}

/// The middle value; of an even number of them the upper one of the two.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
