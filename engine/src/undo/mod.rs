//! The undo file of a repair: what the repair replaces, saved before the first byte is written, and
//! put back by [`UndoFile::restore`].
//!
//! [`save`] is handed every write beforehand. It notes, in an image that nobody has changed yet, the
//! old bytes of every sector that will be written and a checksum of each state that the sector will
//! pass through. A power cut leaves each sector in one of these states, so that the image of a
//! repair which ended anywhere can be told from another image, and from one that somebody else has
//! written to since. Nothing else is ever overwritten.
//!
//! The contract on a hostile undo file: no panic, no memory beyond 2 MiB, and nothing is written
//! before every byte of it has been checked. The layout is in `format.rs`.

mod error;
mod file;
mod format;
mod save;

pub use error::UndoError;
pub use file::{Restored, UndoFile};
pub use save::{OnWrite, Writes, save};
