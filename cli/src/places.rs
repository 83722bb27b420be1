//! Where in the virtual disk a finding is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use recount::finding::{Finding, L1Place, L2Place, Layer, Referrer};
use recount::guest::{Layers, TableUse};
use recount::{CheckError, Offset, Storage};

use crate::recognize::Text;

/// Bytes of a table that there are always.
const SMALLEST_CLUSTER: usize = 512;

/// What of the tables a finding is about.
#[derive(Clone, Copy)]
pub enum Place {
    /// What an entry of an L1 table leads to.
    L1(Layer, u64),
    /// The whole of an L2 table.
    Table(Offset),
    /// So many entries of an L2 table, from one on.
    L2(L2Place, u64),
}

impl Place {
    /// That of a finding which is about so many entries; `None` where it is about no part of the
    /// virtual disk.
    pub fn of(finding: &Finding, entries: u64) -> Option<Self> {
        use Finding as F;
        Some(match *finding {
            F::L1Reserved(L1Place(layer, index), _) | F::L1Unaligned(L1Place(layer, index), _) => {
                Self::L1(layer, index)
            }
            F::L1Copied(one) => Self::L1(Layer::Active, one.index),
            F::L2Copied(table, one) => Self::L2(L2Place(table, one.index), entries),
            F::L2Reserved(place, _)
            | F::CompressedCopied(place, _)
            | F::CompressedInDataFile(place, _)
            | F::CompressedSubclusters(place, _)
            | F::SubclustersContradict(place, _)
            | F::SubclustersUnallocated(place, _)
            | F::DataUnaligned(place, _)
            | F::EmptyUnaligned(place, _)
            | F::PastEnd(Referrer::Data(place) | Referrer::Compressed(place), _) => {
                Self::L2(place, entries)
            }
            F::PastEnd(Referrer::L2Table, region) => Self::Table(region.offset),
            F::NotATable { table } | F::DoubledTable { table } | F::TableNotWritten { table } => {
                Self::Table(table)
            }
            _ => return None,
        })
    }

    /// The L2 table of which it has to be known where it is used.
    pub const fn table(self) -> Option<Offset> {
        match self {
            Self::L1(..) => None,
            Self::Table(table) | Self::L2(L2Place(table, _), _) => Some(table),
        }
    }
}

/// The layers of an image, and where some L2 tables are used.
pub struct Places<'a> {
    storage: &'a dyn Storage,
    layers: Layers,
    uses: BTreeMap<Offset, TableUse>,
}

impl<'a> Places<'a> {
    /// Looks these tables up.
    pub fn read(storage: &'a dyn Storage, tables: &BTreeSet<Offset>) -> Result<Self, CheckError> {
        let layers = Layers::read(storage)?;
        let uses = layers.uses_of(storage, tables)?;
        Ok(Self {
            storage,
            layers,
            uses,
        })
    }

    /// What follows the text of a finding about a table in whose place there is text.
    pub fn holds_text(&self, finding: &Finding) -> Option<String> {
        let Finding::NotATable { table } = finding else {
            return None;
        };
        let mut start = [0; SMALLEST_CLUSTER];
        self.storage.read_at(*table, &mut start).ok()?;
        let line = Text::of(&start)?.first_line;
        Some(format!(": it holds text, which begins with '{line}'"))
    }

    /// What of the virtual disk it is; `None` where nothing of it is.
    pub fn guest(&self, place: Place) -> Option<Guest> {
        let (layer, range) = match place {
            Place::L1(layer, index) => (layer, self.layers.range_of_l1(index)),
            Place::Table(table) => {
                let TableUse { layer, l1_index } = *self.uses.get(&table)?;
                (layer, self.layers.range_of_l1(l1_index))
            }
            Place::L2(L2Place(table, index), entries) => {
                let TableUse { layer, l1_index } = *self.uses.get(&table)?;
                (layer, self.layers.range_of(l1_index, index, entries))
            }
        };
        let name = || self.layers.name(layer, self.storage);
        let snapshot = (layer != Layer::Active).then(name);
        (!range.is_empty()).then_some(Guest { range, snapshot })
    }
}

/// A part of the virtual disk.
pub struct Guest {
    /// Its bytes.
    pub range: Range<u64>,
    /// Of which snapshot, if it is not the active layer's.
    pub snapshot: Option<String>,
}

impl fmt::Display for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "guest {} to {}", self.range.start, self.range.end - 1)?;
        match &self.snapshot {
            Some(snapshot) => write!(f, " of {snapshot}"),
            None => Ok(()),
        }
    }
}
