//! Hands out clusters of the file after the pattern that the case asks for.

use std::collections::BTreeSet;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::case::synthetic::Allocation;
use crate::case::validate::{Impossible, impossible, in_range};

/// Clusters in use, and where to look for the next one.
pub(super) struct Allocator {
    used: BTreeSet<u64>,
    /// The candidates in order; `None` for `next`, `next + step`, … for ever.
    order: Option<Vec<u64>>,
    next: u64,
    step: u64,
    /// Clusters that anything at all may be put into; `None` for all.
    allowed: Option<BTreeSet<u64>>,
    last: u64,
}

impl Allocator {
    /// Nothing is used but the header's cluster. `refblock_entries` is B; `last` is the last
    /// cluster that an offset can name.
    pub(super) fn new(allocation: &Allocation, refblock_entries: u64, last: u64) -> Self {
        let (mut order, mut allowed) = (None, None);
        let (next, step) = match allocation {
            Allocation::Dense => (1, 1),
            Allocation::Striped { step } => ((*step).into(), (*step).into()),
            Allocation::OneARange { place } => match u64::from(*place) % refblock_entries {
                0 => (refblock_entries, refblock_entries),
                place => (place, refblock_entries),
            },
            Allocation::AfterHole { clusters } => (1 + u64::from(*clusters), 1),
            Allocation::Scattered { seed, span } => {
                let mut shuffled: Vec<u64> = (1..=u64::from(*span)).collect();
                shuffled.shuffle(&mut ChaCha8Rng::seed_from_u64(*seed));
                order = Some(shuffled);
                (1, 1)
            }
            Allocation::Listed(list) => {
                allowed = Some(list.iter().copied().collect());
                order = Some(list.clone());
                (1, 1)
            }
        };
        Self {
            used: BTreeSet::from([0]),
            order,
            next,
            step,
            allowed,
            last,
        }
    }

    /// The clusters in use.
    pub(super) const fn used(&self) -> &BTreeSet<u64> {
        &self.used
    }

    /// The next `count` clusters in a row of the pattern.
    pub(super) fn take(&mut self, count: u64) -> Result<u64, Impossible> {
        let free = |&first: &u64| self.is_free(first, count);
        let first = if let Some(order) = &self.order {
            order.iter().copied().find(free)
        } else {
            let mut first = self.next;
            while first <= self.last && !free(&first) {
                first += self.step;
            }
            self.next = first + self.step;
            Some(first)
        };
        self.occupy(first, count)
    }

    /// This very cluster, if it is free.
    pub(super) fn take_at(&mut self, cluster: u64) -> bool {
        self.is_free(cluster, 1) && self.occupy(Some(cluster), 1).is_ok()
    }

    /// The lowest `count` free clusters in a row: where refcount structures go.
    pub(super) fn take_lowest(&mut self, count: u64) -> Result<u64, Impossible> {
        let free = |&first: &u64| self.is_free(first, count);
        let first = match &self.allowed {
            Some(allowed) => allowed.iter().copied().find(free),
            // Every free run begins after a used cluster.
            None => self.used.iter().map(|used| used + 1).find(free),
        };
        self.occupy(first, count)
    }

    /// Gives `count` clusters back.
    pub(super) fn release(&mut self, first: u64, count: u64) {
        for cluster in first..first + count {
            self.used.remove(&cluster);
        }
    }

    fn occupy(&mut self, first: Option<u64>, count: u64) -> Result<u64, Impossible> {
        let Some(first) = first else {
            return impossible(format!(
                "the allocation has no {count} free clusters in a row left after {} that are in \
                 use: name more clusters or fewer references",
                self.used.len()
            ));
        };
        let end = first.saturating_add(count);
        in_range("the end of the file, in clusters,", end, 0, self.last)?;
        self.used.extend(first..end);
        Ok(first)
    }

    fn is_free(&self, first: u64, count: u64) -> bool {
        let end = first.saturating_add(count);
        let allowed = |allowed: &BTreeSet<u64>| (first..end).all(|at| allowed.contains(&at));
        self.used.range(first..end).next().is_none() && self.allowed.as_ref().is_none_or(allowed)
    }
}
