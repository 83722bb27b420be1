//! Images in files, which a bench repairs again and again.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use recount_oracle::case::damage::SparseBytes;

use crate::{Kind, Task};

/// A sparse file with an image.
pub struct ImageFile {
    path: PathBuf,
    /// The image, undamaged.
    whole: SparseBytes,
}

/// What is to be written to an image before each repair.
pub struct ToRepair {
    path: PathBuf,
    /// Byte positions, and what becomes of the bytes there.
    damage: Vec<(u64, Vec<u8>)>,
}

impl ImageFile {
    /// Writes the image to a file in `directory`, undamaged.
    ///
    /// # Errors
    /// When the builder refuses the image, or the file cannot be written.
    pub fn create(kind: Kind, clusters: u32, directory: &Path) -> Result<Self, String> {
        let whole = kind.build(clusters, Task::Check)?;
        let path = directory.join(kind.name());
        write(&whole, &path).map_err(|error| error.to_string())?;
        Ok(Self { path, whole })
    }

    /// The same image with something to repair.
    pub fn to_repair(&self, task: Task) -> ToRepair {
        let mut damaged = self.whole.clone();
        task.damage(&mut damaged);
        let pages = damaged.pages().chain(self.whole.pages());
        let mut damage: Vec<_> = pages
            .map(|(offset, page)| (offset, damaged.bytes(offset, page.len())))
            .filter(|(offset, page)| self.whole.bytes(*offset, page.len()) != *page)
            .collect();
        damage.sort_unstable();
        damage.dedup();
        let path = self.path.clone();
        ToRepair { path, damage }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl ToRepair {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Damages it, as it is before the task.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn damage(&self) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(&self.path)?;
        self.damage
            .iter()
            .try_for_each(|(offset, bytes)| file.write_all_at(bytes, *offset))
    }
}

fn write(bytes: &SparseBytes, path: &Path) -> io::Result<()> {
    let file = File::create(path)?;
    file.set_len(bytes.len())?;
    bytes
        .pages()
        .try_for_each(|(offset, page)| file.write_all_at(page, offset))
}
