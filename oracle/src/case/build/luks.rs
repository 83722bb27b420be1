//! A LUKS version 1 header without any key: enough to be opened for a check, not for data.

use super::{fields, padded};
use crate::disk::SECTOR;

/// Bytes of the key.
const KEY_BYTES: u64 = 32;
/// Stripes that a key slot spreads the key over: always this many.
const STRIPES: u64 = 4000;
/// Key slots.
const SLOTS: u64 = 8;
/// Where key material begins, and what it is aligned to, in sectors.
const ALIGNMENT: u64 = 4096 / SECTOR;
/// State of a slot without a key.
const DISABLED: u64 = 0xdead;
/// Sectors of one slot's key material.
const SLOT_SECTORS: u64 = (KEY_BYTES * STRIPES)
    .div_ceil(SECTOR)
    .next_multiple_of(ALIGNMENT);
/// Sectors of the header with all key material.
const SECTORS: u64 = ALIGNMENT + SLOTS * SLOT_SECTORS;
/// Bytes of the header with all key material.
pub(super) const LENGTH: u64 = SECTORS * SECTOR;

/// The header's own bytes; the key material after it is zeros.
pub(super) fn bytes() -> Vec<u8> {
    let mut out = b"LUKS\xba\xbe\x00\x01".to_vec();
    for text in ["aes", "xts-plain64", "sha256"] {
        out.extend(padded(text, 32));
    }
    out.extend(fields([(SECTORS, 4), (KEY_BYTES, 4)]));
    out.extend([0x5a; 20 + 32]); // The key's digest and salt.
    out.extend(fields([(1000, 4)])); // Iterations.
    out.extend(padded("00000000-0000-4000-8000-000000000000", 40));
    for slot in 0..SLOTS {
        out.extend(fields([(DISABLED, 4), (0, 4)])); // State, iterations.
        out.extend([0; 32]); // Salt.
        let material = ALIGNMENT + slot * SLOT_SECTORS;
        out.extend(fields([(material, 4), (STRIPES, 4)]));
    }
    out
}
