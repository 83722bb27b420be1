//! Repairs as a user starts them: what is written, what is kept, and that a plan writes nothing.

use crate::image::{self, CLUSTER, CLUSTERS, Image, L1, L2, REFBLOCK, REFTABLE};
use crate::run::{Untouched, qemu_img, recount};

/// Refcounts of zero everywhere: the structures need to be rebuilt.
fn without_refcounts() -> Image {
    let mut image = Image::clean();
    image.bytes[REFBLOCK..][..CLUSTER].fill(0);
    image
}

#[test]
fn every_algorithm_rebuilds_an_image_that_is_clean_afterwards_with_its_data() {
    for algorithm in ["planned", "first-fit", "tail"] {
        let (_directory, path) = without_refcounts().write();
        let data = image::data(&path);
        let run = recount(&["-r", "all", "--algorithm", algorithm], &path);
        assert_eq!(run.code, Some(0), "{algorithm}: {run:?}");
        assert!(run.stdout.contains("found and repaired"), "{run:?}");
        assert!(run.stdout.contains("No errors were found"), "{run:?}");
        assert_eq!(image::data(&path), data, "{algorithm}");
        assert_eq!(recount(&[], &path).code, Some(0), "{algorithm}");
        if let Some(theirs) = qemu_img(&[], &path) {
            assert_eq!(theirs.code, Some(0), "{algorithm}: {theirs:?}");
        }
    }
}

#[test]
fn what_a_check_gives_up_for_keeps_an_image_from_being_repaired() {
    let mut image = without_refcounts();
    // 128 snapshots, in a table that is the header. Read as such, its second entry begins at byte 48,
    // and the compatible features are the size of its extra data.
    image.bytes[60..72].copy_from_slice(&[0, 0, 0, 128, 0, 0, 0, 0, 0, 0, 0, 0]);
    image.bytes[84..88].copy_from_slice(&[0, 1, 0, 0]);
    let (_directory, path) = image.write();
    let before = Untouched::of(&path);
    let run = recount(&["-r", "all"], &path);
    assert_eq!(run.code, Some(1), "{run:?}");
    let why = "128 snapshots in a table at offset 0x0, which is the header";
    assert!(run.stderr.contains(why), "{run:?}");
    assert!(run.stderr.contains("nothing was written"), "{run:?}");
    before.assert_still(&path, "refused");
}

#[test]
fn where_nothing_tells_what_is_free_what_a_damaged_entry_led_to_is_not_written_over() {
    let mut image = without_refcounts();
    for entry in 0..2 {
        let past_the_end = (CLUSTERS + entry) * CLUSTER;
        image.put64(L2 + 8 * entry, 1 << 63 | past_the_end as u64);
    }
    let (_directory, path) = image.write();
    let before = Untouched::of(&path);
    let run = recount(&["-r", "all"], &path);
    assert_eq!(run.code, Some(1), "{run:?}");
    for part in ["1024 bytes", "truncate -s", "--release-unreachable"] {
        assert!(run.stderr.contains(part), "{part}: {run:?}");
    }
    before.assert_still(&path, "refused");
    // Given up, it is written over, and what stays wrong is said.
    let run = recount(&["-r", "all", "--release-unreachable"], &path);
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.stdout.contains("2 errors were found"), "{run:?}");
}

#[test]
fn a_second_repair_writes_nothing() {
    let (_directory, path) = without_refcounts().write();
    assert_eq!(recount(&["-r", "all"], &path).code, Some(0));
    let bytes = std::fs::read(&path).expect("the image");
    let run = recount(&["-r", "all"], &path);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(!run.stdout.contains("repaired"), "{run:?}");
    assert_eq!(std::fs::read(&path).expect("the image"), bytes);
}

#[test]
fn releasing_leaks_where_a_rebuild_is_needed_fails_and_writes_nothing() {
    let (_directory, path) = without_refcounts().write();
    let bytes = std::fs::read(&path).expect("the image");
    for output in ["--output=human", "--output=json"] {
        let run = recount(&["-r", "leaks", output], &path);
        assert_eq!(run.code, Some(1), "{run:?}");
        assert_eq!(run.stdout, "");
        assert!(run.stderr.contains("-r all"), "says what to do: {run:?}");
    }
    assert_eq!(std::fs::read(&path).expect("the image"), bytes);
}

