//! Why an image cannot be opened.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What a path leads to when it is neither a regular file nor a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
    /// A character device, such as a terminal.
    CharacterDevice,
    /// A socket.
    Socket,
    /// Something that this system has and this program does not know.
    Other,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directory => "a directory",
            Self::Fifo => "a named pipe",
            Self::CharacterDevice => "a character device",
            Self::Socket => "a socket",
            Self::Other => "a special file",
        })
    }
}

/// What another process does with an image that it keeps others away from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// It writes, as a running machine does.
    Writer,
    /// It reads and relies on nobody writing.
    Reader,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Writer => "another process has it open for writing",
            Self::Reader => "another process has it open for reading",
        })
    }
}

/// Why an image cannot be opened. Nothing has been written when one of these comes back.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system refused.
    #[error("could not open {}: {}", shown(.path), reason(.source))]
    Open {
        /// The path as given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Neither a regular file nor a block device.
    #[error("{} is {kind}; an image is a regular file or a block device", shown(.path))]
    Kind {
        /// The path as given.
        path: PathBuf,
        /// What it is instead.
        kind: FileKind,
    },
    /// The system itself uses the device, or another program has it to itself.
    #[error(
        "{} is in use by the system: it is mounted, serves as swap, is part of a RAID, of LVM or of \
         another device, or a program has it to itself; end that first",
        shown(.path)
    )]
    Busy {
        /// The path as given.
        path: PathBuf,
    },
    /// A device that nothing can be written to.
    #[error(
        "{} is read-only; make the device writable first (with `blockdev --setrw`, or \
         `lvchange --permission rw`)",
        shown(.path)
    )]
    ReadOnlyDevice {
        /// The path as given.
        path: PathBuf,
    },
    /// A file where nothing can be written to.
    #[error(
        "{} is on a file system that is read-only; mount that for writing first",
        shown(.path)
    )]
    ReadOnlyFileSystem {
        /// The path as given.
        path: PathBuf,
    },
    /// Another process holds the image.
    #[error(
        "{} is in use: {holder} (it holds the lock on byte {byte}); end that process first{}",
        shown(.path),
        if *.can_share { ", or check without repairing and without locks (-U)" } else { "" }
    )]
    Locked {
        /// The path as given.
        path: PathBuf,
        /// What the other process does.
        holder: Holder,
        /// The byte of the file whose lock it holds.
        byte: u8,
        /// Whether [`Locking::Ignored`](super::Locking::Ignored) would open it all the same.
        can_share: bool,
    },
    /// The locks could not be taken or tested, for another reason than that somebody holds them.
    #[error("could not lock {}: {}", shown(.path), reason(.source))]
    Lock {
        /// The path as given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A path as messages name it: in quotes, with control characters escaped, so that no file name can
/// break a line or command a terminal.
#[must_use]
pub fn shown(path: &Path) -> String {
    let mut text = String::from("'");
    for character in path.to_string_lossy().chars() {
        if character.is_control() {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
    }
    text.push('\'');
    text
}

/// The system's text for an error, without the number that the standard library adds.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}
