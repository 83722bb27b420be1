//! `recount undo`: puts back what a repair has replaced.

use std::io::{self, ErrorKind, Write as _};
use std::path::Path;
use std::process::ExitCode;

use recount::storage::{FileStorage, OpenError, shown};
use recount::undo::{Restored, UndoError, UndoFile};

use super::args::UndoArguments;
use super::failure::Failure;
use super::terminal::Terminal;

/// Runs the command and says why where it fails.
pub fn run(arguments: &UndoArguments) -> ExitCode {
    let mut terminal = Terminal::new();
    let result = undo(arguments);
    if let Err(failure) = &result {
        terminal.say(format_args!("recount: {failure}"));
    }
    terminal.finish();
    ExitCode::from(u8::from(result.is_err()))
}

fn undo(arguments: &UndoArguments) -> Result<(), Failure> {
    let undo = UndoFile::open(&arguments.undo_file).map_err(|error| Failure::UndoFile {
        verb: "open",
        path: arguments.undo_file.clone(),
        error,
    })?;
    let path = arguments.image.as_deref().unwrap_or(undo.image());
    let failed = |error| Failure::Undo {
        file: path.to_owned(),
        error,
    };
    let mut image = FileStorage::open_read_write(path).map_err(|error| match error {
        OpenError::Open { source, .. }
            if source.kind() == ErrorKind::NotFound && arguments.image.is_none() =>
        {
            Failure::ImageMoved(path.to_owned())
        }
        error => error.into(),
    })?;
    let modified = image.modified().map_err(|source| OpenError::Open {
        path: path.to_owned(),
        source,
    })?;
    let restored = undo.restore(&mut image, modified).map_err(failed)?;
    print(path, &restored)
}

fn print(path: &Path, restored: &Restored) -> Result<(), Failure> {
    let path = shown(path);
    let text = match (restored.bytes_written, restored.length) {
        (0, (before, after)) if before == after => {
            format!("{path} is as it was before the repair, which had written nothing.\n")
        }
        (bytes, (before, after)) if before == after => {
            format!("{path} is as it was before the repair: {bytes} bytes were put back.\n")
        }
        (bytes, (_, length)) => format!(
            "{path} is as it was before the repair: {bytes} bytes were put back, and its length of \
             {length} bytes.\n"
        ),
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever read the output has seen enough; the exit code says the rest.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// What was done to the image when an error of undoing came.
pub(super) const fn consequence(error: &UndoError) -> &'static str {
    match error {
        UndoError::Interrupted(_) | UndoError::Unmarked(_) => "",
        _ => "; nothing was written",
    }
}
