//! Deciding a whole repair before any of it is written.
//!
//! From one survey of the untouched image follow the final refcounts, what is kept, where new
//! structures go, and every write, in phases. Nothing here writes; what a plan says and what a repair
//! does are the same, byte for byte.

mod build;
mod damage;
mod error;
pub mod find;
mod lost;
mod make;
mod options;
mod overlap;
mod overlay;
mod phase;
mod phases;
mod preflight;
mod replace;
mod room;
mod snapshots;
mod tables;
mod uses;

pub use error::RepairError;
pub use options::{RepairOptions, Scope};
pub(crate) use overlay::Overlay;
pub use phase::{Phase, PhaseKind, Visit};

use crate::check::{Look, Report};
use crate::finding::Finding;
use crate::image::Image;
use crate::rebuild::Layout;
use crate::table::{RefcountTable, RunSet};

/// How much is repaired, as `qemu-img check` counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fixed {
    /// Corruptions.
    pub corruptions: u64,
    /// Leaks.
    pub leaks: u64,
}

/// What is kept although nothing refers to it, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Clusters with a refcount above their references.
    pub clusters: u64,
    /// What is damaged, as far as it was looked for: where something was found at once, what costs
    /// more to find is not looked for.
    pub damage: u64,
    /// The first few.
    pub examples: Vec<Finding>,
}

/// A whole repair, before any of it is written.
#[derive(Clone, Debug)]
pub struct RepairPlan {
    /// What a check will report.
    pub after: Report,
    /// How much is repaired.
    pub fixed: Fixed,
    /// What is kept.
    pub kept: Kept,
    /// Bytes that the file will have.
    pub length: u64,
    /// The final counts, true numbers that refcounts are cut from.
    pub counts: RefcountTable,
    /// What is written, in order.
    pub phases: Vec<Phase>,
    /// Clusters whose space is given back in the end.
    pub released: RunSet,
    /// New refcount structures, where those that there are do not stay.
    pub layout: Option<Layout>,
    image: Image,
    look: Look,
    /// Whether nothing but refcounts is wrong, and all of them can be set right.
    changes_only_refcounts: bool,
    /// Whether it is known what a check will find: it reads the header as a table, where something
    /// says so, and looks at COPIED bits by refcounts that cannot count all references.
    is_foreseen: bool,
}

impl RepairPlan {
    /// Whether there is nothing to do.
    pub const fn is_empty(&self) -> bool {
        self.phases.is_empty()
    }
}
