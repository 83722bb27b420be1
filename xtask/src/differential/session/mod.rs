//! Runs the cases, several at a time, until they or the time run out, or someone interrupts.

mod output;

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use indicatif::ProgressBar;
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::{Case, Image, text};
use tempfile::TempDir;

use super::cases::{CaseId, CaseName, Selection};
use super::examine::{Depth, Findings, examine, examine_recorded};
use super::exhibit::{Exhibit, Whole, bench};
use super::field::Field;
use super::question::Question;
use super::shrink::Shrinker;
use super::subject::{Maker, Subject};
use super::tally::{self, Failed, Tally};
use super::{Args, differences, record};
use crate::error::Result;
use crate::report::model::{Report, Run};

/// Which cases to run.
pub enum Cases {
    /// Those of the seed, as many as the options say.
    Seed,
    Named(Vec<CaseName>),
}

/// One case as everyone has seen it.
pub struct Seen {
    /// The image before it was damaged.
    pub whole: SparseBytes,
    pub damaged: SparseBytes,
    pub findings: Findings,
}

/// One run.
pub struct Session<'a> {
    pub args: &'a Args,
    /// Who takes part.
    pub field: Field,
    /// What makes images.
    pub maker: Maker,
    folder: TempDir,
    seed: u64,
    /// Percent of the images that the harness lays out.
    synthetic: u32,
    deadline: Option<Instant>,
    interrupted: Arc<AtomicBool>,
    tally: Mutex<Tally>,
    saved: Mutex<Instant>,
    /// Not drawn before the run.
    bar: ProgressBar,
}

