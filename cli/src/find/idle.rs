//! Entries of L1 tables that lead to no L2 table: what may have led to one that was found. Which of them it
//! was nothing in the image says.

use std::collections::BTreeSet;
use std::ops::Range;

use recount::entry::{L1Entry, L1Table, for_each_entry};
use recount::finding::Layer;
use recount::guest::Layers;
use recount::{Image, Offset, RepairError, Storage};

/// Entries side by side in which the same is wrong.
pub struct Entries {
    pub layer: String,
    pub first: u64,
    pub count: u64,
    /// Otherwise they lead to what is no L2 table.
    pub are_empty: bool,
    /// What they are for, in bytes of the virtual disk.
    pub guest: Range<u64>,
}

/// The first of them, and how many more there are.
pub struct Idle {
    pub list: Vec<Entries>,
    pub left_out: u64,
}

/// What is open while a table is gone through.
struct Collector<'a> {
    storage: &'a dyn Storage,
    layers: &'a Layers,
    idle: Idle,
    most: usize,
    layer: Layer,
    /// The entries that are alike up to here.
    open: Option<(Range<u64>, bool)>,
}

impl Idle {
    /// Where nothing was looked for.
    pub const fn none() -> Self {
        Self {
            list: Vec::new(),
            left_out: 0,
        }
    }

    /// Those of these L1 tables, where these L2 tables are none.
    pub fn of(
        storage: &dyn Storage,
        layers: &Layers,
        image: &Image,
        (tables, others): (&[L1Table], &BTreeSet<Offset>),
        most: usize,
    ) -> Result<Self, RepairError> {
        let cluster_size = image.geometry().cluster_size();
        let mut collector = Collector {
            storage,
            layers,
            idle: Self::none(),
            most,
            layer: Layer::Active,
            open: None,
        };
        for table in tables {
            let (entries, mut next) = (u64::from(table.entries), 0);
            collector.layer = table.layer;
            for_each_entry(storage, table.offset, entries, |index, entry| {
                collector.note(next..index, true);
                let (entry, offset) = (L1Entry(entry), L1Entry(entry).l2_table());
                let leads_to_one = !entry.has_reserved_bits()
                    && offset.0 != 0
                    && offset.0.is_multiple_of(cluster_size)
                    && offset.0 < storage.len()
                    && !others.contains(&offset);
                if !leads_to_one {
                    collector.note(index..index + 1, false);
                }
                next = index + 1;
                Ok::<_, RepairError>(())
            })?;
            collector.note(next..entries, true);
            collector.close();
        }
        Ok(collector.idle)
    }
}

impl Collector<'_> {
    fn note(&mut self, entries: Range<u64>, are_empty: bool) {
        if entries.is_empty() {
            return;
        }
        if let Some((open, alike)) = &mut self.open
            && open.end == entries.start
            && *alike == are_empty
        {
            open.end = entries.end;
            return;
        }
        self.close();
        self.open = Some((entries, are_empty));
    }

    /// Entries past the end of the virtual disk are for nothing, and left out.
    fn close(&mut self) {
        let Some((entries, are_empty)) = self.open.take() else {
            return;
        };
        let first = self.layers.range_of_l1(entries.start);
        let last = self.layers.range_of_l1(entries.end - 1);
        let guest = first.start..last.end;
        if guest.is_empty() {
            return;
        }
        if self.idle.list.len() >= self.most {
            self.idle.left_out += entries.end - entries.start;
            return;
        }
        self.idle.list.push(Entries {
            layer: self.layers.name(self.layer, self.storage),
            first: entries.start,
            count: entries.end - entries.start,
            are_empty,
            guest,
        });
    }
}
