//! What a thread has found to be referred to and is yet to count.

use super::add::Piece;

/// Runs of clusters, and clusters one by one: in runs of one each, those would take up four times
/// the memory and most of the time.
///
/// Where memory runs out, it is counting what was collected that says so: adding here happens too
/// often to look at a result each time.
#[derive(Clone, Debug, Default)]
pub struct Collected {
    pub(super) runs: Vec<Piece>,
    /// Indices within the range of a refblock, group by group.
    pub(super) hits: Vec<u32>,
    pub(super) groups: Vec<Group>,
    /// Whether something was left out for want of memory.
    pub(super) is_incomplete: bool,
}

/// Hits within the range of one refblock, behind those of the group before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub refblock: u64,
    /// Where in the hits they end.
    pub end: usize,
}

/// How much had been collected at some time.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    runs: usize,
    hits: usize,
}

impl Collected {
    pub const fn new() -> Self {
        Self {
            runs: Vec::new(),
            hits: Vec::new(),
            groups: Vec::new(),
            is_incomplete: false,
        }
    }

    /// Whether there is nothing to count.
    pub const fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.hits.is_empty() && !self.is_incomplete
    }

    /// Forgets everything, keeping the memory.
    pub fn clear(&mut self) {
        self.runs.clear();
        self.hits.clear();
        self.groups.clear();
        self.is_incomplete = false;
    }

    /// Adds a run, which lies in the range of one refblock.
    #[inline]
    pub fn push(&mut self, run: Piece) {
        if self.runs.len() == self.runs.capacity() && self.runs.try_reserve(1).is_err() {
            self.is_incomplete = true;
            return;
        }
        self.runs.push(run);
    }

    /// Adds clusters in the range of one refblock, by their index in it, one reference each.
    pub fn hit(&mut self, refblock: u64, indices: &[u32]) {
        let room = self.hits.try_reserve(indices.len());
        if room.and_then(|()| self.groups.try_reserve(1)).is_err() {
            self.is_incomplete = true;
            return;
        }
        self.hits.extend_from_slice(indices);
        let end = self.hits.len();
        match self.groups.last_mut() {
            Some(group) if group.refblock == refblock => group.end = end,
            _ => self.groups.push(Group { refblock, end }),
        }
    }

    /// How much there is.
    pub const fn mark(&self) -> Mark {
        Mark {
            runs: self.runs.len(),
            hits: self.hits.len(),
        }
    }

    /// Forgets what came after a mark, but not that something was left out.
    pub fn rewind(&mut self, mark: Mark) {
        self.runs.truncate(mark.runs);
        self.hits.truncate(mark.hits);
        while let Some(group) = self.groups.pop_if(|group| group.end > mark.hits) {
            // It may have begun before.
            if self.groups.last().map_or(0, |before| before.end) < mark.hits {
                let end = mark.hits;
                self.groups.push(Group { end, ..group });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_after_a_mark_is_forgotten() {
        let all = |collected: &Collected| {
            let ends = collected
                .groups
                .iter()
                .map(|group| (group.refblock, group.end));
            (collected.hits.clone(), ends.collect::<Vec<_>>())
        };
        let mut collected = Collected::new();
        let mut states = vec![(collected.mark(), all(&collected))];
        for (refblock, indices) in [(3, &[1, 2][..]), (3, &[2]), (4, &[7, 7, 8]), (3, &[5])] {
            collected.hit(refblock, indices);
            states.push((collected.mark(), all(&collected)));
        }
        for (mark, before) in states.into_iter().rev() {
            collected.rewind(mark);
            assert_eq!(all(&collected), before);
        }
        assert!(collected.is_empty());
    }
}
