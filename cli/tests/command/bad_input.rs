//! Files that are no image, part of one, or one made to hurt: a message that names the field and
//! its offset, exit code 1, and the file as it was.

use std::time::{Duration, Instant};

use recount_needs::needs;

use crate::image::{self, CLUSTER, CLUSTERS, Image, L1};
use crate::run::{Untouched, qemu_img, recount};

/// Checks a file that must be refused, without and with repair, and returns what was said.
fn refused(bytes: &[u8], what: &str) -> String {
    let (_directory, path) = image::write(bytes);
    let before = Untouched::of(&path);
    let mut said = String::new();
    for options in [
        &["-f", "qcow2"][..],
        &["-f", "qcow2", "--output=json"],
        &["-f", "qcow2", "-r", "all"],
        &["-f", "qcow2", "--plan"],
    ] {
        let run = recount(options, &path);
        assert_eq!(run.code, Some(1), "{what} {options:?}: {}", run.stderr);
        assert_eq!(run.stdout, "", "{what} {options:?}");
        said = run.stderr;
    }
    before.assert_still(&path, what);
    assert!(said.starts_with("recount: "), "{what}: {said}");
    let named = said.contains(&*path.to_string_lossy());
    assert!(named, "{what}: the file is named: {said}");
    if let Some(theirs) = qemu_img(&["-f", "qcow2"], &path) {
        assert_eq!(theirs.code, Some(1), "{what}: qemu-img says {theirs:?}");
    }
    said
}

#[test]
fn a_reftable_that_cannot_be_is_replaced_since_a_rebuild_replaces_it_anyhow() {
    for (offset, bytes, value) in [
        (48, 8, 513),
        (48, 8, u64::MAX << 9),
        (56, 4, 16_385),
        (56, 4, 0x7fff_ffff),
        (56, 4, u64::from(u32::MAX)),
    ] {
        let mut image = Image::clean();
        image.put(offset, &value.to_be_bytes()[8 - bytes..]);
        let (_directory, path) = image.write();
        let data = image::data(&path);
        let check = recount(&[], &path);
        assert_eq!(check.code, Some(2), "{check:?}");
        assert!(check.stderr.contains("bytes 48 to 59"), "{check:?}");
        let repair = recount(&["-r", "all"], &path);
        assert_eq!(repair.code, Some(0), "{repair:?}");
        assert_eq!(image::data(&path), data);
        if let Some(theirs) = qemu_img(&[], &path) {
            assert_eq!(theirs.code, Some(0), "{theirs:?}");
        }
    }
}

#[test]
fn a_header_field_out_of_range_is_named_with_its_offset() {
    let wide = 1 << 40;
    for (field, offset, bytes, value) in [
        ("magic", 0, 4, 0x5146_49fa_u64),
        ("version", 4, 4, 1),
        ("version", 4, 4, 4),
        ("backing", 8, 8, 513),
        ("cluster_bits", 20, 4, 8),
        ("cluster_bits", 20, 4, 22),
        ("cluster_bits", 20, 4, u64::from(u32::MAX)),
        ("l1_size", 36, 4, u64::from(u32::MAX)),
        ("l1_size", 36, 4, 0),
        ("l1_table_offset", 40, 8, 1537),
        ("l1_table_offset", 40, 8, u64::MAX << 9),
        ("incompatible_features", 72, 8, wide),
        ("refcount_order", 96, 4, 7),
        ("header_length", 100, 4, 103),
        ("header_length", 100, 4, 520),
    ] {
        let mut image = Image::clean();
        image.put(offset, &value.to_be_bytes()[8 - bytes..]);
        let what = format!("{field} = {value:#x}");
        let said = refused(&image.bytes, &what);
        assert!(said.contains(field), "{what}: {said}");
        let place = format!("bytes {offset} to {}", offset + bytes - 1);
        assert!(said.contains(&place), "{what}: {said}");
    }
}

#[test]
fn a_file_that_ends_inside_the_header_is_refused() {
    let whole = Image::clean().bytes;
    for length in (0..8)
        .chain((8..72).step_by(4))
        .chain([71, 72, 73, 100, 103])
    {
        refused(&whole[..length], &format!("the first {length} bytes"));
    }
}

