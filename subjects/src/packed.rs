//! Images as files that a repository can keep: gzip around the image's length and its pages that are
//! not zeros, each with its position; numbers are 8 bytes, little-endian.

use std::io::{self, Read as _, Write as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::damage::bytes::PAGE;

/// The bytes of an image file.
pub fn pack(image: &SparseBytes) -> io::Result<Vec<u8>> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&image.len().to_le_bytes())?;
    for (position, page) in image.pages() {
        packed.write_all(&position.to_le_bytes())?;
        packed.write_all(page)?;
    }
    packed.finish()
}

/// The image of such a file.
pub fn unpack(packed: &[u8]) -> io::Result<SparseBytes> {
    let mut bytes = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut bytes)?;
    pages(&bytes)
}

fn pages(bytes: &[u8]) -> io::Result<SparseBytes> {
    let cut_short = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let (length, mut rest) = bytes.split_first_chunk().ok_or_else(cut_short)?;
    let length = u64::from_le_bytes(*length);
    let mut image = SparseBytes::default();
    while !rest.is_empty() {
        let (position, after) = rest.split_first_chunk().ok_or_else(cut_short)?;
        let (page, after) = after.split_first_chunk::<PAGE>().ok_or_else(cut_short)?;
        image.write_at(u64::from_le_bytes(*position), page)?;
        rest = after;
    }
    image.set_len(length);
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_survives_packing() {
        let mut image = SparseBytes::default();
        image.write_at(5_000, b"in the second page").unwrap();
        image.write_at(1 << 40, &[1]).unwrap();
        image.set_len((1 << 40) + 7);
        let mut bytes = Vec::new();
        let packed = pack(&image).unwrap();
        GzDecoder::new(&packed[..]).read_to_end(&mut bytes).unwrap();
        assert_eq!(unpack(&packed).unwrap(), image);
        assert!(packed.len() < 200, "{} bytes", packed.len());
        assert!(pages(&bytes[..bytes.len() - 1]).is_err());
    }
}
