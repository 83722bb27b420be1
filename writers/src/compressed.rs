//! The data of compressed clusters (specification, "Compressed Clusters Descriptor" and
//! "Header", on compression types).

use std::io::Read as _;

use flate2::{Decompress, FlushDecompress, Status};
use ruzstd::decoding::StreamingDecoder;

/// A whole cluster of `size` bytes, whatever follows it in its last sector; `None` where the stream is
/// none of that type and size.
pub(crate) fn decompress(stream: &[u8], size: usize, zstd: bool) -> Option<Vec<u8>> {
    let mut bytes = vec![0; size];
    if zstd {
        unpack(stream, &mut bytes)?;
    } else {
        inflate(stream, &mut bytes)?;
    }
    Some(bytes)
}

/// Raw deflate.
fn inflate(stream: &[u8], bytes: &mut [u8]) -> Option<()> {
    let mut inflater = Decompress::new(false);
    let status = inflater.decompress(stream, bytes, FlushDecompress::Finish);
    let is_whole =
        matches!(status, Ok(Status::StreamEnd)) && inflater.total_out() == bytes.len() as u64;
    is_whole.then_some(())
}

/// One frame of zstd.
fn unpack(stream: &[u8], bytes: &mut [u8]) -> Option<()> {
    let mut decoder = StreamingDecoder::new(stream).ok()?;
    decoder.read_exact(bytes).ok()?;
    let is_whole = matches!(decoder.read(&mut [0]), Ok(0));
    is_whole.then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 4 KiB of ones as qemu-io 10.0 has stored them, and zeros to the end of the sector.
    fn streams() -> [(Vec<u8>, bool); 2] {
        let deflate = [
            0xed, 0xc1, 0x01, 0x0d, 0x00, 0x00, 0x00, 0xc2, 0xa0, 0xbd, 0x7f, 0x69, 0x7b, 0x38,
            0xa0, 0x00, 0x00, 0x00, 0x80, 0x77, 0x03,
        ];
        let zstd = [
            0x28, 0xb5, 0x2f, 0xfd, 0x60, 0x00, 0x0f, 0x4d, 0x00, 0x00, 0x10, 0x01, 0x01, 0x01,
            0x00, 0xfb, 0xf7, 0x01, 0x16,
        ];
        [(&deflate[..], false), (&zstd[..], true)].map(|(stream, zstd)| {
            let mut stream = stream.to_vec();
            stream.resize(512, 0);
            (stream, zstd)
        })
    }

    #[test]
    fn a_cluster_of_either_type_is_read_whole_and_of_its_own_type_only() {
        for (stream, zstd) in streams() {
            assert_eq!(decompress(&stream, 4096, zstd), Some(vec![1; 4096]));
            assert_eq!(decompress(&stream, 4096, !zstd), None);
            assert_eq!(decompress(&stream, 8192, zstd), None);
            assert_eq!(decompress(&stream, 2048, zstd), None);
        }
    }
}
