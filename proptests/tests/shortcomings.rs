//! What qemu-img cannot repair, each as the smallest image that shows it: a rebuild that need not
//! end, a device with a full tail, and data that is whole but cannot be followed for the moment.
//! Ours repairs them; QEMU's algorithms, run by the engine, end with the error that says why they
//! cannot. Where qemu-img is installed it is asked as well.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use recount::RepairError;
use recount::{
    Access, Algorithm, FileStorage, MemoryStorage, OpenError, PlanError, RepairOptions, Storage,
};
use recount_needs::{needs, required};
use recount_oracle::audit::audit;
use recount_oracle::case::build::build;
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::synthetic::{Allocation, Content, Run, Structures, Synthetic};
use recount_oracle::case::{Case, Image, Schedule, StorageLimit};
use recount_proptests::judge::view;

/// Far more than the repair of the sparse image takes, on any machine.
const LONG: Duration = Duration::from_secs(60);
/// What it may take of memory, in KiB, this test program included.
const MEMORY: u64 = 200 << 10;

fn case(image: Synthetic, storage: StorageLimit) -> Case {
    Case {
        image: Image::Synthetic(image),
        damage: Vec::new(),
        storage,
        algorithm: recount_oracle::case::Algorithm::Planned,
        schedule: Schedule::Quiet,
    }
}

fn by(algorithm: Algorithm) -> RepairOptions {
    RepairOptions::default().algorithm(algorithm)
}

fn data(clusters: u32) -> Vec<Run> {
    vec![Run {
        skip: 0,
        clusters,
        content: Content::Data,
    }]
}

/// 4,500 data clusters of 512 bytes, 4,000 clusters apart, 64-bit refcounts, no reftable: 8.6 GiB
/// of which a few megabytes are on the disk.
fn sparse() -> Case {
    let image = Synthetic {
        cluster_bits: 9,
        refcount_order: 6,
        allocation: Allocation::Striped { step: 4000 },
        structures: Structures::Absent,
        guest: data(4500),
        ..Synthetic::default()
    };
    case(image, StorageLimit::Growing)
}

/// A device without refcounts of which the tail is full and most of the rest is free.
fn full_tail() -> Case {
    let image = Synthetic {
        cluster_bits: 9,
        allocation: Allocation::AfterHole { clusters: 2000 },
        structures: Structures::Absent,
        guest: data(600),
        ..Synthetic::default()
    };
    case(image, StorageLimit::Fixed { spare: 0 })
}

struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory for images"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Builds the image of a case in a file.
    fn image(&self, case: &Case) -> PathBuf {
        let path = self.path("image.qcow2");
        let image = build(case).expect("a possible case").bytes;
        let file = File::create(&path).expect("a file");
        file.set_len(image.len()).expect("its length");
        for (offset, page) in image.pages() {
            let left = (image.len() - offset).min(page.len() as u64) as usize;
            file.write_all_at(&page[..left], offset).expect("a page");
        }
        path
    }
}

/// Runs a program; what it printed, or `None` where it is not installed.
fn output(program: &str, arguments: &[&str]) -> Option<std::process::Output> {
    Command::new(program).args(arguments).output().ok()
}

/// What qemu-img check says of an image; `None` where it is not installed and need not be.
fn qemu_img_exit(path: &Path) -> Option<i32> {
    let path = path.to_str().expect("a path of ours");
    let said = output("qemu-img", &["check", "-q", "-f", "qcow2", path]);
    assert!(said.is_some() || !required!(qemu), "no qemu-img");
    said?.status.code()
}

/// The largest amount of memory that this process has had, in KiB (proc(5), `VmHWM`).
fn memory_peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let digits = line.and_then(|line| line.trim().strip_suffix(" kB"));
    digits
        .expect("a peak in kB")
        .trim()
        .parse()
        .expect("a number")
}

