//! How a command fails that cannot run: with a text, for whoever started it.

use std::error::Error;
use std::fmt::Display;

/// What the commands return.
pub type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// Says of an error what it happened to.
pub trait At<T> {
    /// The same with the file, folder or program before the reason.
    fn at(self, what: impl Display) -> Result<T>;
}

impl<T, E: Display> At<T> for Result<T, E> {
    fn at(self, what: impl Display) -> Result<T> {
        self.map_err(|error| format!("{what}: {error}").into())
    }
}
