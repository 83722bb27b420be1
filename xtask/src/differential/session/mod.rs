//! Runs the cases, several at a time, until they or the time run out, or someone interrupts.

mod output;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use indicatif::ProgressBar;
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::real::{Kind, Recipe};
use recount_oracle::case::{Case, Image};
use tempfile::TempDir;

use crate::report::model::{Report, Run};

use super::Args;
use super::cases::{CaseId, CaseName, Selection};
use super::differences;
use super::disk;
use super::examine::{Depth, Exhibit, Findings, examine, examine_recorded};
use super::exhibit::Whole;
use super::field::Field;
use super::guest::GuestData;
use super::make::Maker;
use super::record;
use super::run::RunError;
use super::shrink::Shrinker;
use super::tally::{self, Tally};

/// Which cases to run.
pub enum Cases {
    /// Those of the seed, as many as the options say.
    Seed,
    /// These, made from their seeds.
    Random(Vec<CaseId>),
    /// These, recorded earlier.
    Recorded(Vec<PathBuf>),
}

/// One run.
pub struct Session<'a> {
    args: &'a Args,
    field: Field,
    maker: Maker,
    folder: TempDir,
    seed: u64,
    deadline: Option<Instant>,
    interrupted: Arc<AtomicBool>,
    tally: Mutex<Option<Tally>>,
    saved: Mutex<Instant>,
}

