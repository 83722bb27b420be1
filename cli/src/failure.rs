//! Why the command ended without a result, as a user reads it.

use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::path::Path;

use recount::plan::RepairError;
use recount::repair::RepairFailure;
use recount::storage::shown;
use recount::undo::UndoError;
use recount::{CheckError, Step, Storage};

use crate::recognize::Explanation;

/// Why the command ended without a result.
pub struct Failure {
    pub message: String,
    /// What the process exits with.
    pub code: u8,
}

impl Failure {
    pub fn new(message: impl Display) -> Self {
        Self {
            message: message.to_string(),
            code: 1,
        }
    }

    /// Something is wrong with a file.
    pub fn of(file: &Path, what: impl Display) -> Self {
        Self::new(format_args!("{}: {what}", shown(file)))
    }

    /// A check did not complete: where the file is no qcow2 image, what it is and what helps.
    pub fn of_check(file: &Path, error: &CheckError, storage: &dyn Storage) -> Self {
        match Explanation::of(file, error, storage) {
            Some(explanation) => Self::of(file, explanation),
            None => Self::of(file, error),
        }
    }

    /// An undo file could not be saved or opened.
    pub fn of_undo_file(verb: &str, path: &Path, error: &UndoError) -> Self {
        Self::new(format_args!(
            "could not {verb} the undo file {}: {error}; nothing was written to the image",
            shown(path)
        ))
    }

    /// A repair failed: what it had done before, and what helps where the file system is full.
    pub fn of_repair(file: &Path, failure: &RepairFailure, reuse_old: bool) -> Self {
        let steps: Vec<String> = failure.done.iter().map(Step::to_string).collect();
        let done = match (failure.has_written, steps.is_empty()) {
            (false, _) => "nothing was written".to_owned(),
            (true, true) => "the repair was in its first step: repair again".to_owned(),
            (true, false) => format!("before that it {}", steps.join(", ")),
        };
        let mut help = String::new();
        if let RepairError::Storage(error) = &failure.error
            && let ErrorKind::StorageFull | ErrorKind::QuotaExceeded = error.source.kind()
        {
            help += ". Make room on the file system and repair again";
            if !reuse_old {
                help += "; or try --reuse-old, which lets the old refcount structures be overwritten, \
                         at the risk that a crash during the repair loses them";
            }
        }
        Self::of(file, format_args!("{failure}; {done}{help}"))
    }
}

/// That is of what is printed.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(format_args!("could not write the result: {error}"))
    }
}
