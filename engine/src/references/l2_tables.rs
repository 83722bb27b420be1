//! The L2 tables that the L1 tables lead to, collected in the order in which these name them.

use super::L2Uses;
use crate::table::OutOfMemory;
use crate::units::Offset;

/// References below which sorting is put off.
const AT_LEAST: usize = 1 << 10;

/// L2 tables with how often each is referred to. An L1 table mostly names them in ascending order,
/// and each once; one that snapshots share is there as often as it was named until they are sorted,
/// which is done whenever their number has doubled.
#[derive(Debug, Default)]
pub(super) struct L2Tables {
    list: Vec<(Offset, L2Uses)>,
    /// How many there were when they were sorted last.
    distinct: usize,
}

impl L2Tables {
    /// Adds references to the table at `offset`.
    pub fn refer(&mut self, offset: Offset, uses: L2Uses) -> Result<(), OutOfMemory> {
        self.list.try_reserve(1).map_err(|_| OutOfMemory)?;
        self.list.push((offset, uses));
        if self.list.len() >= 2 * self.distinct.max(AT_LEAST) {
            self.sort();
        }
        Ok(())
    }

    /// Each table once, in ascending order.
    pub fn into_sorted(mut self) -> Vec<(Offset, L2Uses)> {
        self.sort();
        self.list
    }

    fn sort(&mut self) {
        self.list.sort_unstable_by_key(|(offset, _)| *offset);
        self.list.dedup_by(|(offset, uses), (kept, sum)| {
            let is_same = offset == kept;
            if is_same {
                sum.active += uses.active;
                sum.all += uses.all;
            }
            is_same
        });
        self.distinct = self.list.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn each_table_is_there_once_with_all_its_references() {
        let mut tables = L2Tables::default();
        let mut expected = BTreeMap::<Offset, L2Uses>::new();
        for number in 0..30_000_u64 {
            let offset = Offset(number.wrapping_mul(0x9e37_79b9) % 5_000);
            let uses = L2Uses {
                active: number % 2,
                all: number % 3,
            };
            tables.refer(offset, uses).expect("memory");
            let sum = expected.entry(offset).or_default();
            sum.active += uses.active;
            sum.all += uses.all;
        }
        assert!(tables.list.len() < 2 * 5_000);
        assert!(tables.into_sorted().into_iter().eq(expected));
    }
}
