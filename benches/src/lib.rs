//! What the benches run on: images and tables of counts, each named by what is in it; and exact
//! counts of what the engine does with them, which no machine's speed changes.

pub mod counts;
mod files;
mod kind;
mod pattern;

pub use files::ImageFile;
pub use kind::{Kind, Task};
pub use pattern::Pattern;
