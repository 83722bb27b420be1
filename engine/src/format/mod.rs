//! Bytes to typed fields, and nothing else: no I/O, no judgement of an image as a whole.
//!
//! On-disk constants live here only, each with the section of the qcow2 specification that it is
//! from. Nothing here panics or allocates by a number that it reads.

pub mod bitmap;
pub mod entry;
mod error;
pub mod extension;
pub mod header;
pub mod snapshot;

pub use error::ImageError;

/// The `N` bytes at `position`. What lies past the end is 0, as it is of a file.
fn bytes_at<const N: usize>(bytes: &[u8], position: usize) -> [u8; N] {
    let mut present = bytes.get(position..).unwrap_or_default().iter();
    std::array::from_fn(|_| present.next().copied().unwrap_or(0))
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

/// What an undo file begins with, so that it is not taken for an image. With a line end of each kind,
/// so that a transfer as text shows.
pub const UNDO_MAGIC: [u8; 16] = *b"recount-undo\r\n\x1a\n";

#[cfg(test)]
mod tests {
    use super::{be16, be32};

    #[test]
    fn a_field_that_the_end_cuts_goes_on_with_zeros() {
        let bytes = [1, 2, 3, 4, 5];
        assert_eq!(be32(&bytes, 0), 0x0102_0304);
        assert_eq!(be32(&bytes, 3), 0x0405_0000);
        assert_eq!(be16(&bytes, 5), 0);
        assert_eq!(be16(&bytes, usize::MAX), 0);
    }
}
