//! Writing an undo file, record by record. What is not finished is removed again.

use std::fs::{File, OpenOptions};
use std::hash::Hasher as _;
use std::io::{BufWriter, ErrorKind, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use twox_hash::XxHash64;

use super::error::{FileOperation, UndoError, on_file};
use super::format::{Head, Header, Kind, Status};

/// Bytes written at once.
const BUFFER_BYTES: usize = 1 << 20;

/// The records of an undo file that is being saved.
pub struct Body {
    path: PathBuf,
    file: BufWriter<File>,
    sum: XxHash64,
    length: u64,
    records: u64,
    is_finished: bool,
}

impl Body {
    /// Makes the file, which only its owner may read: it holds parts of the image.
    pub fn create(path: &Path) -> Result<Self, UndoError> {
        let options = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        let file = match options {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let path = path.to_owned();
                return Err(UndoError::Exists { path });
            }
            result => result.map_err(on_file(FileOperation::Create, path))?,
        };
        let mut body = Self {
            path: path.to_owned(),
            file: BufWriter::with_capacity(BUFFER_BYTES, file),
            sum: XxHash64::with_seed(0),
            length: 0,
            records: 0,
            is_finished: false,
        };
        body.write(&Header::unfinished())?;
        body.write(&Status::Saved.encode())?;
        Ok(body)
    }

    /// Appends a record.
    pub fn record(
        &mut self,
        kind: Kind,
        count: usize,
        offset: u64,
        payload: &[u8],
    ) -> Result<(), UndoError> {
        let head = Head {
            kind,
            count: count as u32,
            payload: payload.len() as u32,
            offset,
        };
        let head = head.encode(payload);
        for part in [&head[..], payload] {
            self.write(part)?;
            self.sum.write(part);
            self.length += part.len() as u64;
        }
        self.records += 1;
        Ok(())
    }

    /// Ends the records, and says in the header that all is there once all is durable.
    pub fn finish(mut self, old_length: u64, new_length: u64) -> Result<(File, Header), UndoError> {
        self.record(Kind::End, 0, self.records, &[])?;
        let header = Header {
            old_length,
            new_length,
            body_length: self.length,
            body_checksum: self.sum.finish(),
        };
        self.file
            .flush()
            .map_err(on_file(FileOperation::Write, &self.path))?;
        let file = self.file.get_ref();
        file.sync_all()
            .map_err(on_file(FileOperation::Flush, &self.path))?;
        file.write_all_at(&header.encode(), 0)
            .map_err(on_file(FileOperation::Write, &self.path))?;
        file.sync_all()
            .and_then(|()| File::open(directory(&self.path))?.sync_all())
            .map_err(on_file(FileOperation::Flush, &self.path))?;
        let file = file
            .try_clone()
            .map_err(on_file(FileOperation::Open, &self.path))?;
        self.is_finished = true;
        Ok((file, header))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), UndoError> {
        self.file
            .write_all(bytes)
            .map_err(on_file(FileOperation::Write, &self.path))
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if !self.is_finished {
            // Where this fails as well, the header says that the file is of no use.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
