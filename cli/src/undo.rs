//! `recount undo`: puts back what a repair has replaced.

use std::io::ErrorKind;

use recount::storage::{Access, FileStorage, OpenError, shown};
use recount::undo::{UndoError, UndoFile};

use crate::args::UndoArguments;
use crate::failure::Failure;
use crate::terminal::Terminal;

/// Runs the command; the exit code is 0 wherever it succeeds.
pub fn run(arguments: &UndoArguments, terminal: &mut Terminal) -> Result<u8, Failure> {
    let undo = UndoFile::open(&arguments.undo_file)
        .map_err(|error| Failure::of_undo_file("open", &arguments.undo_file, &error))?;
    let path = arguments.image.as_deref().unwrap_or(undo.image());
    let shown = shown(path);
    let mut image = FileStorage::open(path, Access::Write).map_err(|error| match error {
        OpenError::Open { source, .. }
            if source.kind() == ErrorKind::NotFound && arguments.image.is_none() =>
        {
            Failure::new(format_args!(
                "there is no image at {shown} any more, where it was repaired; give its path after \
                 the undo file; nothing was written"
            ))
        }
        error => Failure::new(error),
    })?;
    let modified = image.modified();
    let modified = modified.map_err(|source| Failure::of(path, source))?;
    let restored = undo.restore(&mut image, modified).map_err(|error| {
        let written = match error {
            UndoError::Interrupted(_) | UndoError::Unmarked(_) => "",
            _ => "; nothing was written",
        };
        Failure::new(format_args!("could not put {shown} back: {error}{written}"))
    })?;
    let bytes = restored.bytes_written;
    let (before, length) = restored.length;
    let what = match (bytes, before == length) {
        (0, true) => ", which had written nothing".to_owned(),
        (_, true) => format!(": {bytes} bytes were put back"),
        (_, false) => format!(": {bytes} bytes were put back, and its length, {length}"),
    };
    terminal.print(&format!("{shown} is as it was before the repair{what}.\n"))?;
    Ok(0)
}
