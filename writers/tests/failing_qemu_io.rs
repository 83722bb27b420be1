//! qemu-io on a file of which writes and flushes fail. It runs all the time and is asked for one thing after
//! the other; where something is to fail, it is closed, and opened with QEMU's driver `blkdebug` in front of
//! the file. Behind that `blklogwrites` logs what was done. What it does wrong is in
//! docs/findings-elsewhere.md.

mod live;
mod made;

use recount_needs::needs;
use recount_writers::{Kind, Mix, Report, Settings, check_writer, failing_operations, replay};

/// What is asked of it: no snapshots, which another program takes.
fn settings() -> Settings {
    let settings = failing_operations();
    let mix = Mix {
        snapshot: 0,
        delete_snapshot: 0,
        ..settings.mix
    };
    Settings {
        mix,
        // Finding 1 of docs/findings-elsewhere.md.
        stale_is_allowed: true,
        // Each run starts the program many times.
        runs: 30,
        tries: 40,
        ..settings
    }
}

/// What comes of these operations on an image of qemu-img.
fn after(made: (&str, &[&str]), operations: &str) -> Report {
    let settings = Settings {
        images: vec![made::image(made).unwrap()],
        ..settings()
    };
    let report = replay(&live::QemuIo, &settings, 0, operations).unwrap();
    println!("{report}");
    report
}

fn kinds(report: &Report) -> Vec<Kind> {
    report.failed().map(|(kind, _)| kind).collect()
}

/// Findings 7 and 8 of docs/findings-elsewhere.md, and no other.
#[needs(qemu)]
#[test]
fn what_was_flushed_is_there_after_writes_and_flushes_have_failed() {
    let report = check_writer(&live::QemuIo, &settings());
    println!("{report}");
    assert!(report.failures_of_the_disk() > 50, "{report}");
    assert!(report.power_cuts() > 1000, "{report}");
    let known = [Kind::AllocatedTwice, Kind::RefcountTooLow];
    let found = kinds(&report);
    assert!(found.iter().all(|kind| known.contains(kind)), "{report}");
    for (why, ..) in report.declined() {
        assert!(why.contains("encrypt.key-secret"), "{report}");
    }
}

/// Each write is one of the disk, as the cluster is there.
#[needs(qemu)]
#[test]
fn so_many_writes_fail_as_are_to_fail_and_no_other() {
    let allocated = ("cluster_size=64k", &["write -q -P 1 0 64k"][..]);
    for (which, failures) in [
        ("write 0 fails with an I/O error, once", 1),
        ("write 3 fails for lack of space, once", 1),
        ("write 4 fails with an I/O error, once", 0),
        ("write 1 fails for lack of space, twice", 2),
        ("write 1 fails with an I/O error, and each later one", 3),
        ("flush 0 fails with an I/O error, once", 1),
        ("flush 0 fails with an I/O error, twice", 2),
    ] {
        let writes = "write 512 bytes of seed 1 at 0x0; write 512 bytes of seed 2 at 0x200; flush; \
                      write 512 bytes of seed 3 at 0x400; write 512 bytes of seed 4 at 0x0; flush";
        let report = after(allocated, &format!("of the disk, {which}; {writes}"));
        assert_eq!(kinds(&report), [], "{report}");
        assert_eq!(report.failures_of_the_disk(), failures, "{which}");
    }
}

/// Finding 7 of docs/findings-elsewhere.md is still there.
#[needs(qemu)]
#[test]
fn after_one_failed_flush_two_l1_entries_may_lead_to_one_l2_table() {
    let empty = ("cluster_size=512", &["write -q -P 1 128k 512"][..]);
    let report = after(
        empty,
        "of the disk, flush 2 fails with an I/O error, once; write 512 bytes of seed 1 at 0x0; \
         write 512 bytes of seed 2 at 0x10000; close and open",
    );
    assert_eq!(kinds(&report), [Kind::AllocatedTwice], "{report}");
    assert_eq!(report.failures_of_the_disk(), 1, "{report}");
}

/// Finding 8 of docs/findings-elsewhere.md is still there.
#[needs(qemu)]
#[test]
fn after_failed_flushes_an_entry_may_lead_to_a_cluster_that_was_given_back() {
    let one = ("cluster_size=512", &["write -q -P 1 4k 512"][..]);
    let report = after(
        one,
        "of the disk, flush 0 fails with an I/O error, and each later one; \
         write 512 bytes of seed 1 at 0x9c00; write 1024 bytes of seed 2 at 0x0; close and open",
    );
    assert_eq!(kinds(&report), [Kind::RefcountTooLow], "{report}");
    let said = report.to_string();
    assert!(
        said.contains("has refcount 0 and is used by L2 entry"),
        "{said}"
    );
}
