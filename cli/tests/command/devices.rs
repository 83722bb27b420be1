//! A block device cannot grow: the new structures have to fit into what is free on it. On a loop
//! device, which root attaches; one of them with the same image in a file as well, and in a file
//! that cannot grow, because its file system is full.

use std::path::{Path, PathBuf};
use std::process::Command;

use recount_needs::needs;

use crate::image::{self, CLUSTER, CLUSTERS, Image, L1, L2, REFBLOCK, REFTABLE_OFFSET};
use crate::run::{qemu_img, recount};

/// A block device over a file.
struct Device {
    path: PathBuf,
}

impl Device {
    fn attach(file: &Path) -> Self {
        let output = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(file)
            .output()
            .expect("losetup");
        assert!(output.status.success(), "{output:?}");
        let path = String::from_utf8(output.stdout).expect("a path");
        Self {
            path: path.trim().into(),
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = Command::new("losetup")
            .arg("--detach")
            .arg(&self.path)
            .status();
    }
}

/// An image of `clusters` clusters whose last `tail` ones are in use and whose refcounts are gone.
fn full_tail(clusters: usize, tail: usize) -> Image {
    let mut image = Image::clean();
    image.bytes.resize(clusters * CLUSTER, 0);
    image.put64(image::SIZE, 32 << 10);
    for index in 0..tail {
        let cluster = clusters - 1 - index;
        image.put64(L2 + 8 * (10 + index), 1 << 63 | (cluster * CLUSTER) as u64);
        image.bytes[cluster * CLUSTER..][..CLUSTER].fill(0xb0);
    }
    image.bytes[REFBLOCK..][..CLUSTER].fill(0);
    image
}

#[needs(loop)]
#[test]
fn a_device_with_a_full_tail_is_repaired_within_its_size_and_its_data_stay() {
    let image = full_tail(600, 40);
    let (_directory, path) = image.write();
    let device = Device::attach(&path);
    repair_full_tail(&device.path);
    drop(device);
    let after = std::fs::read(&path).expect("the image");
    assert_eq!(after.len(), image.bytes.len());
    assert_full_tail_stays(&image, &path);
}

/// Nothing says which clusters of it are allocated, so a file rather grows than that any of them is
/// written over.
#[test]
fn a_file_with_a_full_tail_and_no_refcounts_is_repaired_behind_its_end_and_its_data_stay() {
    let image = full_tail(600, 40);
    let (_directory, path) = image.write();
    repair_full_tail(&path);
    let after = std::fs::read(&path).expect("the image");
    assert!(after[..REFTABLE_OFFSET] == image.bytes[..REFTABLE_OFFSET]);
    assert!(after[L1..image.bytes.len()] == image.bytes[L1..]);
    assert_full_tail_stays(&image, &path);
}

fn repair_full_tail(target: &Path) {
    let run = recount(&["-f", "qcow2", "-r", "all"], target);
    assert_eq!(run.code, Some(0), "{run:?}");
    if let Some(theirs) = qemu_img(&["-f", "qcow2"], target) {
        assert_eq!(theirs.code, Some(0), "{theirs:?}");
    }
}

fn assert_full_tail_stays(image: &Image, path: &Path) {
    let after = std::fs::read(path).expect("the image");
    for range in [
        5 * CLUSTER..CLUSTERS * CLUSTER,
        560 * CLUSTER..600 * CLUSTER,
    ] {
        assert!(after[range.clone()] == image.bytes[range]);
    }
}

#[needs(loop)]
#[test]
fn a_device_without_room_is_left_alone_and_the_message_says_how_much_is_missing() {
    // Header, L1 table, L2 table and data fill it but for the old structures' two clusters.
    let mut image = Image::clean();
    image.bytes[REFBLOCK..][..CLUSTER].fill(0);
    let (_directory, path) = image.write();
    let device = Device::attach(&path);
    let run = recount(&["-f", "qcow2", "-r", "all"], &device.path);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert_eq!(run.stdout, "");
    for part in ["need 2 clusters", "--reuse-old"] {
        assert!(run.stderr.contains(part), "{part}: {run:?}");
    }
    assert_eq!(
        std::fs::read(&device.path).expect("the device"),
        image.bytes
    );

    let run = recount(&["-f", "qcow2", "-r", "all", "--reuse-old"], &device.path);
    assert_eq!(run.code, Some(0), "{run:?}");
    drop(device);
    assert_eq!(recount(&[], &path).code, Some(0));
    assert_eq!(image::data(&path), image.bytes[5 * CLUSTER..]);
}

/// A file system in memory without a free page, which root mounts.
struct FullFileSystem {
    directory: tempfile::TempDir,
}

impl FullFileSystem {
    /// One that holds `bytes` as the file `image`, and what fills the rest.
    fn with(bytes: &[u8]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
            .arg(directory.path())
            .status()
            .expect("mount");
        assert!(mounted.success());
        let full = Self { directory };
        std::fs::write(full.image(), bytes).expect("the image");
        let error = std::fs::write(full.filler(), vec![1; 8 << 20]).expect_err("4 MiB");
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        full
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    fn filler(&self) -> PathBuf {
        self.directory.path().join("filler")
    }
}

impl Drop for FullFileSystem {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.directory.path()).status();
    }
}

#[needs(loop)]
#[test]
fn on_a_full_file_system_the_message_says_what_helps_and_room_makes_the_repair_end() {
    let image = full_tail(600, 40);
    let full = FullFileSystem::with(&image.bytes);
    let run = recount(&["-f", "qcow2", "-r", "all"], full.image());
    assert_eq!(run.code, Some(1), "{run:?}");
    for part in ["No space left", "Make room", "--reuse-old", "repair again"] {
        assert!(run.stderr.contains(part), "{part}: {run:?}");
    }
    let left = std::fs::read(full.image()).expect("the image");
    assert!(
        left.starts_with(&image.bytes),
        "nothing that was there changes"
    );
    let again = recount(&["-f", "qcow2", "-r", "all", "--reuse-old"], full.image());
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(!again.stderr.contains("--reuse-old"), "{again:?}");

    std::fs::remove_file(full.filler()).expect("the filler");
    repair_full_tail(&full.image());
    assert_full_tail_stays(&image, &full.image());
}

#[needs(loop)]
#[test]
fn a_device_that_is_no_image_is_named_as_a_file_is() {
    let mut bytes = vec![0; 1 << 20];
    bytes[512..][..8].copy_from_slice(b"EFI PART");
    let (_directory, path) = image::write(&bytes);
    let device = Device::attach(&path);
    for options in [&["-f", "qcow2"][..], &["-f", "qcow2", "-r", "all"]] {
        let run = recount(options, &device.path);
        assert_eq!(run.code, Some(1), "{run:?}");
        let what = "not a qcow2 image but a raw disk image with a partition table (GPT)\n";
        assert!(run.stderr.contains(what), "{run:?}");
    }
    assert!(std::fs::read(&device.path).expect("the device") == bytes);
}
