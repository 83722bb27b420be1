//! The undo file: what a repair replaces comes back bit for bit, wherever the repair and earlier
//! attempts to undo it ended; and nothing is written for the sake of an undo file that is not whole,
//! or to an image that is not the one.
//!
//! The repair is a list of writes that overlap, begin and end within sectors, and make the image
//! longer; the image is in memory.

mod hostile;
mod interrupted;
mod kit;
mod refused;
mod restored;
