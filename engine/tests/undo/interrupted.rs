//! Wherever the repair or the restoration ends, undoing (again) gives the old image.

use recount::undo::UndoError;
use recount::{MemoryStorage, Storage as _};

use crate::kit::{Case, Failing, Random, apply, undo, writes};

#[test]
fn a_repair_that_ends_at_any_write_is_undone() {
    let case = Case::new();
    for left in 0..=writes().len() {
        for torn_at in [0, 512, 1024] {
            let mut failing = Failing {
                inner: MemoryStorage::growing(case.old.clone()),
                left,
                torn_at,
            };
            let result = apply(&writes(), &mut failing);
            assert_eq!(result.is_ok(), left == writes().len());
            let mut storage = failing.inner;
            undo(&case.copy(), &mut storage).unwrap();
            assert!(storage.bytes() == case.old, "{left} writes, {torn_at}");
        }
    }
}

#[test]
fn a_restoration_that_ends_at_any_write_can_be_done_again() {
    let case = Case::new();
    for torn_at in [0, 512, 1024] {
        let mut interruptions = 0;
        loop {
            let copy = case.copy();
            let mut failing = Failing {
                inner: case.repaired(),
                left: interruptions,
                torn_at,
            };
            match undo(&copy, &mut failing) {
                Ok(()) => break,
                Err(UndoError::Interrupted(_)) => {}
                Err(error) => panic!("{interruptions} changes: {error}"),
            }
            let mut storage = failing.inner;
            undo(&copy, &mut storage).unwrap();
            assert!(storage.bytes() == case.old, "{interruptions}, {torn_at}");
            interruptions += 1;
        }
        assert!(interruptions > 5, "the test interrupts something");
    }
}

/// The image after a power cut during the repair: of each sector any number of the writes that
/// touch it have arrived, in their order, and the file has any length that it had.
fn after_a_power_cut(old: &[u8], random: &mut Random) -> MemoryStorage {
    let writes = writes();
    let sectors = 34_700_usize.div_ceil(512);
    let arrived: Vec<usize> = (0..sectors)
        .map(|_| random.below(writes.len() + 1))
        .collect();
    let mut bytes = old.to_vec();
    bytes.resize(sectors * 512, 0);
    let mut lengths = vec![old.len()];
    for (number, (offset, new)) in writes.iter().enumerate() {
        let at = offset.0 as usize;
        for (index, byte) in new.iter().enumerate() {
            if number < arrived[(at + index) / 512] {
                bytes[at + index] = *byte;
            }
        }
        lengths.push((at + new.len()).max(old.len()).div_ceil(512) * 512);
    }
    bytes.truncate(lengths[random.below(lengths.len())].min(34_700));
    MemoryStorage::growing(bytes)
}

#[test]
fn power_cuts_that_lose_any_sectors_of_the_repair_and_of_the_restoration_are_undone() {
    let case = Case::new();
    let mut random = Random(1);
    for round in 0..2_000 {
        let cut = after_a_power_cut(&case.old, &mut random);
        let copy = case.copy();
        let mut failing = Failing {
            inner: cut.clone(),
            left: random.below(8),
            torn_at: 512 * random.below(4),
        };
        if undo(&copy, &mut failing).is_err() {
            // Of each sector what was there before the restoration, or what that has written.
            let (mut before, after) = (cut.bytes().to_vec(), failing.inner.bytes().to_vec());
            before.resize(after.len(), 0);
            for (old, new) in before.chunks_mut(512).zip(after.chunks(512)) {
                if random.below(2) == 0 {
                    old.copy_from_slice(new);
                }
            }
            let mut storage = MemoryStorage::growing(before);
            undo(&copy, &mut storage).unwrap_or_else(|error| panic!("{round}: {error}"));
            assert!(storage.bytes() == case.old, "round {round}");
        } else {
            assert!(failing.inner.bytes() == case.old, "round {round}");
            assert_eq!(failing.len(), case.old.len() as u64);
        }
    }
}
