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

/// How to repair: the default, with what the methods of the fields' names change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
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

impl RepairOptions {
    /// What may be changed.
    pub const fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// How refcount structures are placed when they have to be built anew.
    pub const fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Whether the new structures may overwrite the old ones.
    pub const fn reuse_old(mut self, reuse_old: bool) -> Self {
        self.reuse_old = reuse_old;
        self
    }

    /// Whether what cannot be reached is given up.
    pub const fn release_unreachable(mut self, release_unreachable: bool) -> Self {
        self.release_unreachable = release_unreachable;
        self
    }

    /// Whether the plan is looked at before anything is written, and what was written is read back.
    pub const fn verify(mut self, verify: bool) -> Self {
        self.verify = verify;
        self
    }
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
