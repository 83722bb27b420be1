//! A LUKS version 1 header without any key: enough to be opened for a check, not for data.

/// Bytes of a sector.
const SECTOR: u32 = 512;
/// Bytes of the key.
const KEY_BYTES: u32 = 32;
/// Stripes that a key slot spreads the key over: always this many.
const STRIPES: u32 = 4000;
/// Key slots.
const SLOTS: u32 = 8;
/// Where key material begins, and what it is aligned to, in sectors.
const ALIGNMENT: u32 = 4096 / SECTOR;
/// State of a slot without a key.
const DISABLED: u32 = 0x0000_dead;

/// Sectors of one slot's key material.
const SLOT_SECTORS: u32 = (KEY_BYTES * STRIPES)
    .div_ceil(SECTOR)
    .next_multiple_of(ALIGNMENT);

/// Bytes of the header with all key material.
pub(super) const LENGTH: u64 = ((ALIGNMENT + SLOTS * SLOT_SECTORS) * SECTOR) as u64;

/// The header's own bytes; the key material after it is zeros.
pub(super) fn bytes() -> Vec<u8> {
    let mut out = b"LUKS\xba\xbe\x00\x01".to_vec();
    let text = |out: &mut Vec<u8>, text: &str, length: usize| {
        let end = out.len() + length;
        out.extend_from_slice(text.as_bytes());
        out.resize(end, 0);
    };
    text(&mut out, "aes", 32);
    text(&mut out, "xts-plain64", 32);
    text(&mut out, "sha256", 32);
    out.extend_from_slice(&(ALIGNMENT + SLOTS * SLOT_SECTORS).to_be_bytes());
    out.extend_from_slice(&KEY_BYTES.to_be_bytes());
    out.extend_from_slice(&[0x5a; 20 + 32]); // The key's digest and salt.
    out.extend_from_slice(&1000_u32.to_be_bytes()); // Iterations.
    text(&mut out, "00000000-0000-4000-8000-000000000000", 40);
    for slot in 0..SLOTS {
        out.extend_from_slice(&DISABLED.to_be_bytes());
        out.extend_from_slice(&0_u32.to_be_bytes()); // Iterations.
        out.extend_from_slice(&[0; 32]); // Salt.
        out.extend_from_slice(&(ALIGNMENT + slot * SLOT_SECTORS).to_be_bytes());
        out.extend_from_slice(&STRIPES.to_be_bytes());
    }
    out
}
