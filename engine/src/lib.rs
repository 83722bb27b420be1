//! Checks and repairs the refcount structures of qcow2 images.
//!
//! An image flows through the modules in this order: [`storage`] (bytes) → `format` (bytes to
//! typed fields) → `references` (everything that refers to a cluster) → `table` (counts) →
//! `check` (compare with the disk) → `rebuild` (pure planning, then ordered writes) → `repair`.

pub mod geometry;
pub mod storage;
pub mod units;

pub use geometry::Geometry;
pub use storage::{FileStorage, Locking, MemoryStorage, OpenError, Storage, StorageError};
pub use units::{Cluster, ClusterCount, Offset, RefblockIndex};
