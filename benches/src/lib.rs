//! What the benches run on: images and tables of counts, each named by what is in it; and exact
//! counts of what the engine does with them, which no machine's speed changes.

pub mod counts;
mod files;
mod kind;
mod pattern;

pub use files::ImageFile;
pub use kind::{Kind, Task};
pub use pattern::Pattern;

/// Whether criterion was told to be quick: `cargo bench -p recount-benches -- --quick`.
pub fn is_quick() -> bool {
    std::env::args().any(|argument| argument == "--quick")
}
