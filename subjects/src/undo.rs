//! The engine's undo files.

use std::path::Path;

use recount::Offset;
use recount::undo::{OnWrite, UndoError, UndoFile, save};
use recount_oracle::disk::Disk;
use recount_oracle::subject::{NotRestored, Undo, Write};

use crate::Recount;
use crate::engine::Lent;

impl Undo for Recount {
    fn save(&self, file: &Path, disk: &dyn Disk, writes: &[Write]) -> Result<(), String> {
        let all = |on_write: &mut OnWrite<'_>| {
            let mut writes = writes.iter();
            writes.try_for_each(|(offset, bytes)| on_write(Offset(*offset), bytes))
        };
        // What it says of where the image is is no matter: it is told.
        let saved = save(file, &Lent::Shown(disk), Path::new("image"), &all);
        saved.map(drop).map_err(|error| error.to_string())
    }

    fn restore(&self, file: &Path, disk: &mut dyn Disk) -> Result<(), NotRestored> {
        let file = UndoFile::open(file);
        let restored = file.and_then(|file| file.restore(&mut Lent::Whole(disk), None));
        restored.map(drop).map_err(|error| NotRestored {
            interrupted: matches!(error, UndoError::Interrupted { .. }),
            message: error.to_string(),
        })
    }
}
