//! Cases with the verdicts of qemu-img, in text, each with its damaged image beside it: what a run
//! compares with where qemu-img is not installed.
//!
//! An image file is gzip around the image's length and its pages that are not zeros, each with its
//! position; numbers are 8 bytes, little-endian.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::damage::bytes::PAGE;
use recount_oracle::case::observed::Ended;
use recount_oracle::case::text::{self, CaseFile, Verdict};

use crate::error::{At as _, Result};
use crate::fuzz::tools::files;

/// Beside `NAME.toml` lies `NAME.image`.
const IMAGE_EXTENSION: &str = "image";

/// All recorded cases of a folder, by file name; none when the folder does not exist. Cases of other
/// commands have no image beside them.
pub fn load_all(folder: &Path) -> Result<Vec<(PathBuf, CaseFile)>> {
    load_some(folder, |path| path.with_extension(IMAGE_EXTENSION).exists())
}

/// The wanted cases of a folder, by file name; none when the folder does not exist.
pub fn load_some(
    folder: &Path,
    is_wanted: impl Fn(&Path) -> bool,
) -> Result<Vec<(PathBuf, CaseFile)>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut paths = files(folder)?;
    paths.retain(|path| path.extension().is_some_and(|it| it == "toml") && is_wanted(path));
    let read = |path: PathBuf| text::read(&path).map(|record| (path, record));
    Ok(paths.into_iter().map(read).collect::<Result<_, _>>()?)
}

/// The damaged image of the record at `path`.
pub fn load_image(path: &Path) -> Result<SparseBytes> {
    let path = path.with_extension(IMAGE_EXTENSION);
    let read = || {
        let mut bytes = Vec::new();
        GzDecoder::new(File::open(&path)?).read_to_end(&mut bytes)?;
        unpack(&bytes)
    };
    read().at(path.display())
}

/// Writes a record, and its image unless that is there already.
pub fn store(path: &Path, record: &CaseFile, image: Option<&[u8]>) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text::print(record)).at(path.display())?;
    if let Some(bytes) = image {
        fs::write(path.with_extension(IMAGE_EXTENSION), bytes).at(path.display())?;
    }
    Ok(())
}

/// How `-r all` of some program ended.
pub fn verdict_of(ended: Ended) -> Verdict {
    Verdict {
        exit: match ended {
            Ended::Code(code) => Some(code),
            _ => None,
        },
        timed_out: (ended == Ended::TimedOut).then_some(true),
        ..Verdict::default()
    }
}

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

fn unpack(bytes: &[u8]) -> io::Result<SparseBytes> {
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
        assert_eq!(unpack(&bytes).unwrap(), image);
        assert!(packed.len() < 200, "{} bytes", packed.len());
        assert!(unpack(&bytes[..bytes.len() - 1]).is_err());
    }
}