#[test]
fn planned_repairs_the_sparse_image_on_which_a_rebuild_need_not_end() {
    let scratch = Scratch::new();
    let path = scratch.image(&sparse());
    let before = File::open(&path).expect("the image");
    let length = before.metadata().expect("its length").len();
    assert!(length > 8 << 30, "{length}");

    let start = Instant::now();
    let mut storage = FileStorage::open(&path, Access::Write).expect("the image");
    let outcome = recount::repair(&mut storage, &by(Algorithm::Planned), &mut ());
    let (took, peak) = (start.elapsed(), memory_peak());
    let outcome = outcome.expect("a repair");
    assert!(outcome.report.is_clean(), "{:?}", outcome.report);
    assert!(took < LONG, "{took:?}");
    assert!(peak < MEMORY, "{peak} KiB");
    drop(storage);

    let after = audit(&before).expect("an image");
    assert!(after.is_clean(), "{:?}", after.corruptions);
    assert_eq!(after.layers[0].map.len(), 4500);
    assert!(after.length < 2 * length, "{}", after.length);
    if let Some(exit) = qemu_img_exit(&path) {
        assert_eq!(exit, 0, "qemu-img check finds something");
    }
}

#[test]
fn the_algorithms_of_qemu_say_that_they_would_not_end_on_the_sparse_image() {
    let scratch = Scratch::new();
    let path = scratch.image(&sparse());
    for algorithm in [Algorithm::FirstFit, Algorithm::Tail] {
        let mut storage = FileStorage::open(&path, Access::Write).expect("the image");
        let length = storage.len();
        let start = Instant::now();
        let failure = recount::repair(&mut storage, &by(algorithm), &mut ());
        let failure = failure.expect_err("no end");
        let diverges = matches!(
            failure.error,
            RepairError::Plan {
                error: PlanError::Diverges { .. },
                ..
            }
        );
        assert!(diverges, "{algorithm:?}: {failure}");
        assert!(
            start.elapsed() < LONG,
            "{algorithm:?}: {:?}",
            start.elapsed()
        );
        assert!(
            failure.done.is_empty(),
            "{algorithm:?} wrote: {:?}",
            failure.done
        );
        assert_eq!(storage.len(), length, "{algorithm:?}");
    }
}

/// Repairs the device with each algorithm; `storage` gives it afresh, and `read` what is on it.
fn repair_full_tail(
    mut storage: impl FnMut() -> Box<dyn Storage>,
    read: impl Fn(&dyn Storage) -> SparseBytes,
) {
    for algorithm in [Algorithm::FirstFit, Algorithm::Tail] {
        let mut device = storage();
        let before = read(&*device);
        let failure = recount::repair(&mut *device, &by(algorithm), &mut ());
        let failure = failure.expect_err("no room after what a refblock covers");
        let no_space = matches!(
            failure.error,
            RepairError::Plan {
                error: PlanError::NoSpace { .. },
                ..
            }
        );
        assert!(no_space, "{algorithm:?}: {failure}");
        assert!(read(&*device) == before, "{algorithm:?} wrote");
    }
    let mut device = storage();
    let before = read(&*device);
    let seen = view(&audit(&before).expect("an image"), &before);
    let outcome = recount::repair(&mut *device, &by(Algorithm::Planned), &mut ());
    let outcome = outcome.expect("most clusters are free");
    assert!(outcome.report.is_clean(), "{:?}", outcome.report);
    let after = read(&*device);
    let checked = audit(&after).expect("an image");
    assert!(checked.is_clean(), "{:?}", checked.corruptions);
    assert!(view(&checked, &after) == seen, "the guest sees a change");
    assert_eq!(after.len(), before.len());
}

/// All bytes of some storage.
fn contents(storage: &dyn Storage) -> SparseBytes {
    let mut all = vec![0; usize::try_from(storage.len()).expect("a small device")];
    storage
        .read_at(recount::Offset(0), &mut all)
        .expect("readable");
    let mut sparse = SparseBytes::default();
    sparse.write_at(0, &all).expect("memory");
    sparse
}

#[test]
fn planned_repairs_a_device_with_a_full_tail_where_the_others_find_no_space() {
    let image = build(&full_tail()).expect("a possible case").bytes;
    let image = image.bytes(0, image.len() as usize);
    repair_full_tail(|| Box::new(MemoryStorage::fixed(image.clone())), contents);
}

/// A loop device, detached when dropped.
struct Loop(PathBuf);

impl Loop {
    fn attach(file: &Path) -> Self {
        let file = file.to_str().expect("a path of ours");
        let attached = output("losetup", &["--find", "--show", file]).expect("losetup");
        assert!(attached.status.success(), "{attached:?}");
        let device = String::from_utf8(attached.stdout).expect("a path");
        Self(device.trim().into())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let detached = Command::new("losetup")
            .arg("--detach")
            .arg(&self.0)
            .status();
        assert!(
            detached.is_ok_and(|status| status.success()),
            "{} stays",
            self.0.display()
        );
    }
}

