//! `cargo xtask versus`: recount and qemu-img on the same large images, in turn, in one run; and
//! beside them the floor, the time that plain reads of the same metadata take.

mod curve;
mod floor;
pub mod images;
pub mod measure;
pub mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum as _;
use indicatif::ProgressBar;

use crate::error::Result;
use crate::process::build_release;
use images::ImageKind;
use measure::{Subject, Task, Used};

/// Options of `cargo xtask versus`.
#[derive(clap::Args)]
pub struct Args {
    /// The qemu-img to compare with.
    #[arg(long, default_value = "qemu-img", value_name = "PATH")]
    qemu_img: PathBuf,
    /// The recount to compare; built from this tree unless given.
    #[arg(long, value_name = "PATH")]
    recount: Option<PathBuf>,
    /// Only these kinds of images (several times).
    #[arg(long, value_name = "KIND")]
    only: Vec<ImageKind>,
    /// Counted runs of each; one more goes before them, uncounted.
    #[arg(long, default_value_t = 5, value_name = "N")]
    runs: usize,
    /// Where the images are made; they take up a few GiB at most.
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Measures as well how the cost grows with the clusters in use, and not with the device.
    #[arg(long)]
    growth: bool,
    /// Writes docs/performance.md and docs/performance.svg, growth included.
    #[arg(long)]
    write: bool,
}

/// What was measured of one kind of image.
pub struct Row {
    kind: ImageKind,
    task: Task,
    recount: Used,
    qemu_img: Used,
    /// How many runs they are the medians of.
    runs: usize,
    /// Seconds that the plain reads, and for a rebuild the writes and flushes, take.
    floor: f64,
}

impl Row {
    /// How many times as long qemu-img takes.
    fn ratio(&self) -> f64 {
        self.qemu_img.seconds / self.recount.seconds
    }

    /// What the ratio should be at least: less for a rebuild where flushes are most of the time.
    fn target(&self) -> f64 {
        match self.task {
            Task::Check => 10.0,
            Task::Rebuild if self.qemu_img.seconds > 0.5 => 15.0,
            Task::Rebuild => 8.0,
        }
    }

    /// Whether the ratio and the memory are as they should be.
    fn is_met(&self) -> bool {
        self.ratio() >= self.target() && self.recount.memory <= self.qemu_img.memory
    }
}

/// Measures, prints the table, and writes it where asked to; exits with 1 where a target is missed.
pub fn run(args: &Args) -> Result<ExitCode> {
    let directory = match &args.directory {
        Some(directory) => tempfile::tempdir_in(directory)?,
        None => tempfile::tempdir()?,
    };
    let recount = match &args.recount {
        Some(path) => std::path::absolute(path)?,
        None => build_release()?,
    };
    let ours = Subject::new("recount", recount);
    let theirs = Subject::new("qemu-img", args.qemu_img.clone());
    let kinds = if args.only.is_empty() {
        ImageKind::value_variants()
    } else {
        &args.only
    };
    let bar = ProgressBar::new(kinds.len() as u64 * 2);
    let mut rows = Vec::new();
    print!("{}", report::HEAD);
    for kind in kinds {
        bar.println(format!("making the image: {}", kind.describe()));
        let image = kind.make(directory.path(), &args.qemu_img, &ours.program)?;
        for task in [Task::Check, Task::Rebuild] {
            let (recount, qemu_img, runs) =
                measure::in_turn(task, &ours, &theirs, &image, args.runs)?;
            let row = Row {
                kind: *kind,
                task,
                recount,
                qemu_img,
                runs,
                floor: floor::seconds(task, &image, args.runs)?,
            };
            bar.suspend(|| print!("{}", report::line(&row)));
            rows.push(row);
            bar.inc(1);
        }
        std::fs::remove_file(&image)?;
    }
    bar.finish_and_clear();
    if args.growth || args.write {
        let bar = ProgressBar::new_spinner();
        let growth = curve::measure(directory.path(), &args.qemu_img, &ours, args.runs, &bar)?;
        bar.finish_and_clear();
        print!("\n{}", growth.tables());
        if args.write {
            report::write(&rows, &growth)?;
        }
    }
    Ok(ExitCode::from(u8::from(!rows.iter().all(Row::is_met))))
}
