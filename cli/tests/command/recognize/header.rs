//! Images of which the header is not there, or not all of it, and the way back that is advised.

use std::fs;
use std::path::PathBuf;

use recount_needs::needs;

use super::{advised, assert_said, boot_sector, said, said_of, shell};
use crate::image::{CLUSTER, Image};
use crate::run::{qemu_tool, recount};

#[test]
fn an_empty_file_and_a_header_that_ends_early_are_named() {
    let again = "get the image again";
    assert_said("a", &[], "not a qcow2 image: the file is empty", again);
    let whole = Image::clean().bytes;
    for (length, needed) in [(4, 72), (7, 72), (8, 104), (71, 104), (72, 104), (103, 104)] {
        let first = format!(
            "only the beginning of a qcow2 image: the file ends after {length} bytes, and its header \
             has at least {needed}"
        );
        assert_said("a", &whole[..length], &first, again);
    }
}

#[test]
fn a_damaged_magic_before_a_whole_header_is_told_and_can_be_put_back_as_advised() {
    let mut image = Image::clean();
    let whole = image.bytes.clone();
    image.put(0, b"\0\0\0\0");
    let (_directory, path) = image.write();
    let said = said(&path);
    let first = "not a qcow2 image: its magic (bytes 0 to 3) is 0x00000000 instead of 0x514649fb; but \
                 the rest of the header is that of a qcow2 image";
    assert_eq!(said[0], first);
    shell(&advised(&said, "dd", [("COPY", &path), ("FILE", &path)]));
    assert!(fs::read(&path).expect("the image") == whole);
}

#[test]
fn an_overwritten_header_is_told_by_the_reftable_and_refblock_behind_it() {
    let now = "not a qcow2 image now, but its header seems to have been overwritten:";
    let mut image = Image::clean();
    image.put(0, &[0; CLUSTER]);
    let first = format!("{now} its first 512 bytes are zeros");
    assert_said(
        "a",
        &image.bytes,
        &first,
        "a reftable at offset 512, for clusters of 512 bytes",
    );
    image.put(0, &[0xee; 100]);
    let first = format!("{now} it begins with the bytes {}", ["ee"; 16].join(" "));
    assert_said("a", &image.bytes, &first, "a refblock at offset 1024");
    image.put(0, &boot_sector(0, 0x83, 2048, 4096)[..CLUSTER]);
    let first = format!("{now} the file begins like a raw disk image with a partition table (MBR)");
    assert_said("a", &image.bytes, &first, "make a copy");
    // Without the refblock's word for the reftable there is no evidence.
    image.set_refcount(1, 0);
    let said = said_of("a", &image.bytes);
    assert!(said[0].contains("but a raw disk image"), "{said:?}");
}

#[needs(qemu)]
#[test]
fn the_header_of_a_new_image_replaces_an_overwritten_one_as_advised() {
    for (size, shown) in [(4096, "4 KiB"), (65_536, "64 KiB"), (2 << 20, "2 MiB")] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = |name| directory.path().join(name);
        let (image, new): (PathBuf, PathBuf) = (path("image"), path("new"));
        let options = format!("cluster_size={size},size=64M");
        qemu_tool(
            "qemu-img",
            &["create", "-q", "-f", "qcow2", "-o", &options],
            &image,
        );
        qemu_tool(
            "qemu-io",
            &["-f", "qcow2", "-c", "write -P 7 1M 3M"],
            &image,
        );
        let whole = fs::read(&image).expect("the image");
        let mut headless = whole.clone();
        headless[..4096].fill(0);
        fs::write(&image, headless).expect("written");
        let said = said(&image);
        assert!(
            said[0].contains("seems to have been overwritten"),
            "{said:?}"
        );
        assert!(
            said[1].contains(&format!("clusters of {shown}")),
            "{said:?}"
        );
        qemu_tool(
            "qemu-img",
            &["create", "-q", "-f", "qcow2", "-o", &options],
            &new,
        );
        shell(&advised(&said, "dd", [("COPY", &image), ("NEW", &new)]));
        assert!(fs::read(&image).expect("the image") == whole, "{shown}");
        assert_eq!(recount(&[], &image).code, Some(0));
    }
}
