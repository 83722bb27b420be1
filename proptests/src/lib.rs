//! Strategies for property tests. Each shrinks to smaller images: lower cluster sizes, fewer
//! references, less damage, nothing that goes wrong. What they give is always possible.

mod case;
mod disturbed;
mod guest;
pub mod judge;
mod model;
mod runner;
mod synthetic;

pub use case::{case, damage, damaged, schedule, storage};
pub use disturbed::{entry_damaged, nowhere, refcounts, refcounts_damaged};
pub use guest::{Full, Guest};
pub use model::model;
pub use runner::{Asked, check};
pub use synthetic::synthetic;