#[test]
fn a_file_of_anything_else_is_refused() {
    let text = "This is the text of a letter.";
    for (what, bytes, expected) in [
        ("zeros", vec![0; 1 << 16], "magic (bytes 0 to 3)"),
        ("ones", vec![0xff; 1 << 16], "magic (bytes 0 to 3)"),
        ("text", format!("{text}\n").repeat(100).into(), text),
        ("KDMV", b"KDMV\0\0\0\x01".repeat(64), "but a VMDK image"),
    ] {
        let said = refused(&bytes, what);
        assert!(said.contains("not a qcow2 image"), "{what}: {said}");
        assert!(said.contains(expected), "{what}: {said}");
    }
}

/// qemu-img takes whatever it does not recognise for a raw image and exits with 63, which a script
/// reads as nothing to check; but an image whose first bytes are damaged is what this is for.
#[test]
fn without_f_a_file_that_is_no_qcow2_image_is_an_error_and_no_raw_image() {
    for (bytes, why) in [
        (vec![], "the file is empty"),
        (vec![0; 1 << 16], "magic (bytes 0 to 3)"),
    ] {
        let (_directory, path) = image::write(&bytes);
        for options in [&[][..], &["--output=json"], &["-r", "all"], &["-q"]] {
            let run = recount(options, &path);
            assert_eq!(run.code, Some(1), "{options:?}: {}", run.stderr);
            assert_eq!(run.stdout, "");
            assert!(run.stderr.contains(why), "{options:?}: {}", run.stderr);
        }
        let run = recount(&["-f", "raw"], &path);
        assert_eq!(run.code, Some(63), "{}", run.stderr);
        assert_eq!(std::fs::read(&path).expect("the file"), bytes);
    }
}

#[needs(qemu)]
#[test]
fn an_image_cut_anywhere_is_judged_as_qemu_img_judges_it_and_left_alone() {
    let whole = Image::clean().bytes;
    let cuts = (1..CLUSTERS).flat_map(|cluster| {
        let boundary = cluster * CLUSTER;
        [boundary - 1, boundary, boundary + 1, boundary + 100]
    });
    for length in cuts.chain([104, 112, 200]) {
        let (_directory, path) = image::write(&whole[..length]);
        let before = Untouched::of(&path);
        let ours = recount(&["-f", "qcow2", "--output=json"], &path);
        before.assert_still(&path, &format!("{length} bytes"));
        assert!(matches!(ours.code, Some(0..=3)), "{length} bytes: {ours:?}");
        let theirs = qemu_img(&["-f", "qcow2", "--output=json"], &path).expect("qemu-img");
        assert_eq!(
            (ours.code, ours.as_of_qemu_img()),
            (theirs.code, theirs.stdout),
            "{length} bytes: {} against {}",
            ours.stderr,
            theirs.stderr
        );
    }
}

#[test]
fn tables_said_to_lie_at_the_end_of_the_address_space_end_in_a_second() {
    let far = (1 << 56) - 512;
    for (what, offset, value) in [
        ("L1 entry", L1, 1 << 63 | far),
        ("L2 entry", image::L2, 1 << 63 | far),
        ("compressed L2 entry", image::L2, 1 << 62 | ((1 << 62) - 1)),
        ("reftable entry", image::REFTABLE + 8, far),
        ("reftable entry", image::REFTABLE + 8, 1 << 62),
        ("reftable offset", image::REFTABLE_OFFSET, (1 << 63) - 512),
        ("L1 offset", image::L1_OFFSET, (1 << 63) - 512),
        ("snapshot offset", image::SNAPSHOTS_OFFSET, (1 << 63) - 512),
    ] {
        let mut image = Image::clean();
        image.put64(offset, value);
        if offset == image::SNAPSHOTS_OFFSET {
            image.put32(image::SNAPSHOTS, 65_536);
        }
        let (_directory, path) = image.write();
        let before = Untouched::of(&path);
        let started = Instant::now();
        let run = recount(&["-f", "qcow2"], &path);
        assert!(
            started.elapsed() < Duration::from_secs(2),
            "{what}: too slow"
        );
        assert!(matches!(run.code, Some(1 | 2)), "{what}: {run:?}");
        assert!(!run.stderr.is_empty(), "{what}");
        before.assert_still(&path, what);
    }
}