#[needs(loop)]
#[test]
fn planned_repairs_a_loop_device_with_a_full_tail() {
    let scratch = Scratch::new();
    let path = scratch.image(&full_tail());
    let device = Loop::attach(&path);
    let open = || {
        let storage = not_busy(&device.0);
        assert_eq!(
            storage.capacity(),
            Some(storage.len()),
            "a device cannot grow"
        );
        Box::new(storage) as Box<dyn Storage>
    };
    repair_full_tail(open, contents);
    if let Some(exit) = qemu_img_exit(&device.0) {
        assert_eq!(exit, 0, "qemu-img check finds something");
    }
}

/// Opens what this process has just closed. A program that another test starts at that moment holds
/// the device too until it has been loaded.
fn not_busy(device: &Path) -> FileStorage {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match FileStorage::open(device, Access::Write) {
            Err(OpenError::Busy(_)) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            opened => return opened.expect("the device"),
        }
    }
}

/// Where a field of a real image is that leads to clusters: byte position, and what it becomes.
fn astray(bytes: &[u8], snapshot: bool) -> (usize, u64) {
    let word = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    let at = |field: usize| usize::try_from(word(field)).expect("a small image");
    if snapshot {
        // The first entry of the snapshot table begins with its L1 offset.
        let entry = at(64);
        (entry, word(entry) + 8)
    } else {
        let entry = at(40);
        (entry, word(entry) + (1 << 40))
    }
}

#[needs(qemu)]
#[test]
fn data_behind_a_damaged_entry_of_a_real_image_is_back_when_the_entry_is_put_right() {
    let scratch = Scratch::new();
    let (image, raw) = (scratch.path("real.qcow2"), scratch.path("snapshot.raw"));
    let (image, raw) = (
        image.to_str().expect("a path"),
        raw.to_str().expect("a path"),
    );
    let run = |program: &str, arguments: &[&str]| {
        let output = output(program, arguments).expect("installed");
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {output:?}"
        );
    };
    for snapshot in [false, true] {
        run("qemu-img", &["create", "-q", "-f", "qcow2", image, "4M"]);
        run("qemu-io", &["-c", "write -q -P 17 0 1M", image]);
        run("qemu-img", &["snapshot", "-c", "s", image]);
        run("qemu-io", &["-c", "write -q -P 34 512k 1M", image]);
        let mut bytes = std::fs::read(image).expect("the image");
        let (at, wrong) = astray(&bytes, snapshot);
        let right: [u8; 8] = bytes[at..at + 8].try_into().expect("8 bytes");
        bytes[at..at + 8].copy_from_slice(&wrong.to_be_bytes());
        let mut storage = MemoryStorage::growing(bytes);
        let kept = recount::repair(&mut storage, &RepairOptions::default(), &mut ());
        let kept = kept.expect("what can be repaired is").kept;
        assert!(kept.clusters > 0 && kept.damage > 0, "{kept:?}");

        let at = recount::Offset(at as u64);
        storage.write_at(at, &right).expect("memory");
        let outcome = recount::repair(&mut storage, &RepairOptions::default(), &mut ());
        assert!(outcome.expect("a repair").report.is_clean());
        std::fs::write(image, storage.bytes()).expect("the image");
        assert_eq!(
            qemu_img_exit(Path::new(image)),
            Some(0),
            "snapshot: {snapshot}"
        );
        run(
            "qemu-io",
            &[
                "-r",
                "-c",
                "read -q -P 17 0 512k",
                "-c",
                "read -q -P 34 512k 1M",
                image,
            ],
        );
        run("qemu-img", &["convert", "-l", "s", "-O", "raw", image, raw]);
        let of_snapshot = std::fs::read(raw).expect("the snapshot's data");
        let (written, rest) = of_snapshot.split_at(1 << 20);
        assert!(
            written.iter().all(|&byte| byte == 17),
            "snapshot: {snapshot}"
        );
        assert!(rest.iter().all(|&byte| byte == 0), "snapshot: {snapshot}");
    }
}
