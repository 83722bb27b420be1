//! The crate imago on a file. It has no snapshots, and nobody sees in which order it writes.

use std::io;
use std::path::PathBuf;

use imago::file::File as ImagoFile;
use imago::qcow2::Qcow2;
use imago::{FormatAccess, FormatDriverBuilder as _, PermissiveImplicitOpenGate};
use recount_writers::{Done, Guest, SharedDisk, Writer};
use tempfile::TempDir;

struct Imago;

struct Open {
    access: FormatAccess<ImagoFile>,
    disk: SharedDisk,
    path: PathBuf,
    /// Deleted when the image is closed.
    _folder: TempDir,
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to `map_err`")]
fn text(error: io::Error) -> String {
    error.to_string()
}

impl Writer for Imago {
    fn name(&self) -> &'static str {
        "imago"
    }

    fn open(&self, disk: SharedDisk) -> Result<Box<dyn Guest + '_>, String> {
        let folder = TempDir::new().map_err(text)?;
        let path = folder.path().join("image.qcow2");
        disk.store(&path).map_err(text)?;
        let opened = Qcow2::<ImagoFile>::builder_path(&path)
            .write(true)
            .open(PermissiveImplicitOpenGate::default());
        Ok(Box::new(Open {
            access: FormatAccess::new(opened.map_err(text)?),
            disk,
            path,
            _folder: folder,
        }))
    }
}

impl Guest for Open {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), String> {
        self.access.write(bytes, offset).map_err(text)
    }

    fn discard(&mut self, offset: u64, length: u64) -> Result<Done, String> {
        let discarded = self.access.discard_to_zero(offset, length);
        discarded.map(|()| Done::Done).map_err(text)
    }

    fn flush(&mut self) -> Result<(), String> {
        let flushed = self.access.flush().and_then(|()| self.access.sync());
        flushed
            .and_then(|()| self.disk.load(&self.path))
            .map_err(text)
    }

    fn close(self: Box<Self>) -> Result<(), String> {
        let Self {
            access,
            disk,
            path,
            _folder,
        } = *self;
        access.flush().map_err(text)?;
        drop(access);
        disk.load(&path).map_err(text)
    }
}

recount_writers::writer_tests!(Imago, writes discards);
