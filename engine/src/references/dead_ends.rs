//! What is wrong with what refers to clusters.

use crate::finding::Finding;

/// What may hide that clusters are in use: entries and tables that lead nowhere or contradict each
/// other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadEnds {
    /// How many there are.
    pub count: u64,
    /// The first few.
    pub examples: Vec<Finding>,
}

/// As many as a message can name.
const MAX_EXAMPLES: usize = 8;

impl DeadEnds {
    pub(crate) fn push(&mut self, finding: Finding) {
        self.count += 1;
        if self.examples.len() < MAX_EXAMPLES {
            self.examples.push(finding);
        }
    }
}
