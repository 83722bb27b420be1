//! Repairs that are wrong in one way each are found out, and for that.

use std::collections::BTreeSet;

use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::{Algorithm, build};
use recount_oracle::disk::Disk;
use recount_oracle::explore::images;
use recount_oracle::subject::{Done, Outcome, Repair, Stopped, Undo};
use recount_oracle::subject_tests::*;

/// A repair that is a function.
struct By(fn(&mut dyn Disk) -> Outcome);

impl Repair for By {
    fn repair(&self, disk: &mut dyn Disk) -> Outcome {
        self.0(disk)
    }

    fn undo(&self) -> Option<&dyn Undo> {
        None
    }
}

fn failed(report: &Report) -> BTreeSet<String> {
    report.failed().map(|one| one.to_string()).collect()
}

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

#[test]
fn a_repair_that_does_nothing_repairs_nothing_and_breaks_nothing() {
    let nothing: Make = || Box::new(By(|_| Ok(Done::default())));
    assert_eq!(failed(&undamaged_images(nothing)), names([]));
    assert_eq!(failed(&damaged_images(nothing)), names(["repairs"]));
    assert_eq!(failed(&power_cuts(nothing)), names([]));
}

#[test]
fn a_repair_that_appends_a_byte_and_fails_has_not_declined() {
    let appends: Make = || {
        Box::new(By(|disk| {
            let _ = disk.write_at(disk.len(), &[1]);
            Err(Stopped::unknown("no"))
        }))
    };
    let report = undamaged_images(appends);
    assert!(failed(&report).contains("repairs"), "{report}");
}

#[test]
fn a_repair_that_cuts_the_file_breaks_healthy_images() {
    let cuts: Make = || {
        Box::new(By(|disk| {
            disk.set_len(disk.len() / 2)
                .map_err(|error| Stopped::unknown(&error))?;
            disk.flush().map_err(|error| Stopped::unknown(&error))?;
            Ok(Done::default())
        }))
    };
    let mut report = undamaged_images(cuts);
    let found = failed(&report);
    assert!(found.contains("healthy-stays-healthy"), "{report}");
    assert!(found.contains("keeps-guest-data"), "{report}");
    // The images are there to be looked at.
    let folder = tempfile::tempdir().unwrap();
    report.store(folder.path(), "cuts");
    let text = report.to_string();
    let stored = text
        .lines()
        .find_map(|line| line.strip_prefix("  images: "));
    let stored = std::path::Path::new(stored.unwrap());
    let length = |name| stored.join(name).metadata().unwrap().len();
    assert_eq!(length("before.qcow2") / 2, length("after.qcow2"));
}

#[test]
fn writes_that_are_never_flushed_are_seen_by_the_power_cuts() {
    let lazy: Make = || {
        Box::new(By(|disk| {
            let mut byte = [0];
            let same = disk
                .read_at(0, &mut byte)
                .and_then(|()| disk.write_at(0, &byte));
            same.map_err(|error| Stopped::unknown(&error))?;
            Ok(Done::default())
        }))
    };
    let report = power_cuts(lazy);
    assert_eq!(failed(&report), names(["crash-atomic"]));
    assert!(report.to_string().contains("no flush follows"), "{report}");
}

#[test]
fn errors_of_the_disk_that_are_swallowed_are_seen_by_the_failing_operations() {
    let deaf: Make = || {
        Box::new(By(|disk| {
            let _ = disk.read_at(0, &mut [0]);
            Ok(Done::default())
        }))
    };
    let report = failing_operations(deaf);
    assert_eq!(failed(&report), names(["fault-safe"]));
    assert!(report.to_string().contains("read 0 fails"), "{report}");
}

#[test]
fn a_panic_and_a_loop_are_failures_of_the_repair() {
    let panics: Make = || Box::new(By(|_| panic!("index 7")));
    let report = undamaged_images(panics);
    assert_eq!(failed(&report), names(["ends"]));
    assert!(
        report.to_string().contains("it panics: index 7"),
        "{report}"
    );
    let loops: Make = || {
        Box::new(By(|_| {
            loop {
                std::thread::park();
            }
        }))
    };
    let report = undamaged_images(loops);
    assert_eq!(failed(&report), names(["ends"]));
    assert!(report.to_string().contains("does not end"), "{report}");
}

#[test]
fn who_declines_an_image_is_asked_what_it_does_when_the_disk_fails() {
    let panics: Make = || {
        Box::new(By(|disk| {
            disk.read_at(0, &mut [0]).expect("a disk that never fails");
            Err(Stopped::unknown("not supported"))
        }))
    };
    let report = failing_operations(panics);
    assert_eq!(failed(&report), names(["ends"]), "{report}");
}

#[test]
#[should_panic(expected = "were declined, so that nothing was judged")]
fn who_declines_everything_has_shown_nothing() {
    let declines: Make = || Box::new(By(|_| Err(Stopped::unknown("not supported"))));
    let report = damaged_images(declines);
    assert_eq!(failed(&report), names([]));
    report.check();
}

#[test]
#[should_panic(expected = "repairs nothing")]
fn what_a_fuzzer_gives_is_judged_as_an_image() {
    let case = images::all(&[Algorithm::Planned]);
    let damaged = case
        .iter()
        .find(|one| one.name.contains("plain:refcount-down"));
    let built = build::build(&damaged.unwrap().case).unwrap().bytes;
    let bytes = built.bytes(0, SparseBytes::len(&built) as usize);
    let nothing: Make = || Box::new(By(|_| Ok(Done::default())));
    fuzz(nothing, b"no image at all");
    fuzz(nothing, &bytes);
}