#[test]
fn a_plan_shows_what_a_repair_would_write_and_writes_nothing() {
    let mut leaky = Image::clean();
    leaky.bytes.resize((CLUSTERS + 1) * CLUSTER, 0);
    leaky.set_refcount(CLUSTERS, 1);
    for (what, image) in [
        ("clean", Image::clean()),
        ("a rebuild", without_refcounts()),
        ("a leak", leaky),
    ] {
        let (_directory, path) = image.write();
        let before = Untouched::of(&path);
        let human = recount(&["--plan"], &path);
        let json = recount(&["--plan", "--output=json"], &path);
        before.assert_still(&path, what);
        assert!(!human.stdout.is_empty(), "{what}: {human:?}");
        let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
        assert!(json.is_object(), "{what}: {json}");
        let (rebuilds, code) = match what {
            "a rebuild" => (true, 2),
            "a leak" => (false, 3),
            _ => (false, 0),
        };
        let shown = human.stdout.contains("built the refcount structures anew");
        assert_eq!(shown, rebuilds, "{what}: {human:?}");
        assert_eq!(human.code, Some(code), "as a check: {human:?}");
        assert_eq!(json["exit-code"], code, "{what}: {json}");
        assert_eq!(json["exit-code-after"], 0, "{what}: {json}");
    }
}

#[test]
fn a_plan_says_what_would_stay_and_what_is_not_in_the_file() {
    // A COPIED bit, which -r all clears, beside an entry that nothing can mend.
    let mut image = Image::clean();
    image.put64(L2, 1 << 63 | 1 << 30);
    let (_directory, path) = image.write();
    for (repair, errors) in [
        (
            "all",
            "1 error would stay, which no repair of refcounts can mend.",
        ),
        (
            "leaks",
            "2 errors would stay, which `-r leaks` does not mend.",
        ),
    ] {
        let run = recount(&["--plan", "-r", repair], &path);
        assert!(run.stdout.contains(errors), "{run:?}");
    }
    let mut image = without_refcounts();
    image.bytes.truncate((CLUSTERS - 1) * CLUSTER);
    let (_directory, path) = image.write();
    for options in [&["--plan"][..], &["-r", "all"]] {
        let run = recount(options, &path);
        assert_eq!(run.code, Some(1), "{run:?}");
        for part in ["512 bytes of the active layer", "1536 to 2047", "truncate"] {
            assert!(run.stderr.contains(part), "{part}: {run:?}");
        }
    }
}

#[test]
fn data_behind_a_damaged_entry_is_kept_and_comes_back_when_the_entry_is_mended() {
    for also_without_refcounts in [false, true] {
        let mut image = Image::clean();
        let entry = image.bytes[L1..][..8].to_vec();
        image.put64(L1, 1 << 63 | 1 << 30);
        if also_without_refcounts {
            image.put64(REFTABLE, 0);
        }
        let (_directory, path) = image.write();
        let data = image::data(&path);
        let run = recount(&["-r", "all"], &path);
        assert!(matches!(run.code, Some(2 | 3)), "{run:?}");
        assert!(run.stderr.to_lowercase().contains("kept"), "{run:?}");

        let mut mended = std::fs::read(&path).expect("the image");
        mended[L1..][..8].copy_from_slice(&entry);
        std::fs::write(&path, mended).expect("written");
        assert_eq!(image::data(&path), data);
        let run = recount(&["-r", "all"], &path);
        assert_eq!(run.code, Some(0), "{run:?}");
        assert_eq!(image::data(&path), data);
    }
}

