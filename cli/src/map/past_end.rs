//! The clusters past the end of the file that something leads to, as a check comes across them.

use recount::finding::Finding;
use recount::{Action, Cluster, ClusterCount, Map, Observer, Offset, Run, RunSet, Stage};

use crate::terminal::Terminal;

/// Regions that are kept before those that are there several times are dropped: tables that lie over one
/// another name the same ones any number of times.
const REGIONS: usize = 1 << 16;

/// Takes note of what leads past the end. Of the rest only progress is shown: the map shows what is wrong.
pub struct PastEnd<'a> {
    terminal: &'a mut Terminal,
    /// First byte and length.
    regions: Vec<(u64, u64)>,
    most: usize,
}

impl<'a> PastEnd<'a> {
    pub const fn new(terminal: &'a mut Terminal) -> Self {
        Self {
            terminal,
            regions: Vec::new(),
            most: REGIONS,
        }
    }

    /// The clusters of these regions after those of the file.
    pub fn after(self, map: &Map) -> RunSet {
        let cluster_size = map.survey().image.geometry().cluster_size();
        let past = |(offset, length): (u64, u64)| {
            let first = (offset / cluster_size).max(map.clusters().0);
            let end = offset.saturating_add(length).div_ceil(cluster_size);
            Run::new(Cluster(first), ClusterCount(end.saturating_sub(first)))
        };
        self.regions.into_iter().map(past).collect()
    }

    fn note(&mut self, offset: Offset, length: u64) {
        if self.regions.len() >= self.most {
            self.regions.sort_unstable();
            self.regions.dedup();
            self.most = (self.regions.len() * 2).max(REGIONS);
        }
        self.regions.push((offset.0, length));
    }
}

impl Observer for PastEnd<'_> {
    fn finding(&mut self, finding: &Finding, _action: Action) {
        match finding {
            Finding::PastEnd(_, region) => self.note(region.offset, region.length),
            Finding::RefblockOutside(_, offset) => self.note(*offset, 1),
            _ => {}
        }
    }

    fn progress(&mut self, stage: Stage, done: u64, total: u64) {
        self.terminal.progress(stage, done, total);
    }
}
