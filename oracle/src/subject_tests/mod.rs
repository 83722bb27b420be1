//! Tests of a repair of one's own: [`subject_tests!`](crate::subject_tests!) makes them for `cargo
//! test`, and [`fuzz`] judges the inputs of a fuzz target. They ask what the harness asks of any
//! program, and no more: a repair may decline an image, as long as it leaves it as it was.

mod attempt;
mod report;

use std::sync::Arc;

use crate::case::damage::SparseBytes;
use crate::case::synthetic::Structures;
use crate::case::{Algorithm, Case, Image, build, generate};
use crate::explore::images::{self, BOUNDS, Named};
use crate::properties::{Property, Verdict, crash_atomic};
use crate::requirements::{Ended, Requirement, Requirements};
use crate::run::{Run, faults};
use crate::subject::Repair;

use attempt::attempt;
pub use report::Report;

/// Makes the repair under test: the program of one's own, on a [`Disk`](crate::disk::Disk).
pub type Make = fn() -> Box<dyn Repair>;

/// Random images with nothing wrong.
const UNDAMAGED: usize = 64;

/// Tests of a repair: an expression whose type implements [`Repair`](crate::subject::Repair).
///
/// They are `undamaged_images`, `damaged_images`, `power_cuts`, `failing_operations` and
/// `random_images`, in a module `qcow2`. One that fails says what was broken how often, and where the
/// first image of each kind is, before and after.
#[macro_export]
macro_rules! subject_tests {
    ($repair:expr) => {
        $crate::subject_tests!(@ $repair,
            undamaged_images damaged_images power_cuts failing_operations random_images);
    };
    (@ $repair:expr, $($test:ident)*) => {
        mod qcow2 {
            #[allow(unused_imports, reason = "the expression may be a path")]
            use super::*;

            fn repair() -> Box<dyn $crate::subject::Repair> {
                Box::new($repair)
            }

            $(
                #[test]
                fn $test() {
                    let mut report = $crate::subject_tests::$test(repair);
                    if let Some(folder) = option_env!("CARGO_TARGET_TMPDIR") {
                        report.store(std::path::Path::new(folder), stringify!($test));
                    }
                    report.check();
                }
            )*
        }
    };
}

/// Repairs images with nothing wrong: small ones with snapshots, bitmaps, narrow and wide refcounts,
/// and random ones.
pub fn undamaged_images(make: Make) -> Report {
    let small = small_images().filter(|(_, image)| image.is_healthy());
    all(make, small.chain(random(1, true).take(UNDAMAGED)), quiet)
}

/// Repairs small images that are damaged in one way each, on files and on devices without much room.
pub fn damaged_images(make: Make) -> Report {
    let damaged = small_images().filter(|(_, image)| !image.is_healthy());
    all(make, damaged, quiet)
}

/// Cuts the power during these repairs: at every write and flush, and any of the sectors is lost that
/// were not flushed.
pub fn power_cuts(make: Make) -> Report {
    all(make, small_images(), |_, image, run, _| {
        let (before, trace) = (image.before(), &run.trace);
        let (_, cut) = crash_atomic::judge(before, trace, run.whole(before), &BOUNDS.crashes);
        let verdict = cut.and(|| crash_atomic::lasts(run).into());
        vec![(Requirement::Property(Property::CrashAtomic), verdict)]
    })
}

/// Makes reads, writes, flushes and changes of length fail during these repairs, once, twice, and
/// for ever.
pub fn failing_operations(make: Make) -> Report {
    all(make, small_images(), |repair, image, run, _| {
        let (schedule, mut verdict) = faults(repair, image.before(), run, &BOUNDS);
        if let Verdict::Fails(failure) = &mut verdict {
            let schedule: Vec<String> = schedule.iter().map(ToString::to_string).collect();
            failure.message = format!("{} ({})", failure.message, schedule.join(", "));
        }
        vec![(Requirement::Property(Property::FaultSafe), verdict)]
    })
}

/// Repairs 400 random images, most of them damaged, the same ones each time.
pub fn random_images(make: Make) -> Report {
    random_images_of(make, 1, 400)
}

/// Repairs so many random images of a seed.
pub fn random_images_of(make: Make, seed: u32, count: usize) -> Report {
    all(make, random(seed, false).take(count), quiet)
}

/// Judges the repair of what a fuzzer gives, as an image.
///
/// # Panics
///
/// With what is wrong, if something is.
pub fn fuzz(make: Make, input: &[u8]) {
    let mut bytes = SparseBytes::default();
    bytes.put(0, input);
    let image = Requirements::of(bytes, None);
    let image = image.map(|image| ("the input".to_owned(), image));
    all(make, image.into_iter(), quiet).check_failures();
}

/// What is asked of a run, beside that it ends.
type Judge = fn(&dyn Repair, &Requirements, &Run, &Ended) -> Vec<(Requirement, Verdict)>;

fn quiet(
    _: &dyn Repair,
    image: &Requirements,
    run: &Run,
    ended: &Ended,
) -> Vec<(Requirement, Verdict)> {
    image.verdicts(run, ended)
}

/// Judges the repair of these images, by their names.
fn all(make: Make, images: impl Iterator<Item = (String, Requirements)>, judge: Judge) -> Report {
    let mut report = Report::default();
    for (name, image) in images {
        let image = Arc::new(image);
        report.add(&name, &image, attempt(make, &image, judge));
        // What is still at it takes time and memory away from the next.
        if report.is_over() {
            break;
        }
    }
    report
}

fn small_images() -> impl Iterator<Item = (String, Requirements)> {
    let all = images::all(&[Algorithm::Planned]).into_iter();
    all.filter_map(|Named { name, case }| {
        let name = name.trim_start_matches("image:planned:").to_owned();
        Some((name, requirements(&case)?))
    })
}

/// Random images of a seed, without end.
fn random(seed: u32, undamaged: bool) -> impl Iterator<Item = (String, Requirements)> {
    (0..=u32::MAX).filter_map(move |number| {
        let mut case = generate(u64::from(seed) << 32 | u64::from(number));
        let Image::Synthetic(image) = &mut case.image else {
            return None;
        };
        // It would have no key.
        image.luks = false;
        if undamaged {
            image.structures = Structures::default();
            case.damage.clear();
        }
        let image = requirements(&case)?;
        let is_asked_for = image.is_healthy() || !undamaged;
        is_asked_for.then(|| (format!("random image {number} of seed {seed}"), image))
    })
}

fn requirements(case: &Case) -> Option<Requirements> {
    let built = build::build(case).ok()?;
    Requirements::of(built.bytes, built.capacity)
}
