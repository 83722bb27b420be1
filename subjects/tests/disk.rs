//! The simulated disk does what storage does, fails when it is told to, and remembers everything.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use recount::{MemoryStorage, Offset, Storage};
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::{Fault, FaultKind, Operation, Times};
use recount_oracle::disk::{Disk, Event, SimulatedDisk};
use recount_subjects::engine::Lent;

fn disk(length: u64) -> SimulatedDisk {
    SimulatedDisk::new(SparseBytes::zeros(length), None)
}

fn fault(operation: Operation, nth: u32, error: FaultKind, times: Times) -> Fault {
    Fault {
        operation,
        nth,
        error,
        times,
    }
}

fn bytes_of(disk: &dyn Disk) -> Vec<u8> {
    let mut bytes = vec![0; disk.len() as usize];
    disk.read_at(0, &mut bytes).expect("no fault");
    bytes
}

#[test]
fn a_disk_without_faults_gives_the_same_bytes_as_memory() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut disk = disk(5000);
    let mut memory = MemoryStorage::growing(vec![0; 5000]);
    for _ in 0..500 {
        let mut lent = Lent::Whole(&mut disk);
        let storages: [&mut dyn Storage; 2] = [&mut lent, &mut memory];
        let offset = Offset(rng.random_range(0..20_000));
        let bytes = vec![rng.random(); rng.random_range(0..3000)];
        let act = rng.random_range(0..10);
        for storage in storages {
            match act {
                0 => storage.flush(),
                1 => storage.set_len(offset.0),
                _ => storage.write_at(offset, &bytes),
            }
            .expect("no fault");
        }
        assert_eq!(disk.len(), memory.len());
    }
    assert_eq!(bytes_of(&disk), memory.bytes());
}

#[test]
fn a_device_that_cannot_grow_refuses_what_lies_past_its_end_and_does_none_of_it() {
    let mut disk = SimulatedDisk::new(SparseBytes::zeros(2048), Some(2048));
    let error = disk.write_at(1536, &[1; 1024]).expect_err("no room");
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    disk.set_len(2049).expect_err("no room");
    disk.write_at(u64::MAX, &[1]).expect_err("no room");
    assert_eq!(bytes_of(&disk), [0; 2048]);
    assert!(disk.trace().events.is_empty());
    disk.write_at(1536, &[1; 512]).expect("there is room");
}

#[test]
fn the_nth_operation_of_a_kind_fails_once_twice_or_for_ever() {
    for (times, expected) in [
        (Times::Once, [true, false, true, true]),
        (Times::Twice, [true, false, false, true]),
        (Times::Forever, [true, false, false, false]),
    ] {
        let schedule = [fault(Operation::Write, 1, FaultKind::Io, times)];
        let mut disk = disk(0).with_faults(&schedule);
        let results = [0_u8; 4].map(|byte| {
            disk.flush().expect("another kind");
            disk.write_at(0, &[byte]).is_ok()
        });
        assert_eq!(results, expected);
        let failures = results.iter().filter(|ok| !**ok).count();
        assert_eq!(disk.asked().faults_hit as usize, failures);
    }
}

#[test]
fn every_kind_of_operation_can_fail_and_says_which_it_was() {
    let all = [
        Operation::Read,
        Operation::Write,
        Operation::Flush,
        Operation::SetLen,
    ];
    for operation in all {
        for error in [FaultKind::Io, FaultKind::NoSpace, FaultKind::Short] {
            let schedule = [fault(operation, 0, error, Times::Once)];
            let mut disk = disk(4096).with_faults(&schedule);
            let result = match operation {
                Operation::Read => disk.read_at(0, &mut [0; 16]),
                Operation::Write => disk.write_at(0, &[1; 16]),
                Operation::Flush => disk.flush(),
                Operation::SetLen => disk.set_len(9000),
            };
            let failure = result.expect_err("the schedule says so");
            let full = failure.kind() == std::io::ErrorKind::StorageFull;
            assert_eq!(full, error == FaultKind::NoSpace);
        }
    }
}

#[test]
fn a_short_write_does_whole_sectors_and_the_rest_may_still_reach_the_disk() {
    let schedule = [fault(Operation::Write, 0, FaultKind::Short, Times::Twice)];
    let mut disk = disk(4096).with_faults(&schedule);
    // Four sectors from the middle of the first on: the first and a whole one are done.
    disk.write_at(256, &[1; 2048]).expect_err("short");
    let mut expected = vec![0; 4096];
    expected[256..1024].fill(1);
    assert_eq!(bytes_of(&disk), expected);
    disk.write_at(48, &[2; 12]).expect_err("short");
    assert_eq!(
        bytes_of(&disk),
        expected,
        "a sector is written whole or not at all"
    );
    let failed = disk.trace().events.iter().filter_map(|event| match event {
        Event::WriteFailed { offset, bytes } => Some((*offset, bytes.len())),
        _ => None,
    });
    assert_eq!(failed.collect::<Vec<_>>(), [(1024, 1280), (48, 12)]);
}

#[test]
fn discarded_sectors_read_as_zeros_and_others_stay() {
    let mut disk = disk(0);
    disk.write_at(0, &[1; 2048]).expect("no fault");
    disk.discard(100, 1500).expect("no fault");
    let mut expected = vec![1; 2048];
    expected[512..1536].fill(0);
    assert_eq!(bytes_of(&disk), expected);
    disk.discard(0, u64::MAX).expect("no fault");
    assert_eq!(bytes_of(&disk), [0; 2048]);
    assert_eq!(disk.len(), 2048);
}

#[test]
fn a_disk_of_exabytes_takes_memory_for_what_is_written_only() {
    let mut disk = disk(1 << 60);
    disk.write_at(1 << 59, b"far out").expect("no fault");
    let mut bytes = [0; 7];
    disk.read_at(1 << 59, &mut bytes).expect("no fault");
    assert_eq!(&bytes, b"far out");
    assert_eq!(disk.asked().operations[Operation::Read as usize], 1);
    assert_eq!(disk.asked().bytes_read, 7);
}
