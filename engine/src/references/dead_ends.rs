//! What could not be followed.

use crate::finding::Finding;

/// What stands in the way of following everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadEnds {
    /// How many there are.
    pub count: u64,
    /// The first few.
    pub examples: Vec<Finding>,
}

/// As many dead ends as a message can name.
const MAX_EXAMPLES: usize = 8;

impl DeadEnds {
    pub(super) fn push(&mut self, finding: Finding) {
        self.count += 1;
        if self.examples.len() < MAX_EXAMPLES {
            self.examples.push(finding);
        }
    }
}
