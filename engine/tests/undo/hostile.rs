//! Undo files that were made to deceive: any bytes, and every checksum fits. They are refused or put
//! back, without a panic and without memory or writes beyond the image.

use std::fs;

use recount::MemoryStorage;
use recount::undo::UndoError;
use twox_hash::XxHash64;

use crate::kit::{Case, Failing, Random, undo};

/// Where the records begin, and the bytes of a head up to its checksum.
const BODY: usize = 1024;
const HEAD: usize = 32;
const CHECKED: usize = 24;

fn number(bytes: &[u8]) -> usize {
    u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize
}

/// Makes the checksums fit, those of the records as far as their sizes make sense.
fn close(bytes: &mut [u8]) {
    let mut at = BODY;
    while at + HEAD <= bytes.len() {
        let Some(end) = (at + HEAD).checked_add(number(&bytes[at + 8..])) else {
            break;
        };
        if end > bytes.len() {
            break;
        }
        let checked = [&bytes[at..at + CHECKED], &bytes[at + HEAD..end]].concat();
        let sum = XxHash64::oneshot(0, &checked).to_be_bytes();
        bytes[at + CHECKED..at + HEAD].copy_from_slice(&sum);
        at = end;
    }
    let body = XxHash64::oneshot(0, &bytes[BODY..]).to_be_bytes();
    bytes[48..56].copy_from_slice(&body);
    for block in [0, 512] {
        let sum = XxHash64::oneshot(0, &bytes[block..block + 504]).to_be_bytes();
        bytes[block + 504..block + 512].copy_from_slice(&sum);
    }
}

#[test]
fn what_is_changed_with_fitting_checksums_is_refused_or_put_back() {
    let case = Case::new();
    let whole = fs::read(&case.undo).unwrap();
    let path = case.copy();
    let mut random = Random(3);
    let (mut refused, mut restored) = (0, 0);
    for at in 16..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << random.below(8);
        close(&mut bytes);
        fs::write(&path, &bytes).unwrap();
        let mut storage = Failing {
            inner: case.repaired(),
            left: usize::MAX,
            torn_at: 0,
        };
        match undo(&path, &mut storage) {
            Ok(()) => {
                restored += 1;
                assert!(storage.inner.bytes().len() <= 34_700, "byte {at}");
            }
            Err(UndoError::Interrupted { source }) => panic!("byte {at}: {source}"),
            Err(_) => {
                refused += 1;
                assert!(storage.inner == case.repaired(), "byte {at}");
            }
        }
    }
    // Old bytes may be any; nearly everything else is noticed.
    assert!(refused > 500 && restored > 500, "{refused}, {restored}");
}

#[test]
fn random_records_are_refused() {
    let case = Case::new();
    let whole = fs::read(&case.undo).unwrap();
    let path = case.copy();
    let mut random = Random(4);
    for round in 0..2_000 {
        let mut bytes = whole.clone();
        let from = BODY + random.below(bytes.len() - HEAD - BODY);
        for byte in &mut bytes[from..] {
            // Small numbers are the likely sizes.
            *byte = [0, random.next() as u8][random.below(2)] & [1, 0xff][random.below(2)];
        }
        close(&mut bytes);
        fs::write(&path, &bytes).unwrap();
        let mut storage = MemoryStorage::growing(case.old.clone());
        let error = undo(&path, &mut storage).unwrap_err();
        assert!(
            matches!(error, UndoError::Damaged { .. }),
            "{round}: {error}"
        );
        assert!(storage.bytes() == case.old);
    }
}
