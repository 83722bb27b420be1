//! A repair with an undo file, and the undoing of it, ended by SIGKILL at moments spread over the time
//! that they take: the undo file gives the image back bit for bit, and repairing again gives a clean
//! image with all its data.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

const CLUSTER: usize = 512;
const TABLES: usize = 200;
const ENTRIES: usize = CLUSTER / 8;
/// Refcounts of 16 bits in a refblock.
const REFCOUNTS: usize = CLUSTER / 2;

/// How often each of the two is ended. `RECOUNT_KILLS=200` ends them more often.
fn kills() -> u32 {
    let asked = std::env::var("RECOUNT_KILLS").ok();
    asked.and_then(|kills| kills.parse().ok()).unwrap_or(24)
}

/// An image of `TABLES` full L2 tables, with no COPIED bit set and every second refblock zeroed.
fn damaged() -> Vec<u8> {
    let l1 = 1;
    let l1_clusters = (TABLES * 8).div_ceil(CLUSTER);
    let l2 = l1 + l1_clusters;
    let data = l2 + TABLES;
    let reftable = data + TABLES * ENTRIES;
    let total = reftable + 4;
    let refblocks = (total + total / REFCOUNTS + 1).div_ceil(REFCOUNTS);
    let first_refblock = total;
    let end = first_refblock + refblocks;
    let mut bytes = vec![0; end * CLUSTER];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    let position = |cluster: usize| (cluster * CLUSTER) as u64;
    put(0, b"QFI\xfb");
    put(4, &3_u32.to_be_bytes());
    put(20, &9_u32.to_be_bytes());
    put(24, &((TABLES * ENTRIES * CLUSTER) as u64).to_be_bytes());
    put(36, &(TABLES as u32).to_be_bytes());
    put(40, &position(l1).to_be_bytes());
    put(48, &position(reftable).to_be_bytes());
    put(56, &4_u32.to_be_bytes());
    put(96, &4_u32.to_be_bytes());
    put(100, &104_u32.to_be_bytes());
    for table in 0..TABLES {
        put(
            l1 * CLUSTER + table * 8,
            &position(l2 + table).to_be_bytes(),
        );
        for entry in 0..ENTRIES {
            let cluster = data + table * ENTRIES + entry;
            put(
                (l2 + table) * CLUSTER + entry * 8,
                &position(cluster).to_be_bytes(),
            );
            put(cluster * CLUSTER, &(cluster as u64).to_be_bytes());
        }
    }
    for refblock in 0..refblocks {
        put(
            reftable * CLUSTER + refblock * 8,
            &position(first_refblock + refblock).to_be_bytes(),
        );
        for index in 0..REFCOUNTS {
            if refblock % 2 == 0 && refblock * REFCOUNTS + index < end {
                let at = (first_refblock + refblock) * CLUSTER + index * 2;
                put(at, &1_u16.to_be_bytes());
            }
        }
    }
    bytes
}

fn recount(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_recount"));
    command
        .args(words)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn runs(words: &[&str]) -> Option<i32> {
    recount(words).status().expect("the program starts").code()
}

/// Runs the program and ends it after so long; whether it had not ended by itself.
fn killed(words: &[&str], after: Duration) -> bool {
    let mut child = recount(words).spawn().expect("the program starts");
    sleep(after);
    let was_running = child.try_wait().expect("a child").is_none();
    let _ = child.kill();
    child.wait().expect("a child");
    was_running
}

/// How long the program takes.
fn time_of(words: &[&str]) -> Duration {
    let begin = Instant::now();
    assert_eq!(runs(words), Some(0), "{words:?}");
    begin.elapsed()
}

/// Asserts that a repaired image is clean and has the data that the original has.
fn assert_whole(image: &Path, original: &[u8]) {
    let path = image.to_str().expect("a path");
    assert_eq!(runs(&["check", path]), Some(0));
    let bytes = fs::read(image).expect("the image");
    let first = (1 + (TABLES * 8).div_ceil(CLUSTER) + TABLES) * CLUSTER;
    let data = first..first + TABLES * ENTRIES * CLUSTER;
    assert!(bytes[data.clone()] == original[data], "data was changed");
}

#[test]
fn an_interrupted_repair_or_undo_can_be_undone_and_can_be_repeated() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str| directory.path().join(name);
    let (image, undo) = (file("image"), file("undo"));
    let (path, undo_path) = (
        image.to_str().expect("a path"),
        undo.to_str().expect("a path"),
    );
    let original = damaged();
    fs::write(&image, &original).expect("the image");
    let repair = ["check", "-r", "all", "--undo", undo_path, path];
    let restore = ["undo", undo_path];
    // The least of some, as nothing is interrupted after its end.
    let (mut repair_time, mut undo_time) = (Duration::MAX, Duration::MAX);
    for _ in 0..5 {
        let _ = fs::remove_file(&undo);
        repair_time = repair_time.min(time_of(&repair));
        undo_time = undo_time.min(time_of(&restore));
        assert!(fs::read(&image).expect("the image") == original);
    }
    let kills = kills();
    let mut interrupted = [0, 0];
    for kill in 0..kills {
        let part = |time: Duration| time * (2 * kill + 1) / (2 * kills);
        fs::write(&image, &original).expect("the image");
        let _ = fs::remove_file(&undo);
        interrupted[0] += u32::from(killed(&repair, part(repair_time)));
        let left = fs::read(&image).expect("the image");
        // Where the undo file was not finished, nothing has been written to the image.
        if runs(&restore) != Some(0) {
            assert!(
                left == original,
                "written before the undo file was finished"
            );
        }
        assert!(
            fs::read(&image).expect("the image") == original,
            "kill {kill}"
        );
        // What the killed repair had left can be repaired as well.
        fs::write(&image, &left).expect("the image");
        assert_eq!(runs(&["check", "-r", "all", path]), Some(0));
        assert_whole(&image, &original);
        // And the undo can be interrupted.
        fs::write(&image, &original).expect("the image");
        let _ = fs::remove_file(&undo);
        assert_eq!(runs(&repair), Some(0));
        interrupted[1] += u32::from(killed(&restore, part(undo_time)));
        let restored = runs(&restore) == Some(0);
        assert!(restored || fs::read(&image).expect("the image") == original);
        assert!(
            fs::read(&image).expect("the image") == original,
            "undo {kill}"
        );
    }
    for kill in 0..kills {
        fs::write(&image, &original).expect("the image");
        let _ = fs::remove_file(&undo);
        let mut child = recount(&repair).spawn().expect("the program starts");
        sleep(repair_time * (2 * kill + 1) / (2 * kills));
        let id = Pid::from_raw(child.id().cast_signed());
        signal::kill(id, Signal::SIGTERM).expect("a child that was not waited for");
        // While it plans the signal ends it; while it writes, it ends between two phases.
        let code = child.wait().expect("a child").code();
        assert!(matches!(code, None | Some(0 | 143)), "{code:?}");
        assert_eq!(runs(&["check", "-r", "all", path]), Some(0));
        assert_whole(&image, &original);
    }
    println!("of {kills} each, {interrupted:?} were interrupted");
    assert!(
        interrupted.iter().all(|times| *times > kills / 4),
        "{interrupted:?}"
    );
}
