//! How to repair.

use crate::rebuild::Algorithm;

/// What a repair may change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Refcounts above the references, and COPIED bits if nothing else is wrong; fails, and writes
    /// nothing, where the refcount structures have to be built anew.
    Leaks,
    /// All that is wrong with refcounts and their structures, and the COPIED, dirty and corrupt bits.
    #[default]
    All,
}

/// How to repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepairOptions {
    /// What may be changed.
    pub scope: Scope,
    /// How refcount structures are placed when they have to be built anew.
    pub algorithm: Algorithm,
    /// Lets the new structures overwrite the old ones, for a device without room for both. A crash
    /// before the end then leaves no valid refcounts, only what another repair can build anew.
    pub reuse_old: bool,
    /// Gives up what cannot be reached: releases what is allocated and not referred to even where
    /// something is damaged, and leaves out snapshots that are blank or over a limit.
    pub release_unreachable: bool,
    /// Surveys the image with the plan laid over it before anything is written, and reads back what
    /// was written.
    pub verify: bool,
}

impl Default for RepairOptions {
    fn default() -> Self {
        Self {
            scope: Scope::default(),
            algorithm: Algorithm::default(),
            reuse_old: false,
            release_unreachable: false,
            verify: true,
        }
    }
}
