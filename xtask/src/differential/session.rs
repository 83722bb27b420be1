//! Runs the cases, several at a time, until they or the time run out, or someone interrupts.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use recount_oracle::case::damage::{self, Applied, Damage, SparseBytes};
use recount_oracle::case::real::{Kind, Recipe};
use recount_oracle::case::{Case, Image};
use tempfile::TempDir;

use super::Args;
use super::cases::{CASES_PER_IMAGE, CaseId, CaseName};
use super::comparison::{Comparison, Ending};
use super::guest::GuestData;
use super::judge::{Trial, judge};
use super::make::Maker;
use super::observe::{Bench, observe};
use super::record;
use super::run::RunError;
use super::tally::Tally;
use super::tools::Checker;

/// What one case gave.
type Endings = Vec<(Comparison, Ending)>;

/// Which cases to run.
pub enum Cases {
    /// As many of this seed as the options say.
    Seed(u64),
    /// These, made from their seeds.
    Random(Vec<CaseId>),
    /// These, recorded earlier.
    Recorded(Vec<PathBuf>),
}

/// One run.
pub struct Session<'a> {
    args: &'a Args,
    ours: Checker,
    theirs: Option<Checker>,
    maker: Maker,
    folder: TempDir,
    deadline: Option<Instant>,
    interrupted: Arc<AtomicBool>,
}

/// A recipe's image and what happens to it in one case.
pub struct Damaged {
    /// The image after the damage.
    pub image: SparseBytes,
    /// The acts of damage, and the bytes that each changed.
    pub acts: Vec<(Damage, Applied)>,
}