impl<'a> Session<'a> {
    /// Ready to run; from here on an interrupt ends the run in good order.
    pub fn new(
        args: &'a Args,
        field: Field,
        maker: Maker,
        folder: TempDir,
        seed: u64,
    ) -> io::Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, interrupted.clone())?;
        }
        let deadline = args.time.map(|time| Instant::now() + time);
        Ok(Self {
            args,
            field,
            maker,
            folder,
            seed,
            deadline,
            interrupted,
            tally: Mutex::default(),
            saved: Mutex::new(Instant::now()),
        })
    }

    /// Who takes part.
    pub const fn field(&self) -> &Field {
        &self.field
    }

    /// What makes images.
    pub const fn maker(&self) -> &Maker {
        &self.maker
    }

    /// How many cases the options ask for.
    pub const fn wanted(&self) -> u64 {
        self.args.cases
    }

    /// Runs the cases and prints the result, and goes on with an earlier report.
    pub fn run(&self, cases: &Cases, earlier: Option<Report>) -> Result<ExitCode, RunError> {
        let run = Run {
            seed: self.seed,
            shard: (self.args.shard.number, self.args.shard.of),
            synthetic_share: self.args.synthetic,
            seconds: 0.0,
            done: Vec::new(),
            progress: Vec::new(),
        };
        let tally = Tally::new(&self.field, run, earlier);
        self.with_tally(|slot| *slot = Some(tally));
        let bar = self.progress(cases);
        let outcome = self.all(cases, &bar);
        bar.finish_and_clear();
        let tally = self.with_tally(Option::take);
        let Some(report) = tally.map(Tally::into_report) else {
            return Ok(ExitCode::SUCCESS);
        };
        // What was found before something went wrong is not lost.
        tally::print(&report);
        if let Some(folder) = &self.args.report {
            report.save(folder)?;
            println!("the report is in {}", folder.join("index.html").display());
        }
        outcome?;
        let too_frequent = differences::too_frequent(&report.on_purpose, report.cases);
        for line in &too_frequent {
            println!("{line}");
        }
        let failed = report.counting() > 0 || !too_frequent.is_empty();
        Ok(ExitCode::from(u8::from(failed)))
    }

    fn with_tally<T>(&self, work: impl FnOnce(&mut Option<Tally>) -> T) -> T {
        work(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn all(&self, cases: &Cases, bar: &ProgressBar) -> Result<(), RunError> {
        match cases {
            Cases::Seed => {
                let selection = self.selection();
                let done = self.with_tally(|tally| tally.as_ref().map(Tally::done_groups));
                let done = done.unwrap_or_default();
                let is_done =
                    |group: &u64| done.iter().any(|(from, to)| (*from..*to).contains(group));
                let groups = selection.own_groups().filter(|group| !is_done(group));
                self.in_parallel(groups, |group| {
                    self.group(group, &selection.group(group), bar)
                })
            }
            Cases::Random(ids) => {
                self.in_parallel(ids.iter(), |id| self.cases_of_image(&[*id], bar))
            }
            Cases::Recorded(paths) => {
                self.in_parallel(paths.iter(), |path| self.recorded(path, bar))
            }
        }
    }

    /// With a time limit the cases never run out.
    const fn selection(&self) -> Selection {
        Selection {
            seed: self.seed,
            cases: match self.args.time {
                Some(_) => u32::MAX as u64,
                None => self.args.cases,
            },
            synthetic_share: self.args.synthetic,
            shard: self.args.shard,
        }
    }

    /// Does `work` for every item, in order as far as threads allow.
    fn in_parallel<T: Send>(
        &self,
        items: impl Iterator<Item = T> + Send,
        work: impl Fn(T) -> Result<(), RunError> + Sync,
    ) -> Result<(), RunError> {
        // A qemu-img waits for its own threads half of the time.
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let jobs = self.args.jobs.unwrap_or(2 * processors);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(jobs).build();
        let items = Mutex::new(items);
        let failed = AtomicBool::new(false);
        let outcomes = pool.map_err(io::Error::other)?.broadcast(|_| {
            while !self.is_over() && !failed.load(Ordering::Relaxed) {
                let next = items.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(item) = next else {
                    break;
                };
                work(item).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
            }
            Ok(())
        });
        outcomes.into_iter().collect()
    }

    fn is_over(&self) -> bool {
        let late = |deadline| Instant::now() >= deadline;
        self.is_interrupted() || self.deadline.is_some_and(late)
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Runs a group of cases; it is done when nothing stopped it.
    fn group(&self, group: u64, cases: &[CaseId], bar: &ProgressBar) -> Result<(), RunError> {
        if let [first, ..] = cases
            && first.synthetic
        {
            for case in cases.iter().take_while(|_| !self.is_over()) {
                self.cases_of_image(&[*case], bar)?;
            }
        } else {
            self.cases_of_image(cases, bar)?;
        }
        if !self.is_over() {
            self.with_tally(|tally| tally.as_mut().map(|tally| tally.done(group)));
        }
        self.save_sometimes()
    }

    /// Makes one image and runs the cases that damage it.
    fn cases_of_image(&self, cases: &[CaseId], bar: &ProgressBar) -> Result<(), RunError> {
        let Some(first) = cases.first() else {
            return Ok(());
        };
        let temporary = self.folder()?;
        let directory = self.directory(&temporary)?;
        let whole = Whole::make(&first.case(), &self.maker, directory)?;
        for id in cases.iter().take_while(|_| !self.is_over()) {
            let case = id.case();
            let damaged = whole.damage(&case.damage);
            let depth = match self.args.only {
                Some(_) => Depth::full(id.index),
                None => Depth::of(id.index),
            };
            if self.args.keep.is_some() {
                disk::store(&directory.join("damaged.qcow2"), &damaged.image)?;
            }
            let exhibit = whole.exhibit(directory, &damaged);
            let findings = examine(&self.field, &exhibit, depth)?;
            let name = CaseName::Random(*id);
            self.add(&name, &case, id.synthetic, &damaged.image, &findings, bar)?;
        }
        Ok(())
    }

    /// Runs a recorded case against each version's recorded verdict, and with whoever is here.
    fn recorded(&self, path: &Path, bar: &ProgressBar) -> Result<(), RunError> {
        let record = record::load(path)?;
        let name = CaseName::Recorded(path.to_owned());
        let temporary = self.folder()?;
        let directory = self.directory(&temporary)?;
        let is_synthetic = matches!(record.case.image, Image::Synthetic(_));
        let observed = record.verdicts.values();
        for observed in observed.filter_map(|said| said.observed.as_ref()) {
            let image = record::load_image(path)?;
            let exhibit = Exhibit {
                directory,
                encrypted: is_encrypted(&record.case),
                damaged: &image,
                acts: &[],
                whole: &GuestData::default(),
            };
            let findings = examine_recorded(&self.field, &exhibit, observed)?;
            self.add(&name, &record.case, is_synthetic, &image, &findings, bar)?;
        }
        // An image that qemu-img makes can be made only where it is.
        if self.args.case.is_some() && (is_synthetic || !self.field.theirs.is_empty()) {
            let whole = Whole::make(&record.case, &self.maker, directory)?;
            let damaged = whole.damage(&record.case.damage);
            let exhibit = whole.exhibit(directory, &damaged);
            let findings = examine(&self.field, &exhibit, Depth::full(0))?;
            self.add(
                &name,
                &record.case,
                is_synthetic,
                &damaged.image,
                &findings,
                bar,
            )?;
        }
        Ok(())
    }

    /// Adds what a case gave to the report, and makes what failed smaller.
    fn add(
        &self,
        name: &CaseName,
        case: &Case,
        synthetic: bool,
        damaged: &SparseBytes,
        findings: &Findings,
        bar: &ProgressBar,
    ) -> Result<(), RunError> {
        // A Ctrl-C can reach a program between its start and the change to its own process group.
        if self.is_interrupted() {
            return Ok(());
        }
        let rerun = self.rerun(name);
        let failed = self.with_tally(|tally| {
            let Some(tally) = tally else {
                return Vec::new();
            };
            let failed = tally.add(
                &self.field,
                &name.to_string(),
                &rerun,
                synthetic,
                damaged,
                findings,
            );
            bar.set_position(tally.report().cases);
            bar.set_message(format!("{} failures", tally.report().counting()));
            failed
        });
        // A case that is looked at by itself is looked at as it is.
        let CaseName::Random(id) = name else {
            return Ok(());
        };
        if self.args.only.is_some() {
            return Ok(());
        }
        for failed in failed {
            let shrinker = Shrinker {
                session: self,
                failed: &failed,
                depth: Depth::to_see(&failed.what, id.index),
            };
            let file = shrinker.save(&name.to_string(), case, &self.found_folder())?;
            self.with_tally(|tally| {
                if let (Some(tally), Some(file)) = (tally, file) {
                    tally.set_minimal(&failed, file);
                }
            });
        }
        Ok(())
    }

    /// One case again, as the shrinker sees it.
    pub fn look_again(
        &self,
        case: &Case,
        depth: Depth,
    ) -> Result<(SparseBytes, Findings), RunError> {
        let temporary = self.folder()?;
        let whole = Whole::make(case, &self.maker, temporary.path())?;
        let damaged = whole.damage(&case.damage);
        let exhibit = whole.exhibit(temporary.path(), &damaged);
        let findings = examine(&self.field, &exhibit, depth)?;
        Ok((damaged.image, findings))
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
}

/// The recipe of a case with a real image.
pub const fn recipe(case: &Case) -> Option<&Recipe> {
    match &case.image {
        Image::Real(recipe) => Some(recipe),
        _ => None,
    }
}

/// Whether qemu-img needs the key for a case's image.
fn is_encrypted(case: &Case) -> bool {
    match &case.image {
        Image::Real(recipe) => recipe.kind == Kind::Luks,
        Image::Synthetic(image) => image.luks,
        Image::Model(_) => false,
    }
}
