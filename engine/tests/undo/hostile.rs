//! Undo files that were made to deceive: any bytes, and every checksum fits. They are refused or put
//! back, without a panic and without memory or writes beyond the image.

use std::fs;
use std::ops::Range;

use recount::MemoryStorage;
use recount::undo::UndoError;
use twox_hash::XxHash64;

use crate::kit::{Case, Failing, Random, undo};

/// Where the body begins, and the bytes of a record's head.
pub const BODY: usize = 512;
const HEAD: usize = 24;

fn number(bytes: &[u8], at: usize) -> usize {
    u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap()) as usize
}

/// Where the records are, the checksum at the end of each included, as far as their sizes make sense.
pub fn records(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut records = Vec::new();
    let mut at = BODY + number(&bytes[..BODY], 56);
    while at + HEAD <= bytes.len() {
        let [states, has_bytes] = [8, 16].map(|field| number(bytes, at + field));
        let sums = states.saturating_mul(8);
        let end = sums.saturating_add(at + HEAD + 512 * (has_bytes & 1) + 8);
        if end > bytes.len() {
            break;
        }
        records.push(at..end);
        at = end;
    }
    records
}

/// Makes the checksums fit, those of the records as far as their sizes make sense.
pub fn close(bytes: &mut [u8]) {
    let put = |bytes: &mut [u8], at: usize, checked: Range<usize>| {
        let sum = XxHash64::oneshot(0, &bytes[checked]).to_be_bytes();
        bytes[at..at + 8].copy_from_slice(&sum);
    };
    for record in records(bytes) {
        put(bytes, record.end - 8, BODY..record.end - 8);
    }
    put(bytes, 64, BODY..bytes.len());
    put(bytes, 504, 0..504);
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
            Err(UndoError::Interrupted(source)) => panic!("byte {at}: {source}"),
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
        let is_expected = matches!(error, UndoError::Damaged | UndoError::OtherImage(_));
        assert!(is_expected, "{round}: {error}");
        assert!(storage.bytes() == case.old);
    }
}
