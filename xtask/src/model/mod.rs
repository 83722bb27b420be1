//! `cargo xtask model`: looks at every small case there is and prints which properties hold for
//! which algorithm, with the smallest case of each failure.

mod expected;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use recount_oracle::case::Algorithm;
use recount_oracle::explore::{Bounds, Explored, Progress, explore};
use recount_oracle::properties::Property;
use recount_subjects::Recount;

use crate::error::Result;
use expected::Expected;

pub use table::ALGORITHMS;

/// Options of `cargo xtask model`.
#[derive(clap::Args)]
pub struct Args {
    /// The largest file, in clusters; 18 is for a night.
    #[arg(long, default_value_t = Bounds::DEFAULT_CLUSTERS, value_parser = clap::value_parser!(u32).range(1..=Bounds::CLUSTERS_MAX as i64))]
    clusters: u32,
    /// Only this algorithm; may be repeated.
    #[arg(long = "algorithm", value_name = "NAME", value_parser = algorithm)]
    algorithms: Vec<Algorithm>,
    /// Only this property; may be repeated.
    #[arg(long = "property", value_name = "NAME")]
    properties: Vec<Property>,
    /// Look at plans only: no power cuts, no faults, no whole images.
    #[arg(long)]
    plans: bool,
    /// How many threads to use; by default, one for each processor.
    #[arg(long)]
    jobs: Option<usize>,
    /// Stop after this time: 90s, 5m, 1h30m.
    #[arg(long, value_parser = humantime::parse_duration)]
    time: Option<Duration>,
    /// Store the smallest counterexamples in this folder, as cases.
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = "corpus/cases")]
    store: Option<PathBuf>,
}

fn algorithm(name: &str) -> Result<Algorithm, String> {
    let all = ALGORITHMS;
    let found = all.into_iter().find(|one| table::name(*one) == name);
    found.ok_or_else(|| {
        let names = all.map(table::name).join(", ");
        format!("the algorithms are {names}")
    })
}

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode> {
    let expected = Expected::read()?;
    let bounds = bounds(args);
    let stop = Arc::new(AtomicBool::new(false));
    // A second Ctrl-C ends the program at once.
    signal_hook::flag::register_conditional_default(signal_hook::consts::SIGINT, stop.clone())?;
    signal_hook::flag::register(signal_hook::consts::SIGINT, stop.clone())?;
    let began = Instant::now();
    let explored = search(args, &bounds, &stop)?;
    let tally = &explored.tally;
    table::print(&bounds, tally);
    println!("\n{}", rate(tally.runs, began.elapsed()));
    println!("{} crash states and runs with faults", tally.states);
    if let Some(folder) = &args.store {
        table::store(&bounds, tally, folder)?;
    }
    if let Some(clusters) = explored.stopped {
        println!("stopped in files of {clusters} clusters");
    }
    let differences = expected.differences(&bounds, &explored);
    for difference in &differences {
        println!("unexpected: {difference}");
    }
    Ok(ExitCode::from(u8::from(!differences.is_empty())))
}

fn bounds(args: &Args) -> Bounds {
    let mut bounds = Bounds::up_to(args.clusters);
    let (algorithms, properties) = (&args.algorithms, &args.properties);
    let wanted = |one: &Algorithm| algorithms.is_empty() || algorithms.contains(one);
    bounds.algorithms.retain(wanted);
    let wanted = |one: &Property| properties.is_empty() || properties.contains(one);
    bounds.properties.retain(wanted);
    if args.plans {
        bounds.clusters_with_bytes = 0;
        bounds.images = false;
    }
    bounds
}

/// Explores within time.
fn search(args: &Args, bounds: &Bounds, stop: &AtomicBool) -> Result<Explored> {
    let threads = rayon::ThreadPoolBuilder::new()
        .num_threads(args.jobs.unwrap_or(0))
        .build()?;
    // Drawn on standard error, and only when that is a terminal.
    let template = "{msg} {wide_bar} {human_pos}/{human_len}, {eta} left";
    let bar = ProgressBar::no_length().with_style(ProgressStyle::with_template(template)?);
    let deadline = args.time.map(|time| Instant::now() + time);
    let report = |state: Progress| {
        bar.set_length(state.total as u64);
        bar.set_position(state.done as u64);
        bar.set_message(format!("{} clusters", state.clusters));
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let explored = threads.install(|| explore(&Recount, bounds, stop, &report));
    bar.finish_and_clear();
    Ok(explored)
}

fn rate(runs: u64, time: Duration) -> String {
    let a_second = u128::from(runs) * 1000 / time.as_millis().max(1);
    let seconds = time.as_secs_f64();
    format!("{runs} planner runs in {seconds:.1} s, {a_second} a second")
}