impl<'a> Session<'a> {
    /// Ready to run, or to go on with an earlier report; from here on an interrupt ends the run in good
    /// order.
    pub fn new(
        args: &'a Args,
        field: Field,
        maker: Maker,
        run: Run,
        earlier: Option<Report>,
    ) -> io::Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, interrupted.clone())?;
        }
        Ok(Self {
            args,
            seed: run.seed,
            synthetic: run.synthetic_share,
            tally: Mutex::new(Tally::new(&field, run, earlier)),
            field,
            maker,
            folder: work_folder()?,
            deadline: args.time.map(|time| Instant::now() + time),
            interrupted,
            saved: Mutex::new(Instant::now()),
            bar: ProgressBar::hidden(),
        })
    }

    /// Runs the cases and prints the result.
    pub fn run(&self, cases: &Cases) -> Result<ExitCode> {
        self.show_progress(cases);
        let outcome = self.all(cases);
        self.bar.finish_and_clear();
        let report = self.tally().finish();
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
        let unjudged = self.declined_all(&report);
        for subject in &unjudged {
            println!("{subject} declined every image: nothing of it was judged");
        }
        let failed = report.counting() > 0 || !too_frequent.is_empty() || !unjudged.is_empty();
        Ok(ExitCode::from(u8::from(failed)))
    }

    /// The commands that repaired nothing, as they say themselves.
    fn declined_all(&self, report: &Report) -> Vec<String> {
        let declined_all = |name: &String| {
            let by = report.properties.get(name);
            let repairs = by.and_then(|by| by.get(&Question::Repairs.to_string()));
            let ends = by.is_some_and(|by| by.contains_key(&Question::Ends.to_string()));
            repairs.is_some_and(|count| count.declined > 0) && !ends
        };
        let repair = self.field.commands.iter().filter(|one| one.repairs());
        repair.map(Subject::name).filter(declined_all).collect()
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self, cases: &Cases) -> Result<()> {
        match cases {
            Cases::Seed => {
                let selection = self.selection();
                let done = self.tally().done_groups();
                let is_done =
                    |group: &u64| done.iter().any(|(from, to)| (*from..*to).contains(group));
                let groups = selection.own_groups().filter(|group| !is_done(group));
                self.in_parallel(groups, |group| self.group(group, &selection.group(group)))
            }
            Cases::Named(names) => self.in_parallel(names.iter(), |name| match name {
                CaseName::Random(id) => self.cases_of_image(&[*id]),
                CaseName::Recorded(path) => self.recorded(path),
            }),
        }
    }

    /// With a time limit the cases never run out.
    fn selection(&self) -> Selection {
        Selection {
            seed: self.seed,
            cases: self.args.time.map_or(self.args.cases, |_| u32::MAX.into()),
            synthetic_share: self.synthetic,
            shard: self.args.shard,
        }
    }

    /// Does `work` for every item, in order as far as threads allow.
    fn in_parallel<T: Send>(
        &self,
        items: impl Iterator<Item = T> + Send,
        work: impl Fn(T) -> Result<()> + Sync,
    ) -> Result<()> {
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
    fn group(&self, group: u64, cases: &[CaseId]) -> Result<()> {
        let synthetic = cases.first().is_some_and(|first| first.synthetic);
        let of_one_image = if synthetic { 1 } else { cases.len().max(1) };
        for cases in cases.chunks(of_one_image).take_while(|_| !self.is_over()) {
            self.cases_of_image(cases)?;
        }
        if !self.is_over() {
            self.tally().done(group);
        }
        self.save_sometimes()
    }

    /// Makes one image and runs the cases that damage it.
    fn cases_of_image(&self, cases: &[CaseId]) -> Result<()> {
        let temporary = self.folder()?;
        let directory = self.directory(&temporary)?;
        let whole = Whole::make(&cases[0].case(), &self.maker, directory)?;
        for id in cases.iter().take_while(|_| !self.is_over()) {
            let case = id.case();
            let depth = match self.args.only {
                Some(_) => Depth::full(id.index),
                None => Depth::of(id.index),
            };
            let seen = self.see(&self.field, &whole, &case, depth)?;
            self.add(&CaseName::Random(*id), &case, &seen)?;
        }
        Ok(())
    }

    /// Runs a recorded case against each version's recorded verdict, and with whoever is here.
    fn recorded(&self, path: &Path) -> Result<()> {
        let record = text::read(path)?;
        let (name, case) = (CaseName::Recorded(path.to_owned()), &record.case);
        let temporary = self.folder()?;
        let directory = self.directory(&temporary)?;
        let observed = record.verdicts.values();
        for observed in observed.filter_map(|said| said.observed.as_ref()) {
            let exhibit = Exhibit::new(bench(case, directory), record::load_image(path)?);
            let findings = examine_recorded(&self.field, &exhibit, observed)?;
            let (whole, damaged) = (exhibit.damaged.clone(), exhibit.damaged);
            let seen = Seen {
                whole,
                damaged,
                findings,
            };
            self.add(&name, case, &seen)?;
        }
        // An image that qemu-img makes can be made only where it is.
        let can_be_made = is_synthetic(case) || !self.field.theirs.is_empty();
        if self.args.case.is_some() && can_be_made {
            let seen = self.look(&self.field, case, directory, Depth::full(0))?;
            self.add(&name, case, &seen)?;
        }
        Ok(())
    }

    /// Adds what a case gave to the report, and makes what failed smaller.
    fn add(&self, name: &CaseName, case: &Case, seen: &Seen) -> Result<()> {
        // A Ctrl-C can reach a program between its start and the change to its own process group.
        if self.is_interrupted() {
            return Ok(());
        }
        let mut tally = self.tally();
        let rerun = |subject: &str| self.rerun(name, subject);
        let synthetic = is_synthetic(case);
        let failed = tally.add(&self.field, name, &rerun, synthetic, seen);
        self.bar.set_position(tally.report().cases);
        self.bar
            .set_message(format!("{} failures", tally.report().counting()));
        let mut failures = tally.report().failures.iter().filter(|one| one.counts);
        if let Some(first) = failures.next().filter(|_| self.args.fail_fast) {
            let (cases, what) = (tally.report().cases, &first.what);
            println!("finding after {cases} cases: {what} of {}", first.subject);
            self.interrupted.store(true, Ordering::Relaxed);
            return Ok(());
        }
        drop(tally);
        for failed in failed {
            let smaller = self.make_smaller(&failed, name, case)?;
            let (case, seen) = smaller
                .as_ref()
                .map_or((case, seen), |(case, seen, _)| (case, seen));
            let folder = self.tell(&failed, name, case, seen)?;
            let file = smaller.map(|(.., file)| file);
            self.tally().set_files(&failed, file, folder);
        }
        Ok(())
    }

    /// The smallest case that fails as this one does. One that is looked at by itself is looked at as
    /// it is.
    fn make_smaller(
        &self,
        failed: &Failed,
        name: &CaseName,
        case: &Case,
    ) -> Result<Option<(Case, Seen, String)>> {
        let (CaseName::Random(id), None) = (name, self.args.only) else {
            return Ok(None);
        };
        let shrinker = Shrinker {
            session: self,
            failed,
            depth: Depth::to_see(failed.question, id.index),
        };
        shrinker.save(&name.to_string(), case, &self.found_folder())
    }

    /// One case again, as the shrinker sees it.
    pub fn look_again(&self, field: &Field, case: &Case, depth: Depth) -> Result<Seen> {
        let temporary = self.folder()?;
        self.look(field, case, temporary.path(), depth)
    }

    fn look(&self, field: &Field, case: &Case, directory: &Path, depth: Depth) -> Result<Seen> {
        let whole = Whole::make(case, &self.maker, directory)?;
        self.see(field, &whole, case, depth)
    }

    fn see(&self, field: &Field, whole: &Whole<'_>, case: &Case, depth: Depth) -> Result<Seen> {
        let exhibit = whole.damage(&case.damage);
        if self.args.keep.is_some() {
            exhibit.bench.store("damaged.qcow2", &exhibit.damaged)?;
        }
        let findings = examine(field, &exhibit, depth)?;
        Ok(Seen {
            whole: whole.image.clone(),
            damaged: exhibit.damaged,
            findings,
        })
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

const fn is_synthetic(case: &Case) -> bool {
    matches!(case.image, Image::Synthetic(_))
}

/// The memory file system of Linux: flushing to it takes no time.
const MEMORY_FILES: &str = "/dev/shm";
/// Free bytes that it must have to be used.
const ENOUGH_MEMORY_FILES: u64 = 2 << 30;

/// Where the images are made: gone when the run ends.
fn work_folder() -> io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("recount-differential-");
    let free = rustix::fs::statvfs(MEMORY_FILES).map(|stat| stat.f_bavail * stat.f_frsize);
    let chosen = std::env::var_os("TMPDIR").is_some();
    match free {
        Ok(ENOUGH_MEMORY_FILES..) if !chosen => builder.tempdir_in(MEMORY_FILES),
        _ => builder.tempdir(),
    }
}
