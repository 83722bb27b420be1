//! Runs the cases, several at a time, and prints the result.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use recount_oracle::case::damage::{self, DamageError};
use recount_oracle::case::real::Kind;
use tempfile::TempDir;

use super::Args;
use super::cases::{CASES_PER_IMAGE, CaseId};
use super::comparison::{Comparison, Ending};
use super::judge::{JudgeError, Pair, Subject, judge};
use super::make::{MakeError, Maker};
use super::program::CannotRun;
use super::tally::Tally;
use super::tools::Checker;

/// The memory file system of Linux: flushing to it takes no time.
const MEMORY_FILES: &str = "/dev/shm";
/// Free bytes that it must have to be used.
const ENOUGH_MEMORY_FILES: u64 = 2 << 30;

/// Why the run could not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// qemu-img is not there, though asked for.
    #[error("{0}\ninstall it with: apt-get install qemu-utils")]
    NoQemu(CannotRun),
    /// recount is not there.
    #[error(transparent)]
    NoRecount(CannotRun),
    /// cargo did not build recount.
    #[error("cargo build --release --package recount failed")]
    NotBuilt,
    /// An image could not be made.
    #[error(transparent)]
    Make(#[from] MakeError),
    /// An image could not be damaged.
    #[error(transparent)]
    Damage(#[from] DamageError),
    /// A case could not be run.
    #[error(transparent)]
    Judge(#[from] JudgeError),
    /// Something about temporary files or threads.
    #[error("cannot run cases: {0}")]
    Io(#[from] io::Error),
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode, RunError> {
    let theirs = Checker::find(&args.qemu_img).map_err(RunError::NoQemu)?;
    let recount = match &args.recount {
        Some(path) => path.clone(),
        None => build_recount()?,
    };
    let pair = Pair {
        theirs,
        ours: Checker::find(&recount).map_err(RunError::NoRecount)?,
    };
    let seed = args.only.map(|only| only.seed).or(args.seed);
    let seed = seed.unwrap_or_else(|| rand::random::<u32>().into());
    println!(
        "{} against {}, seed {seed}",
        pair.ours.describe(),
        pair.theirs.describe()
    );
    let session = Session {
        pair,
        maker: Maker::new(PathBuf::from("qemu-img"), PathBuf::from("qemu-io")),
        folder: work_folder()?,
        args,
        deadline: args.time.map(|time| Instant::now() + time),
    };
    session.run(seed)
}

/// One run.
struct Session<'a> {
    pair: Pair,
    maker: Maker,
    folder: TempDir,
    args: &'a Args,
    deadline: Option<Instant>,
}

impl Session<'_> {
    fn run(&self, seed: u64) -> Result<ExitCode, RunError> {
        let begin = Instant::now();
        let tally = Mutex::new(Tally::default());
        let add = |case, endings| {
            let mut tally = tally
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            tally.add(case, endings);
            (tally.cases(), tally.mismatches())
        };
        if let Some(only) = self.args.only {
            println!("{:#?}", only.case());
            self.group(only.seed, only.group(), &[only], &|case, endings| {
                add(case, endings);
            })?;
        } else {
            self.all(seed, &|case, endings| add(case, endings))?;
        }
        let mut tally = tally
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        tally.print(begin.elapsed(), |case| self.rerun(case));
        let failed = tally.mismatches() > 0;
        Ok(if failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }

    fn all(
        &self,
        seed: u64,
        add: &(dyn Fn(CaseId, Vec<(Comparison, Ending)>) -> (u64, usize) + Sync),
    ) -> Result<(), RunError> {
        // With a time limit alone, the cases never run out.
        let cases = match self.args.time {
            Some(_) => u64::from(u32::MAX),
            None => self.args.cases,
        };
        let bar = progress(self.args, cases);
        let jobs = self.args.jobs.unwrap_or(0);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(jobs).build();
        let pool = pool.map_err(io::Error::other)?;
        let done = |case, endings| {
            let (cases, mismatches) = add(case, endings);
            bar.set_position(cases);
            bar.set_message(format!("{mismatches} mismatches"));
        };
        let groups = cases.div_ceil(CASES_PER_IMAGE);
        // By turns, so that the first cases run first.
        let next = std::sync::atomic::AtomicU64::new(0);
        let outcome = pool.broadcast(|_| {
            loop {
                let group = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if group >= groups || self.is_over() {
                    return Ok(());
                }
                let first = group * CASES_PER_IMAGE;
                let ids = (first..cases.min(first + CASES_PER_IMAGE))
                    .map(|index| CaseId { seed, index })
                    .collect::<Vec<_>>();
                self.group(seed, group, &ids, &done)?;
            }
        });
        bar.finish_and_clear();
        outcome.into_iter().collect()
    }

    fn is_over(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Makes one image and runs some of the cases that damage it.
    fn group(
        &self,
        seed: u64,
        group: u64,
        cases: &[CaseId],
        done: &dyn Fn(CaseId, Vec<(Comparison, Ending)>),
    ) -> Result<(), RunError> {
        let temporary = tempfile::Builder::new()
            .prefix(&format!("{seed}-{group}-"))
            .tempdir_in(&self.folder)?;
        let directory = match &self.args.keep {
            Some(kept) => {
                std::fs::create_dir_all(kept)?;
                kept.as_path()
            }
            None => temporary.path(),
        };
        let Some(first) = cases.first() else {
            return Ok(());
        };
        let recipe = first.recipe();
        let whole = self.maker.make(&recipe, directory)?;
        for &case in cases {
            if self.is_over() {
                break;
            }
            let mut damaged = whole.clone();
            let mut acts = Vec::new();
            for act in case.damage() {
                let applied = damage::apply(&mut damaged, &act)?;
                acts.push((act, applied));
            }
            let subject = Subject {
                directory,
                encrypted: recipe.kind == Kind::Luks,
                whole: &whole,
                damaged: &damaged,
                damage: &acts,
            };
            done(case, judge(&self.pair, &subject)?);
        }
        Ok(())
    }

    fn rerun(&self, case: CaseId) -> String {
        let mut command = format!("cargo xtask differential --only {case}");
        if self.args.qemu_img != Path::new("qemu-img") {
            command.extend([" --qemu-img ", &self.args.qemu_img.to_string_lossy()]);
        }
        if let Some(recount) = &self.args.recount {
            command.extend([" --recount ", &recount.to_string_lossy()]);
        }
        command
    }
}

fn progress(args: &Args, cases: u64) -> ProgressBar {
    // indicatif draws on standard error, and only when that is a terminal.
    let bar = match args.time {
        Some(_) => ProgressBar::new_spinner(),
        None => ProgressBar::new(cases),
    };
    let template = match args.time {
        Some(_) => "{spinner} {elapsed} {pos} cases, {per_sec}, {msg}",
        None => "{bar:40} {pos}/{len} cases, {per_sec}, {msg}",
    };
    let style = ProgressStyle::with_template(template);
    let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Where the images are made: gone when the run ends.
fn work_folder() -> io::Result<TempDir> {
    let builder = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix("recount-differential-");
        builder
    };
    let free = rustix::fs::statvfs(MEMORY_FILES).map(|stat| stat.f_bavail * stat.f_frsize);
    let chosen = std::env::var_os("TMPDIR").is_some();
    match free {
        Ok(ENOUGH_MEMORY_FILES..) if !chosen => builder().tempdir_in(MEMORY_FILES),
        _ => builder().tempdir(),
    }
}

/// Builds recount and says where it is: next to this program.
fn build_recount() -> Result<PathBuf, RunError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--package", "recount"])
        .status()?;
    if !built.success() {
        return Err(RunError::NotBuilt);
    }
    Ok(std::env::current_exe()?.with_file_name("recount"))
}
