//! What the engine tells while it works: findings as they are made, and how far it is.

use crate::finding::Finding;
use crate::step::Step;
use crate::storage::StorageError;

/// What became of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is reported and stays as it is.
    Reported,
    /// It is being repaired.
    Repaired,
}

/// A stage of the work, in the order in which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, derive_more::Display)]
#[expect(missing_docs, reason = "their texts say what they are")]
#[non_exhaustive]
pub enum Stage {
    #[display("counting references")]
    References,
    #[display("comparing refcounts")]
    Refcounts,
    #[display("looking at COPIED bits")]
    Copied,
    #[display("writing")]
    Writing,
}

/// Receives findings and progress. Everything is optional.
pub trait Observer {
    /// One finding. There can be as many as the image has clusters.
    fn finding(&mut self, _finding: &Finding, _action: Action) {}

    /// A step of a repair that is durable now.
    fn step(&mut self, _step: &Step) {}

    /// Why space was not given back to the file system. The repair is done all the same.
    fn not_released(&mut self, _why: &StorageError) {}

    /// `done` of `total` parts of a stage. A repair that has written everything is told with both equal.
    fn progress(&mut self, _stage: Stage, _done: u64, _total: u64) {}

    /// Whether a repair is to stop. It does so before its next phase, with
    /// [`RepairError::Cancelled`](crate::RepairError::Cancelled): what it has written is durable then,
    /// and the next repair ends as this one would have. A check writes nothing: let the storage's
    /// reads fail.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Nobody is interested.
impl Observer for () {}