impl<'a> Session<'a> {
    /// Ready to run; from here on an interrupt ends the run in good order.
    pub fn new(
        args: &'a Args,
        ours: Checker,
        theirs: Option<Checker>,
        maker: Maker,
        folder: TempDir,
    ) -> io::Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, interrupted.clone())?;
        }
        let deadline = args.time.map(|time| Instant::now() + time);
        Ok(Self {
            args,
            ours,
            theirs,
            maker,
            folder,
            deadline,
            interrupted,
        })
    }

    /// The two programs and the cases, in a line.
    pub fn describe(&self, cases: &Cases) -> String {
        let ours = self.ours.describe();
        match (cases, &self.theirs) {
            (Cases::Recorded(paths), _) => {
                let count = paths.len();
                format!("{ours} against the recorded verdicts of qemu-img on {count} cases")
            }
            (Cases::Seed(seed), Some(theirs)) => {
                format!("{ours} against {}, seed {seed}", theirs.describe())
            }
            (_, Some(theirs)) => format!("{ours} against {}", theirs.describe()),
            (_, None) => ours,
        }
    }

    /// The qemu-img that is compared with.
    pub const fn theirs(&self) -> Option<&Checker> {
        self.theirs.as_ref()
    }

    /// recount.
    pub const fn ours(&self) -> &Checker {
        &self.ours
    }

    /// What makes images.
    pub const fn maker(&self) -> &Maker {
        &self.maker
    }

    /// How many cases the options ask for.
    pub const fn wanted(&self) -> u64 {
        self.args.cases
    }

    /// Runs the cases and prints the result.
    pub fn run(&self, cases: &Cases) -> Result<ExitCode, RunError> {
        let begin = Instant::now();
        let tally = Mutex::new(Tally::default());
        let bar = self.progress(cases);
        let done = |case: &CaseName, endings: Endings| {
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.add(case, endings);
            bar.set_position(tally.cases());
            bar.set_message(format!("{} mismatches", tally.mismatches()));
        };
        let outcome = self.all(cases, &done);
        bar.finish_and_clear();
        let mut tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
        // What was found before something went wrong is not lost.
        tally.print(begin.elapsed(), |case| self.rerun(case));
        outcome?;
        let found = tally.mismatches() > 0;
        Ok(if found {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }

    fn all(
        &self,
        cases: &Cases,
        done: &(dyn Fn(&CaseName, Endings) + Sync),
    ) -> Result<(), RunError> {
        match cases {
            Cases::Seed(seed) => {
                let cases = self.limit();
                self.in_parallel(cases.div_ceil(CASES_PER_IMAGE), |group| {
                    let first = group * CASES_PER_IMAGE;
                    let ids = first..cases.min(first + CASES_PER_IMAGE);
                    let ids = ids.map(|index| CaseId { seed: *seed, index });
                    self.group(&ids.collect::<Vec<_>>(), done)
                })
            }
            Cases::Random(ids) => {
                self.in_parallel(ids.len() as u64, |i| self.group(&[ids[i as usize]], done))
            }
            Cases::Recorded(paths) => self.in_parallel(paths.len() as u64, |index| {
                self.recorded(&paths[index as usize], done)
            }),
        }
    }

    /// With a time limit the cases never run out.
    const fn limit(&self) -> u64 {
        match self.args.time {
            Some(_) => u32::MAX as u64,
            None => self.args.cases,
        }
    }

    /// Does `work` for every number below `count`, in order as far as threads allow.
    fn in_parallel(
        &self,
        count: u64,
        work: impl Fn(u64) -> Result<(), RunError> + Sync,
    ) -> Result<(), RunError> {
        let jobs = self.args.jobs.unwrap_or(0);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(jobs).build();
        let next = AtomicU64::new(0);
        let failed = AtomicBool::new(false);
        let outcomes = pool.map_err(io::Error::other)?.broadcast(|_| {
            while !self.is_over() && !failed.load(Ordering::Relaxed) {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    break;
                }
                work(index).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
            }
            Ok(())
        });
        outcomes.into_iter().collect()
    }

    fn is_over(&self) -> bool {
        let late = |deadline| Instant::now() >= deadline;
        self.interrupted.load(Ordering::Relaxed) || self.deadline.is_some_and(late)
    }

    /// Makes one image and runs some of the cases that damage it.
    fn group(&self, cases: &[CaseId], done: &dyn Fn(&CaseName, Endings)) -> Result<(), RunError> {
        let (Some(first), Some(theirs)) = (cases.first(), &self.theirs) else {
            return Ok(());
        };
        let temporary = self.folder()?;
        let directory = self.directory(&temporary)?;
        let recipe = first.recipe();
        let whole = self.maker.make(&recipe, directory)?;
        let seen = GuestData::read(&whole);
        for &case in cases {
            if self.is_over() {
                break;
            }
            let damaged = damage(&whole, case.damage())?;
            let bench = bench(directory, &recipe, &damaged.image);
            let endings = match observe(theirs, bench)? {
                Some(observed) => judge(&Trial {
                    ours: &self.ours,
                    theirs: self.theirs.as_ref(),
                    observed: &observed,
                    bench,
                    damage: &damaged.acts,
                    whole: &seen,
                })?,
                None => Comparison::ALL
                    .map(|all| (all, Ending::NotApplicable))
                    .to_vec(),
            };
            done(&CaseName::Random(case), endings);
        }
        Ok(())
    }

    /// Runs a recorded case against each version's recorded verdict.
    fn recorded(&self, path: &Path, done: &dyn Fn(&CaseName, Endings)) -> Result<(), RunError> {
        let (record, image) = (record::load(path)?, record::load_image(path)?);
        let temporary = self.folder()?;
        let directory = self.directory(&temporary)?;
        let Some(recipe) = recipe(&record.case) else {
            return Ok(());
        };
        for observed in record
            .verdicts
            .values()
            .filter_map(|said| said.observed.as_ref())
        {
            let endings = judge(&Trial {
                ours: &self.ours,
                theirs: None,
                observed,
                bench: bench(directory, recipe, &image),
                damage: &[],
                whole: &GuestData::default(),
            })?;
            done(&CaseName::Recorded(path.to_owned()), endings);
        }
        Ok(())
    }

    /// A folder for one image, gone when dropped.
    pub fn folder(&self) -> io::Result<TempDir> {
        tempfile::tempdir_in(&self.folder)
    }

    /// That folder, or the one that is to be kept.
    fn directory<'b>(&'b self, temporary: &'b TempDir) -> io::Result<&'b Path> {
        match &self.args.keep {
            Some(kept) => std::fs::create_dir_all(kept).map(|()| kept.as_path()),
            None => Ok(temporary.path()),
        }
    }

    fn rerun(&self, case: &CaseName) -> String {
        let mut command = format!("cargo xtask differential {}", case.option());
        if self.args.qemu_img != Path::new("qemu-img") {
            command.extend([" --qemu-img ", &self.args.qemu_img.to_string_lossy()]);
        }
        if let Some(recount) = &self.args.recount {
            command.extend([" --recount ", &recount.to_string_lossy()]);
        }
        command
    }

    fn progress(&self, cases: &Cases) -> ProgressBar {
        // indicatif draws on standard error, and only when that is a terminal.
        let (bar, template) = match (cases, self.args.time) {
            (Cases::Seed(_), Some(_)) => (
                ProgressBar::new_spinner(),
                "{spinner} {elapsed} {pos} cases, {per_sec}, {msg}",
            ),
            _ => (
                ProgressBar::new(match cases {
                    Cases::Seed(_) => self.args.cases,
                    Cases::Random(ids) => ids.len() as u64,
                    Cases::Recorded(paths) => paths.len() as u64,
                }),
                "{bar:40} {pos}/{len} cases, {per_sec}, {msg}",
            ),
        };
        let style = ProgressStyle::with_template(template);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

/// A case's image on the bench.
pub fn bench<'a>(directory: &'a Path, recipe: &Recipe, damaged: &'a SparseBytes) -> Bench<'a> {
    Bench {
        directory,
        encrypted: recipe.kind == Kind::Luks,
        damaged,
    }
}

/// The recipe of a case with a real image.
pub const fn recipe(case: &Case) -> Option<&Recipe> {
    match &case.image {
        Image::Real(recipe) => Some(recipe),
        _ => None,
    }
}

/// Does the damage to a copy.
pub fn damage(whole: &SparseBytes, acts: Vec<Damage>) -> Result<Damaged, RunError> {
    let mut damaged = Damaged {
        image: whole.clone(),
        acts: Vec::new(),
    };
    for act in acts {
        let applied = damage::apply(&mut damaged.image, &act)?;
        damaged.acts.push((act, applied));
    }
    Ok(damaged)
}
