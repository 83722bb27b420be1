//! Why the command ended without a result, as a user reads it.

use std::io;
use std::path::{Path, PathBuf};

use recount::plan::RepairError;
use recount::repair::RepairFailure;
use recount::storage::{OpenError, shown};
use recount::undo::UndoError;
use recount::{CheckError, Step};

/// Why the command ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("unknown format '{}'; recount checks qcow2 images (-f qcow2)", .0.escape_debug())]
    UnknownFormat(String),
    #[error("{}: this image format does not support checks (raw images have none)", shown(.0))]
    Raw(PathBuf),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("{}: {error}", shown(.file))]
    Check { file: PathBuf, error: CheckError },
    #[error("{}: {failure}{}{}", shown(.file), done(.failure), room(.failure, *.reuse_old))]
    Repair {
        file: PathBuf,
        failure: RepairFailure,
        /// The old refcount structures may be overwritten already.
        reuse_old: bool,
    },
    #[error("could not {verb} the undo file {}: {error}; nothing was written to the image", shown(.path))]
    UndoFile {
        verb: &'static str,
        path: PathBuf,
        error: UndoError,
    },
    #[error(
        "there is no image at {} any more, where it was repaired; give its path after the undo file; \
         nothing was written",
        shown(.0)
    )]
    ImageMoved(PathBuf),
    #[error("could not put {} back: {error}{}", shown(.file), consequence(.error))]
    Undo { file: PathBuf, error: UndoError },
    #[error("could not write the result: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// An undo file could not be saved or opened.
    pub fn undo_file(verb: &'static str, path: &Path, error: UndoError) -> Self {
        let path = path.to_owned();
        Self::UndoFile { verb, path, error }
    }

    /// What the process exits with: qemu-img's code for a format without checks, or 1.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Raw(_) => 63,
            _ => 1,
        }
    }
}

/// What was done to the image when an error of undoing came.
const fn consequence(error: &UndoError) -> &'static str {
    match error {
        UndoError::Interrupted(_) | UndoError::Unmarked(_) => "",
        _ => "; nothing was written",
    }
}

/// What a repair had done before it failed.
fn done(failure: &RepairFailure) -> String {
    if !failure.has_written {
        return "; nothing was written".to_owned();
    }
    if failure.done.is_empty() {
        return "; the repair was in its first step: repair again".to_owned();
    }
    let steps: Vec<String> = failure.done.iter().map(Step::to_string).collect();
    format!("; before that it {}", steps.join(", "))
}

/// What helps where the file system is full.
fn room(failure: &RepairFailure, reuse_old: bool) -> &'static str {
    let RepairError::Storage(error) = &failure.error else {
        return "";
    };
    match (error.source.kind(), reuse_old) {
        (io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded, true) => {
            ". Make room on the file system and repair again"
        }
        (io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded, false) => {
            ". Make room on the file system and repair again; or try --reuse-old, which lets the old \
             refcount structures be overwritten, at the risk that a crash during the repair loses \
             them"
        }
        _ => "",
    }
}
