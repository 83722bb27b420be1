//! Images between memory and files, holes staying holes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::damage::bytes::PAGE;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// Reads a file; of one that is `limit` bytes long or longer, the length only.
pub fn load(path: &Path, limit: u64) -> io::Result<SparseBytes> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut image = SparseBytes::zeros(length);
    if length >= limit {
        return Ok(image);
    }
    let mut position = 0;
    let mut buffer = vec![0; 64 * PAGE];
    loop {
        let start = match seek(&file, SeekFrom::Data(position)) {
            Ok(start) => start,
            // No data from here to the end.
            Err(Errno::NXIO) => return Ok(image),
            Err(error) => return Err(error.into()),
        };
        let end = seek(&file, SeekFrom::Hole(start))?;
        position = start;
        while position < end {
            let part = usize::try_from(end - position).unwrap_or(usize::MAX);
            let part = part.min(buffer.len());
            file.read_exact_at(&mut buffer[..part], position)?;
            image.write_at(position, &buffer[..part])?;
            position += part as u64;
        }
    }
}
