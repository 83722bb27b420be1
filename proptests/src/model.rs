//! Toys.

use proptest::collection::vec;
use proptest::prelude::*;
use recount_oracle::case::model::Model;

/// Clusters of a toy, at most.
const CLUSTERS_MAX: usize = 48;

/// What a cluster of a toy holds.
#[derive(Clone, Copy, Debug)]
enum Use {
    Free,
    Once,
    Twice,
    Most,
}

/// A toy, with or without old structures.
pub fn model() -> impl Strategy<Value = Model> {
    let uses = prop::sample::select(vec![Use::Free, Use::Once, Use::Twice, Use::Most]);
    let old = vec(any::<prop::sample::Index>(), 0..6);
    (
        0_u32..=6,
        1_u32..=5,
        0_u32..=3,
        vec(uses, 0..CLUSTERS_MAX),
        old,
    )
        .prop_map(
            |(refcount_order, refblock_bits, reftable_entry_bits, uses, picks)| {
                let max = u64::MAX >> (64 - (1 << refcount_order));
                let counts = uses.into_iter().map(|count| match count {
                    Use::Free => 0,
                    Use::Once => 1,
                    Use::Twice => max.min(2),
                    Use::Most => max,
                });
                let references: Vec<u64> = std::iter::once(1).chain(counts).collect();
                let free = (0..).zip(&references).filter(|&(_, &count)| count == 0);
                let mut free: Vec<u32> = free.map(|(cluster, _)| cluster).collect();
                // One reftable cluster and no more refblocks than it has entries.
                let most = 1 + (1 << reftable_entry_bits);
                let mut old = Vec::new();
                for pick in picks.iter().take(most) {
                    if !free.is_empty() {
                        old.push(free.remove(pick.index(free.len())));
                    }
                }
                Model {
                    // A refblock is at least a byte.
                    refblock_bits: refblock_bits.max(3_u32.saturating_sub(refcount_order)),
                    reftable_entry_bits,
                    refcount_order,
                    references,
                    old,
                }
            },
        )
}
