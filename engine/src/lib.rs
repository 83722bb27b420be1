//! Checks and repairs the refcount structures of qcow2 images.
//!
//! An image flows through the modules in this order: [`storage`] (bytes) → `format` (bytes to
//! typed fields) → `references` (everything that refers to a cluster) → `table` (counts) →
//! `check` (compare with the disk) → `rebuild` (pure planning, then ordered writes) → `repair`.

// An index into a table of an image is below 2^32 or comes from a slice; both fit.
const _: () = assert!(usize::BITS >= 64, "recount needs a 64-bit target");

pub mod geometry;
pub mod rebuild;
pub mod storage;
pub mod table;
pub mod units;

pub use geometry::Geometry;
pub use rebuild::{Algorithm, Layout, PlanError};
pub use storage::{FileStorage, Locking, MemoryStorage, OpenError, Storage, StorageError};
pub use table::{OutOfMemory, RefcountTable, Run, RunSet};
pub use units::{Cluster, ClusterCount, Offset, RefblockIndex};