#[test]
fn unreachable_clusters_are_released_when_that_is_asked_for() {
    let mut image = Image::clean();
    image.put64(L1, 1 << 63 | 1 << 30);
    let (_directory, path) = image.write();
    let run = recount(&["-r", "all", "--release-unreachable"], &path);
    assert_eq!(run.code, Some(2), "the entry itself remains: {run:?}");
    assert!(
        !run.stdout.contains("leaked clusters were found"),
        "{run:?}"
    );
}

#[test]
fn a_result_that_cannot_be_written_is_an_error() {
    let (_directory, path) = Image::clean().write();
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .expect("Linux has it");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_recount"))
        .arg("check")
        .arg(&path)
        .stdout(full)
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("No space left"), "{said}");
}

#[test]
fn what_releasing_leaks_cannot_repair_is_counted_as_a_check_counts_it() {
    let mut image = Image::clean();
    // 2-bit refcounts; four references to cluster 5, whose refcount is 2, and none to those behind it.
    image.put32(96, 1);
    image.bytes[REFBLOCK..][..CLUSTER].fill(0);
    image.put(REFBLOCK, &[0b0101_0101, 0b0101_1001, 1]);
    for entry in 0..4 {
        image.put64(L2 + 8 * entry, 5 * CLUSTER as u64);
    }
    let (_directory, path) = image.write();
    let repair = recount(&["--output", "json", "-r", "leaks"], &path);
    let check = recount(&["--output", "json"], &path);
    assert_eq!((repair.code, check.code), (Some(2), Some(2)), "{repair:?}");
    for counter in ["\"corruptions\": 2,", "\"leaks\": 3,"] {
        assert!(check.stdout.contains(counter), "{check:?}");
        assert!(repair.stdout.contains(counter), "{repair:?}");
    }
}

#[test]
fn references_that_go_with_the_old_structures_are_counted_as_repaired() {
    let mut image = Image::clean();
    // Refcounts of one bit, and two reftable entries to the refblock: it cannot count them.
    image.put32(96, 0);
    image.put(REFBLOCK, &[0; CLUSTER]);
    image.put(REFBLOCK, &[0xff, 1]);
    image.put64(REFTABLE + 8, REFBLOCK as u64);
    let (_directory, path) = image.write();
    let count = |options: &[&str], key: &str| {
        let run = recount(options, &path);
        let json: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
        json[key].as_u64()
    };
    let found = count(&["--output=json"], "corruptions");
    assert!(found.is_some_and(|found| found > 0), "{found:?}");
    let repaired = count(&["-r", "all", "--output=json"], "corruptions-fixed");
    assert_eq!(repaired, found);
}

#[test]
fn references_that_go_with_replaced_entries_are_not_counted_as_repaired_twice() {
    let mut image = Image::clean();
    // Clusters of 1 KiB: header 0, reftable 1, L1 table 2, L2 table 3, data 4.
    image.put32(image::CLUSTER_BITS, 10);
    // Refcounts of one bit, and no refblock.
    image.put32(96, 0);
    image.bytes[1 << 10..].fill(0);
    image.put64(image::REFTABLE_OFFSET, 1 << 10);
    image.put64(image::L1_OFFSET, 2 << 10);
    image.bytes.resize(5 << 10, 0);
    image.put64(2 << 10, 1 << 63 | 3 << 10);
    image.put64(3 << 10, 1 << 63 | 4 << 10);
    // Two entries that read as zeros and lead into the middle of cluster 0: one reference to it each.
    for entry in [1, 2] {
        image.put64((3 << 10) + 8 * entry, 0x200 | 1);
    }
    let fixed = |stdout: &str| {
        let json: serde_json::Value = serde_json::from_str(stdout).expect("JSON");
        json["corruptions-fixed"].as_u64()
    };
    let ((_directory, path), (_other, theirs)) = (image.write(), image.write());
    let repaired = recount(&["-r", "all", "--output=json"], &path);
    // The two entries, and five clusters in use without a refcount.
    assert_eq!(fixed(&repaired.stdout), Some(7), "{repaired:?}");
    if let Some(theirs) = qemu_img(&["-r", "all", "--output=json"], &theirs) {
        assert_eq!(fixed(&theirs.stdout), Some(7), "{theirs:?}");
    }
}
