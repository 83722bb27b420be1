//! Power cuts and failing disks on toys: `planned` survives all of them, the algorithms as QEMU has
//! them do not, and neither does a commit that leaves out a flush.

use std::io;

use recount::{MemoryStorage, Offset, Storage as _};
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::model::Model;
use recount_oracle::case::{
    Algorithm, Case, Fault, FaultKind, Image, Operation, Schedule, StorageLimit, Times,
};
use recount_oracle::crash::{self, CrashState, Limits};
use recount_oracle::disk::Disk;
use recount_oracle::properties::{Property, Verdict, crash_atomic};
use recount_oracle::run::{Before, Bounds, Explored, ToyRepair, explore_one, run};
use recount_oracle::subject::{Done, Outcome, Stopped};
use recount_oracle::subject::{Repair, Undo};
use recount_subjects::Recount;

/// `#` is a referenced cluster, `2` one with two references, `o` one of the old structures. B = 4
/// refcounts of a refblock, E = 2 entries of a reftable cluster.
fn case(algorithm: Algorithm, picture: &str, storage: StorageLimit) -> Case {
    let references = picture.bytes().map(|mark| match mark {
        b'#' => 1,
        b'2' => 2,
        _ => 0,
    });
    let old = (0..).zip(picture.bytes()).filter(|(_, mark)| *mark == b'o');
    Case {
        image: Image::Model(Model {
            refblock_bits: 2,
            reftable_entry_bits: 1,
            refcount_order: 4,
            references: references.collect(),
            old: old.map(|(cluster, _)| cluster).collect(),
        }),
        damage: Vec::new(),
        storage,
        algorithm,
        schedule: Schedule::Quiet,
    }
}

const PICTURES: [&str; 7] = [
    "#.......",
    "#oo.2...",
    "#oo.#...#oo#",
    "####",
    "#ooo....##.#",
    "##oo2o#....2...#",
    "2oo.o.o.o.#.2.#.",
];

fn storages() -> [StorageLimit; 3] {
    let fixed = |spare| StorageLimit::Fixed { spare };
    [StorageLimit::Growing, fixed(0), fixed(8)]
}

fn explored(algorithm: Algorithm, picture: &str, storage: StorageLimit) -> Explored {
    let (before, repair) =
        recount_subjects::toy(&case(algorithm, picture, storage)).expect("a toy");
    explore_one(&repair, &before, &Bounds::default())
}

fn bytes_of(bytes: &SparseBytes) -> Vec<u8> {
    bytes.bytes(0, bytes.len() as usize)
}

#[test]
fn planned_survives_every_power_cut_and_every_fault() {
    let mut states = 0;
    for picture in PICTURES {
        for storage in storages() {
            let explored = explored(Algorithm::Planned, picture, storage);
            for (property, verdict) in &explored.verdicts {
                assert!(
                    !verdict.is_failure(),
                    "{picture} {storage:?}: {property}: {verdict:?}"
                );
            }
            if explored.quiet.outcome.is_ok() {
                assert_eq!(explored.verdict(Property::CrashAtomic), Verdict::Holds);
                assert_eq!(explored.verdict(Property::FaultSafe), Verdict::Holds);
                assert_eq!(
                    explored.verdict(Property::CountsEveryCluster),
                    Verdict::Holds
                );
            }
            states += explored.states;
        }
    }
    assert!(states > 5_000, "{states} states were looked at");
}

#[test]
fn the_algorithms_of_qemu_switch_to_structures_that_may_not_be_there() {
    for algorithm in [Algorithm::FirstFit, Algorithm::Tail] {
        for picture in ["#.......", "#oo.2...", "2oo.o.o.o.#.2.#."] {
            let explored = explored(algorithm, picture, StorageLimit::Growing);
            assert!(explored.quiet.outcome.is_ok(), "{picture}");
            let Verdict::Fails(failure) = explored.verdict(Property::CrashAtomic) else {
                panic!("{algorithm:?} holds on {picture}");
            };
            let message = failure.to_string();
            assert!(message.contains("power cut"), "{message}");
            assert!(
                message.contains("the header leads to a reftable of"),
                "{message}"
            );
            assert!(explored.verdict(Property::FaultSafe).is_failure());
        }
    }
}

