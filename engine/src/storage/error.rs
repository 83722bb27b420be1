//! Why an image cannot be opened.

use std::io;
use std::path::{Path, PathBuf};

/// Why an image cannot be opened, with its path as given. Nothing has been written when one of these
/// comes back.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "they are what their texts say")]
#[non_exhaustive]
pub enum OpenError {
    #[error("could not open {}: {}", shown(.path), reason(.source))]
    Open { path: PathBuf, source: io::Error },
    #[error("{} is {kind}; an image is a regular file or a block device", shown(.path))]
    Kind { path: PathBuf, kind: &'static str },
    #[error(
        "{} is in use by the system: it is mounted, serves as swap, is part of a RAID, of LVM or of \
         another device, or a program has it to itself; end that first",
        shown(.0)
    )]
    Busy(PathBuf),
    #[error(
        "{} is read-only; make the device writable first (with `blockdev --setrw`, or \
         `lvchange --permission rw`)",
        shown(.0)
    )]
    ReadOnlyDevice(PathBuf),
    #[error("{} is on a file system that is read-only; mount that for writing first", shown(.0))]
    ReadOnlyFileSystem(PathBuf),
    /// Another process holds the image: it writes, as a running machine does, or it reads and relies
    /// on nobody writing.
    #[error(
        "{} is in use: another process has it open for {} (it holds the lock on byte {byte}); end \
         that process first{}",
        shown(.path),
        if *.by_writer { "writing" } else { "reading" },
        if *.can_share { ", or check without repairing and without locks (-U)" } else { "" }
    )]
    Locked {
        path: PathBuf,
        by_writer: bool,
        /// The byte of the file whose lock it holds.
        byte: u8,
        /// Whether [`Access::ReadUnlocked`](super::Access::ReadUnlocked) would open it all the same.
        can_share: bool,
    },
    /// The locks could not be taken or tested, for another reason than that somebody holds them.
    #[error("could not lock {}: {}", shown(.path), reason(.source))]
    Lock { path: PathBuf, source: io::Error },
}

/// A path as messages name it: in quotes, with control characters escaped, so that no file name can
/// break a line or command a terminal.
pub fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    let characters = text.chars().map(|character| match character {
        control if control.is_control() => control.escape_default().to_string(),
        other => other.to_string(),
    });
    format!("'{}'", characters.collect::<String>())
}

/// The system's text for an error, without the number that the standard library adds.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    text[..end].to_owned()
}
