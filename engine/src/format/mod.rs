//! Bytes to typed fields, and nothing else: no I/O, no judgement of an image as a whole.
//!
//! On-disk constants live here only, each with the section of the qcow2 specification that it is
//! from. Nothing here panics or allocates by a number that it reads.

pub mod bitmap;
pub mod entry;
pub mod extension;
pub mod header;
pub mod snapshot;

/// The big-endian number of `N` bytes at `position`, 0 past the end.
fn bytes_at<const N: usize>(bytes: &[u8], position: usize) -> [u8; N] {
    let field = position
        .checked_add(N)
        .and_then(|end| bytes.get(position..end));
    field
        .and_then(|field| field.try_into().ok())
        .unwrap_or([0; N])
}

pub(crate) fn be16(bytes: &[u8], position: usize) -> u16 {
    u16::from_be_bytes(bytes_at(bytes, position))
}

pub(crate) fn be32(bytes: &[u8], position: usize) -> u32 {
    u32::from_be_bytes(bytes_at(bytes, position))
}

pub(crate) fn be64(bytes: &[u8], position: usize) -> u64 {
    u64::from_be_bytes(bytes_at(bytes, position))
}