#[test]
fn the_state_that_a_failure_names_is_replayed_from_the_case() {
    let case = case(Algorithm::FirstFit, "#.......", StorageLimit::Growing);
    let (before, repair) = recount_subjects::toy(&case).expect("a toy");
    let quiet = run(&repair, &before, &[]);
    let whole = before.kind.read(&quiet.after).expect("a toy");
    let visit = |state: &CrashState<'_>| {
        let reading = before.kind.read(state.bytes).expect("a toy");
        let switched = reading.pointer() != before.reading.pointer();
        if switched && reading.counts() != whole.counts() {
            return std::ops::ControlFlow::Break(state.crash().expect("few sectors"));
        }
        std::ops::ControlFlow::Continue(())
    };
    let (_, crash) = crash::each(&before.bytes, &quiet.trace, &Limits::default(), visit);
    let crash = crash.expect("not crash-atomic");
    let (before, repair) = recount_subjects::toy(&case).expect("a toy");
    let again = run(&repair, &before, &[]);
    let left = crash::state(&before.bytes, &again.trace, crash);
    let reading = before.kind.read(&left).expect("a toy");
    assert_eq!(reading.pointer(), whole.pointer());
    assert_ne!(reading.counts(), whole.counts());
    assert_eq!(bytes_of(&again.after), bytes_of(&quiet.after));
}

#[test]
fn the_faults_of_a_case_are_played() {
    let case = case(Algorithm::Planned, "#oo.2...", StorageLimit::Growing);
    let (before, repair) = recount_subjects::toy(&case).expect("a toy");
    let fault = Fault {
        operation: Operation::Flush,
        nth: 0,
        error: FaultKind::Io,
        times: Times::Once,
    };
    let played = run(&repair, &before, &[fault]);
    assert_eq!(played.asked.faults_hit, 1);
    assert!(played.outcome.is_err());
    let reading = before.kind.read(&played.after).expect("a toy");
    assert_eq!(reading.pointer(), before.reading.pointer());
}

/// Memory of the engine as a disk.
struct Memory(MemoryStorage);

impl Disk for Memory {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn capacity(&self) -> Option<u64> {
        self.0.capacity()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let read = self.0.read_at(Offset(offset), buffer);
        read.map_err(|error| error.source)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let written = self.0.write_at(Offset(offset), bytes);
        written.map_err(|error| error.source)
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        self.0.set_len(length).map_err(|error| error.source)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(|error| error.source)
    }

    fn discard(&mut self, offset: u64, length: u64) -> io::Result<()> {
        let discarded = self.0.discard(Offset(offset), length);
        discarded.map_err(|error| error.source)
    }
}

#[test]
fn a_disk_without_faults_ends_up_as_memory_does() {
    for algorithm in [Algorithm::Planned, Algorithm::FirstFit, Algorithm::Tail] {
        for picture in PICTURES {
            for storage in storages() {
                let case = case(algorithm, picture, storage);
                let (before, repair) = recount_subjects::toy(&case).expect("a toy");
                let bytes = bytes_of(&before.bytes);
                let mut memory = Memory(match before.capacity {
                    None => MemoryStorage::growing(bytes),
                    Some(_) => MemoryStorage::fixed(bytes),
                });
                let outcome = repair.commit(&mut memory);
                let run = run(&repair, &before, &[]);
                assert_eq!(run.outcome.is_ok(), outcome.is_ok());
                assert_eq!(
                    bytes_of(&run.after),
                    memory.0.bytes(),
                    "{algorithm:?} {picture}"
                );
            }
        }
    }
}

/// Passes everything on but the nth flush, which it says was done.
struct SwallowFlush<'a> {
    disk: &'a mut dyn Disk,
    swallowed: u32,
    flushes: u32,
}

impl Disk for SwallowFlush<'_> {
    fn len(&self) -> u64 {
        self.disk.len()
    }

    fn capacity(&self) -> Option<u64> {
        self.disk.capacity()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.disk.read_at(offset, buffer)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.write_at(offset, bytes)
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        self.disk.set_len(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flushes += 1;
        if self.flushes - 1 == self.swallowed {
            return Ok(());
        }
        self.disk.flush()
    }

    fn discard(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.disk.discard(offset, length)
    }
}

/// A repair on a disk that swallows a flush, and perhaps writes over an old structure at the end.
struct Careless {
    repair: ToyRepair<'static>,
    swallowed: u32,
    reuses: Option<u64>,
}

impl Repair for Careless {
    fn undo(&self) -> Option<&dyn Undo> {
        Some(&Recount)
    }

