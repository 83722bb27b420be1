#![doc = include_str!("../README.md")]
//!
//! An image flows through the modules in this order: [`storage`] (bytes) → `format` (bytes to
//! typed fields) → `references` (everything that refers to a cluster) → `table` (counts) →
//! `check` (compare with the disk) → `plan` (a whole repair, decided before any of it is written;
//! `rebuild` says where new structures go) → `repair` (write it). What a repair replaces goes to
//! [`undo`] first. [`map`] says what lies where.

/// What tables and their entries say, for those who read some themselves.
pub mod entry {
    pub use crate::format::entry::{COPIED, L1Entry, L2Entry, L2Kind};
    pub use crate::guest::present;
    pub use crate::references::{L1Table, L2Run, for_each_entry, l2_runs};
}

// An index into a table of an image is below 2^32 or comes from a slice; both fit.
const _: () = assert!(usize::BITS >= 64, "recount needs a 64-bit target");

mod check;
pub mod finding;
mod format;
mod geometry;
pub mod guest;
mod image;
pub mod info;
pub mod map;
pub mod observer;
pub mod plan;
pub mod rebuild;
mod references;
pub mod repair;
pub mod step;
pub mod storage;
pub mod table;
pub mod undo;
mod units;

pub use check::{Report, Survey, check};
pub use finding::Finding;
pub use format::ImageError;
pub use geometry::{Geometry, GeometryError};
pub use image::Image;
pub use map::Map;
pub use observer::{Action, Observer, Stage};
pub use plan::{RepairError, RepairOptions, RepairPlan, Scope};
pub use rebuild::{Algorithm, Layout, PlanError};
pub use references::{CheckError, HeaderTables, SnapshotRefusal, Walker};
pub use repair::{Outcome, RepairFailure, carry_out, plan, repair};
pub use step::Step;
pub use storage::{Access, FileStorage, MemoryStorage, OpenError, Storage, StorageError};
pub use table::{OutOfMemory, RefcountTable, Run, RunSet};
pub use units::{Cluster, ClusterCount, Offset, RefblockIndex, Region};
