//! Clusters as lines: alike neighbours together, of each kind only so many.

use std::collections::BTreeMap;

use recount::{Cluster, ClusterCount, Run};

use super::search::Content;

/// Lines of a kind that are told.
pub const LINES_MAX: usize = 20;

/// Of each kind its runs.
pub struct Lines {
    kinds: BTreeMap<Content, Kind>,
    most: usize,
    /// The clusters of all kinds.
    pub total: u64,
}

/// The first runs of a kind, and how many clusters are in none of them.
#[derive(Default)]
pub struct Kind {
    pub runs: Vec<Run>,
    pub left_out: u64,
}

impl Lines {
    /// With so many runs of each kind at most.
    pub const fn new(most: usize) -> Self {
        Self {
            kinds: BTreeMap::new(),
            most,
            total: 0,
        }
    }

    /// One more cluster, behind all that there are.
    pub fn note(&mut self, cluster: Cluster, content: Content) {
        self.total += 1;
        let kind = self.kinds.entry(content).or_default();
        if kind.left_out > 0 {
            kind.left_out += 1;
            return;
        }
        if let Some(last) = kind.runs.last_mut()
            && last.end() == cluster
        {
            last.count.0 += 1;
        } else if kind.runs.len() < self.most {
            kind.runs.push(Run::new(cluster, ClusterCount(1)));
        } else {
            kind.left_out = 1;
        }
    }

    /// All kinds that there are.
    pub fn kinds(&self) -> impl Iterator<Item = (Content, &Kind)> {
        self.kinds.iter().map(|(content, kind)| (*content, kind))
    }
}