    fn repair(&self, disk: &mut dyn Disk) -> Outcome {
        let mut storage = SwallowFlush {
            disk,
            swallowed: self.swallowed,
            flushes: 0,
        };
        let done = self.repair.commit(&mut storage)?;
        if let Some(offset) = self.reuses {
            let reused = storage.write_at(offset, &[0xee; 16]);
            let reused = reused.and_then(|()| storage.flush());
            reused.map_err(|error| Stopped::unknown(&error))?;
        }
        Ok(done)
    }
}

fn careless(swallowed: u32, reuses: Option<u64>) -> (Before, Careless) {
    let case = case(Algorithm::Planned, "#oo.2...", StorageLimit::Growing);
    let (before, repair) = recount_subjects::toy(&case).expect("a toy");
    let careless = Careless {
        repair,
        swallowed,
        reuses,
    };
    (before, careless)
}

#[test]
fn a_missing_flush_before_the_switch_is_seen() {
    let (before, repair) = careless(0, None);
    let explored = explore_one(&repair, &before, &Bounds::default());
    assert!(explored.verdict(Property::CrashAtomic).is_failure());
    assert_eq!(
        explored.verdict(Property::CountsEveryCluster),
        Verdict::Holds
    );
}

#[test]
fn a_missing_flush_after_the_switch_is_seen_when_the_old_structures_are_used_again() {
    let old = Some(512);
    let (before, repair) = careless(1, old);
    let explored = explore_one(&repair, &before, &Bounds::default());
    let Verdict::Fails(failure) = explored.verdict(Property::CrashAtomic) else {
        panic!("not seen");
    };
    assert!(
        failure
            .message
            .contains("old structures, but their cluster 1"),
        "{failure}"
    );
    // With all flushes the same is harmless.
    let (before, repair) = careless(u32::MAX, old);
    let explored = explore_one(&repair, &before, &Bounds::default());
    assert_eq!(explored.verdict(Property::CrashAtomic), Verdict::Holds);
}

/// Says that all is well whatever happens.
struct Liar(ToyRepair<'static>);

impl Repair for Liar {
    fn undo(&self) -> Option<&dyn Undo> {
        Some(&Recount)
    }

    fn repair(&self, disk: &mut dyn Disk) -> Outcome {
        let _ = self.0.commit(disk);
        Ok(Done::default())
    }
}

#[test]
fn an_error_that_is_not_passed_on_is_seen() {
    let case = case(Algorithm::Planned, "#oo.2...", StorageLimit::Growing);
    let (before, repair) = recount_subjects::toy(&case).expect("a toy");
    let explored = explore_one(&Liar(repair), &before, &Bounds::default());
    let Verdict::Fails(failure) = explored.verdict(Property::FaultSafe) else {
        panic!("not seen");
    };
    assert!(
        failure.message.contains("told that all is well"),
        "{failure}"
    );
    assert_eq!(explored.faults.len(), 1);
}

/// Tries every write again, and flushes again, when it fails.
struct Stubborn(ToyRepair<'static>);

struct Retrying<'a>(&'a mut dyn Disk);

impl Disk for Retrying<'_> {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn capacity(&self) -> Option<u64> {
        self.0.capacity()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, buffer)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0
            .write_at(offset, bytes)
            .or_else(|_| self.0.write_at(offset, bytes))
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().or_else(|_| self.0.flush())
    }

    fn discard(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.0.discard(offset, length)
    }
}

impl Repair for Stubborn {
    fn undo(&self) -> Option<&dyn Undo> {
        Some(&Recount)
    }

    fn repair(&self, disk: &mut dyn Disk) -> Outcome {
        self.0.commit(&mut Retrying(disk))
    }
}

#[test]
fn a_second_flush_after_a_failed_one_is_not_taken_for_durable() {
    let case = case(Algorithm::Planned, "#oo.2...", StorageLimit::Growing);
    let (before, repair) = recount_subjects::toy(&case).expect("a toy");
    let stubborn = Stubborn(repair);
    let fails_once = Fault {
        operation: Operation::Flush,
        nth: 0,
        error: FaultKind::Io,
        times: Times::Once,
    };
    let whole = run(&stubborn, &before, &[]).after;
    let whole = before.kind.read(&whole).expect("a toy");
    let run = run(&stubborn, &before, &[fails_once]);
    assert!(run.outcome.is_ok());
    let (_, verdict) = crash_atomic::judge(&before, &run.trace, Some(&whole), &Limits::default());
    assert!(
        verdict.is_failure(),
        "the structures may be lost though a flush succeeded"
    );
    let explored = explore_one(&stubborn, &before, &Bounds::default());
    assert!(explored.verdict(Property::FaultSafe).is_failure());
}
