//! Hands out clusters of the file after the pattern that the case asks for.

use std::collections::BTreeSet;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::case::impossible::Impossible;
use crate::case::synthetic::Allocation;

/// Where the next candidates come from.
enum Candidates {
    /// `start`, `start + step`, … for ever.
    Steps { next: u64, step: u64 },
    /// These and no others.
    Listed(Vec<u64>),
}

/// Clusters in use, and where to look for the next one.
pub(super) struct Allocator {
    used: BTreeSet<u64>,
    candidates: Candidates,
    /// Clusters that structures may be put into; `None` for all.
    allowed: Option<BTreeSet<u64>>,
    last: u64,
}

impl Allocator {
    /// Nothing is used but the header's cluster. `refblock_entries` is B; `last` is the last
    /// cluster that an offset can name.
    pub(super) fn new(allocation: &Allocation, refblock_entries: u64, last: u64) -> Self {
        let mut allowed = None;
        let steps = |next, step| Candidates::Steps { next, step };
        let candidates = match allocation {
            Allocation::Dense => steps(1, 1),
            Allocation::Striped { step } => steps(u64::from(*step), u64::from(*step)),
            Allocation::OneARange { place } => {
                let place = u64::from(*place) % refblock_entries;
                let first = if place == 0 { refblock_entries } else { place };
                steps(first, refblock_entries)
            }
            Allocation::AfterHole { clusters } => steps(1 + u64::from(*clusters), 1),
            Allocation::Scattered { seed, span } => {
                let mut order: Vec<u64> = (1..=u64::from(*span)).collect();
                order.shuffle(&mut ChaCha8Rng::seed_from_u64(*seed));
                Candidates::Listed(order)
            }
            Allocation::Listed(list) => {
                allowed = Some(list.iter().copied().collect());
                Candidates::Listed(list.clone())
            }
        };
        Self {
            used: BTreeSet::from([0]),
            candidates,
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
        let first = match &mut self.candidates {
            Candidates::Steps { next, step } => loop {
                let first = *next;
                *next += *step;
                if self.used.range(first..first + count).next().is_none() {
                    break first;
                }
                if first > self.last {
                    break first;
                }
            },
            Candidates::Listed(list) => list
                .iter()
                .copied()
                .find(|&first| is_free(&self.used, self.allowed.as_ref(), first, count))
                .ok_or(Impossible::NoRoom {
                    wanted: count,
                    placed: self.used.len() as u64,
                })?,
        };
        self.occupy(first, count)
    }

    /// This very cluster, if it is free.
    pub(super) fn take_at(&mut self, cluster: u64) -> bool {
        is_free(&self.used, self.allowed.as_ref(), cluster, 1) && self.occupy(cluster, 1).is_ok()
    }

    /// The lowest `count` free clusters in a row: where refcount structures go.
    pub(super) fn take_lowest(&mut self, count: u64) -> Result<u64, Impossible> {
        let free = |first| is_free(&self.used, self.allowed.as_ref(), first, count);
        let first = match &self.allowed {
            Some(allowed) => allowed.iter().copied().find(|&first| free(first)),
            // Every free run begins after a used cluster.
            None => self
                .used
                .iter()
                .map(|used| used + 1)
                .find(|&first| free(first)),
        };
        let first = first.ok_or(Impossible::NoRoom {
            wanted: count,
            placed: self.used.len() as u64,
        })?;
        self.occupy(first, count)
    }

    /// Gives `count` clusters back.
    pub(super) fn release(&mut self, first: u64, count: u64) {
        for cluster in first..first + count {
            self.used.remove(&cluster);
        }
    }

    fn occupy(&mut self, first: u64, count: u64) -> Result<u64, Impossible> {
        let end = first.saturating_add(count);
        if end > self.last {
            return Err(Impossible::TooFar {
                cluster: end,
                last: self.last,
            });
        }
        self.used.extend(first..end);
        Ok(first)
    }
}

fn is_free(used: &BTreeSet<u64>, allowed: Option<&BTreeSet<u64>>, first: u64, count: u64) -> bool {
    let end = first.saturating_add(count);
    used.range(first..end).next().is_none()
        && allowed.is_none_or(|allowed| (first..end).all(|cluster| allowed.contains(&cluster)))
}
