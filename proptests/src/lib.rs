//! Strategies for property tests. Each shrinks to smaller images: lower cluster sizes, fewer
//! references, less damage, nothing that goes wrong. What they give is always possible.

mod case;
mod model;
mod synthetic;

pub use case::{case, damage, damaged, schedule, storage};
pub use model::model;
pub use synthetic::synthetic;
