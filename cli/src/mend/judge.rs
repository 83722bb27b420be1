//! Whether an entry can be what was lost: what it would lead to, and what speaks against it.

use std::collections::BTreeSet;
use std::ops::Range;

use recount::entry::{COPIED, L1Entry, L2Entry, L2Kind};
use recount::finding::Layer;
use recount::guest::Layers;
use recount::plan::RepairOptions;
use recount::step::of;
use recount::{Cluster, Image, Offset, Storage, Survey};

use crate::find::search::{FoundTable, Search};
use crate::info::parts::Feature;

/// Bytes of an entry.
const ENTRY_BYTES: u64 = 8;

/// What the command line asks for.
#[derive(Clone, Copy)]
pub enum Wanted {
    /// That an entry of the active L1 table leads to an L2 table.
    L1 { index: u64, table: Offset },
    /// A value somewhere in the file.
    Entry { at: Offset, value: u64 },
}

/// An entry that can be written, unless there are doubts.
pub struct Mend {
    /// Which one, in words.
    pub place: String,
    pub at: Offset,
    pub old: u64,
    pub new: u64,
    /// What it is for, in bytes of the virtual disk.
    pub guest: Option<Range<u64>>,
    /// What an L1 entry would lead to.
    pub table: Option<FoundTable>,
    /// What speaks against it.
    pub doubts: Vec<String>,
}

/// What has its entry there.
#[derive(Clone, Copy)]
enum Place {
    L1(Layer, u64),
    L2(Offset, u64),
}

/// What an entry is held against.
struct Judge<'a> {
    storage: &'a dyn Storage,
    survey: &'a Survey,
    image: &'a Image,
    doubts: Vec<String>,
}

impl Mend {
    /// An error where nothing can be meant by it.
    pub fn judge(storage: &dyn Storage, survey: Survey, wanted: Wanted) -> Result<Self, String> {
        let mut judge = Judge {
            storage,
            survey: &survey,
            image: &survey.image,
            doubts: Vec::new(),
        };
        judge.refuse_unknown_features()?;
        let (at, place) = judge.place_of(wanted)?;
        let mut bytes = [0; ENTRY_BYTES as usize];
        storage.read_at(at, &mut bytes).map_err(text)?;
        let old = u64::from_be_bytes(bytes);
        let new = match wanted {
            Wanted::L1 { table, .. } => judge.l1_entry(table, old)?,
            Wanted::Entry { value, .. } => value,
        };
        if new == old {
            return Err("the entry is as it should be already".to_owned());
        }
        let leads_to = judge.target(place, at, new)?;
        if let Some(cluster) = leads_to {
            judge.doubt_use(cluster, old)?;
        }
        judge.doubt_old(place, old, new);
        let (in_words, guest) = judge.in_words(place)?;
        let mut doubts = judge.doubts;
        let is_l1 = matches!(place, Place::L1(..));
        let leads_to = leads_to.filter(|_| is_l1);
        let table = leads_to.map(|cluster| examine(storage, survey, cluster));
        let table = table.transpose()?;
        doubts.extend(table.as_ref().and_then(doubt_table));
        Ok(Self {
            place: in_words,
            at,
            old,
            new,
            guest,
            table,
            doubts,
        })
    }
}

/// What a cluster is as an L2 table.
fn examine(storage: &dyn Storage, survey: Survey, cluster: Cluster) -> Result<FoundTable, String> {
    let options = RepairOptions::default();
    let search = Search::of(storage, survey, &options);
    let table = search.and_then(|mut search| search.examine(cluster));
    table.map_err(text)
}

impl Judge<'_> {
    /// Who writes has to clear their bits, and a repair does so.
    fn refuse_unknown_features(&self) -> Result<(), String> {
        let features = Feature::all(self.image);
        let is_unknown = |one: &Feature| one.kind == "autoclear" && one.name.is_none();
        if features.iter().any(is_unknown) {
            let why = "the header has autoclear feature bits that are not known; `recount check -r \
                       all` clears them, and has to come first";
            return Err(why.to_owned());
        }
        Ok(())
    }

    /// Where the entry is, and in which table.
    fn place_of(&self, wanted: Wanted) -> Result<(Offset, Place), String> {
        let header = &self.image.header;
        let at = match wanted {
            Wanted::L1 { index, .. } if index >= u64::from(header.l1_size) => {
                let entries = of(header.l1_size.into(), "entry");
                return Err(format!(
                    "there is no L1 entry {index}: the table has {entries}"
                ));
            }
            Wanted::L1 { index, .. } => {
                let start = header.l1_table_offset.0;
                Offset(start.saturating_add(index * ENTRY_BYTES))
            }
            Wanted::Entry { at, .. } => at,
        };
        if at
            .0
            .checked_add(ENTRY_BYTES)
            .is_none_or(|end| end > self.storage.len())
        {
            return Err(self.past_end(at));
        }
        let size = self.image.geometry().cluster_size();
        if !at.0.is_multiple_of(ENTRY_BYTES) || at.0 < size {
            let why =
                "is no place of an entry: it is not a multiple of 8, or in the header's cluster";
            return Err(format!("{at} {why}"));
        }
        let place = match wanted {
            Wanted::L1 { index, .. } => Some(Place::L1(Layer::Active, index)),
            Wanted::Entry { .. } => self.table_at(at),
        };
        let place =
            place.ok_or_else(|| format!("no L1 or L2 table in use has an entry at {at}"))?;
        Ok((at, place))
    }

    /// None where it would be guest data that is written, or something else.
    fn table_at(&self, at: Offset) -> Option<Place> {
        let references = &self.survey.look.references;
        let l1_tables = references.l1_tables.iter();
        for table in l1_tables {
            let region = table.region();
            if (region.offset.0..region.end()).contains(&at.0) {
                let index = (at.0 - region.offset.0) / ENTRY_BYTES;
                return Some(Place::L1(table.layer, index));
            }
        }
        let size = self.image.geometry().cluster_size();
        let format = self.image.header.l2_format();
        let l2_tables = &references.l2_tables;
        let table = Offset(at.0 / size * size);
        let position = at.0 - table.0;
        let is_one = l2_tables
            .binary_search_by_key(&table, |(offset, _)| *offset)
            .is_ok();
        // Between two entries are the bits of subclusters.
        if is_one && position.is_multiple_of(format.entry_bytes()) {
            return Some(Place::L2(table, position / format.entry_bytes()));
        }
        None
    }

    /// The entry as people call it, and what it is for.
    fn in_words(&self, place: Place) -> Result<(String, Option<Range<u64>>), String> {
        let layers = Layers::read(self.storage).map_err(text)?;
        Ok(match place {
            Place::L1(layer, index) => {
                let name = layers.name(layer, self.storage);
                let guest = layers.range_of_l1(index);
                (format!("L1 entry {index} of {name}"), Some(guest))
            }
            Place::L2(table, index) => {
                let uses = layers.uses_of(self.storage, &BTreeSet::from([table]));
                let uses = uses.map_err(text)?;
                let first = uses.get(&table);
                let guest = first.map(|first| layers.range_of(first.l1_index, index, 1));
                (format!("L2 entry {index} of the table at {table}"), guest)
            }
        })
    }

    /// The entry that leads to a table: COPIED is set where the table's only reference it will be.
    fn l1_entry(&self, table: Offset, old: u64) -> Result<u64, String> {
        let cluster = self.cluster(table)?;
        let is_only = self.others(cluster, old) == 0 && self.refcount(cluster)? == Some(1);
        Ok(table.0 | if is_only { COPIED } else { 0 })
    }

    /// The cluster that an entry would lead to; none where it is empty.
    fn target(&mut self, place: Place, at: Offset, entry: u64) -> Result<Option<Cluster>, String> {
        match place {
            Place::L1(..) if entry == 0 => Ok(None),
            Place::L1(..) => {
                let entry = L1Entry(entry);
                self.doubt_bits(entry.has_reserved_bits());
                self.cluster(entry.l2_table()).map(Some)
            }
            Place::L2(..) => self.data(at, entry),
        }
    }

    /// The same of an L2 entry; none for data in another file either.
    fn data(&mut self, at: Offset, raw: u64) -> Result<Option<Cluster>, String> {
        let format = self.image.header.l2_format();
        let mut bytes = [0; ENTRY_BYTES as usize];
        if format.extended {
            let bitmap_at = Offset(at.0 + ENTRY_BYTES);
            self.storage.read_at(bitmap_at, &mut bytes).map_err(text)?;
        }
        let subclusters = u64::from_be_bytes(bytes);
        let entry = L2Entry { raw, subclusters };
        let kind = entry.kind(format);
        if !matches!(kind, L2Kind::Compressed(_)) {
            self.doubt_bits(entry.has_reserved_bits());
        }
        match kind {
            L2Kind::Unallocated | L2Kind::PlainZero => Ok(None),
            _ if format.data_file => Ok(None),
            L2Kind::Normal(offset) | L2Kind::PreallocatedZero(offset) => {
                self.cluster(offset).map(Some)
            }
            L2Kind::Compressed(region) if region.end() > self.image.extent.bytes => {
                Err(self.past_end(Offset(region.end())))
            }
            // Compressed clusters share theirs.
            L2Kind::Compressed(_) => Ok(None),
        }
    }

    /// The cluster that begins there.
    fn cluster(&self, offset: Offset) -> Result<Cluster, String> {
        let size = self.image.geometry().cluster_size();
        if !offset.0.is_multiple_of(size) {
            return Err(format!(
                "{offset} is not cluster aligned: a cluster has {size} bytes"
            ));
        }
        if offset.0 == 0 {
            return Err("at offset 0 is the header".to_owned());
        }
        if offset.0 >= self.storage.len() {
            return Err(self.past_end(offset));
        }
        Ok(Cluster(offset.0 / size))
    }

    fn past_end(&self, offset: Offset) -> String {
        let length = self.storage.len();
        format!("{offset} lies past the end of the file, which has {length} bytes")
    }

    /// How often a cluster is referred to but for what the entry refers to now.
    fn others(&self, cluster: Cluster, old: u64) -> u64 {
        let references = self.survey.look.references.table.get(cluster);
        // Entries of L1 and of L2 that are not compressed have the offset in the same bits.
        let is_same = self.cluster(L1Entry(old).l2_table()) == Ok(cluster);
        references.saturating_sub(is_same.into())
    }

    /// What the disk says; nothing where that cannot be read.
    fn refcount(&self, cluster: Cluster) -> Result<Option<u64>, String> {
        let mut counts = self.survey.look.disk_counts(self.image, self.storage);
        counts.get(cluster).map_err(text)
    }

    /// Another reference than the refcount has room for.
    fn doubt_use(&mut self, cluster: Cluster, old: u64) -> Result<(), String> {
        let references = self.others(cluster, old);
        let refcount = self.refcount(cluster)?.unwrap_or_default();
        if references > 0 && refcount <= references {
            let doubt =
                format!("cluster {cluster} is in use already, and its refcount is {refcount}");
            self.doubts.push(doubt);
        }
        Ok(())
    }

    fn doubt_bits(&mut self, has_reserved_bits: bool) {
        let doubt = has_reserved_bits.then(|| "the entry would have reserved bits set".to_owned());
        self.doubts.extend(doubt);
    }

    /// What the entry leads to now is lost.
    fn doubt_old(&mut self, place: Place, old: u64, new: u64) {
        let format = self.image.header.l2_format();
        let of_l2 = L2Entry {
            raw: old,
            subclusters: 0,
        };
        let leads_somewhere = match place {
            Place::L1(..) => {
                let (table, then) = (L1Entry(old).l2_table(), L1Entry(new).l2_table());
                let l2_tables = &self.survey.look.references.l2_tables;
                let is_one = l2_tables
                    .binary_search_by_key(&table, |(offset, _)| *offset)
                    .is_ok();
                is_one && table != then && self.cluster(table).is_ok()
            }
            Place::L2(..) => match of_l2.kind(format) {
                L2Kind::Normal(offset) => {
                    offset != L1Entry(new).l2_table() && self.cluster(offset).is_ok()
                }
                L2Kind::Compressed(region) => region.end() <= self.image.extent.bytes,
                _ => false,
            },
        };
        let doubt = leads_somewhere.then(|| "the entry leads to something now".to_owned());
        self.doubts.extend(doubt);
    }
}

/// What speaks against a table.
fn doubt_table(table: &FoundTable) -> Option<String> {
    let offset = table.offset;
    if !table.looks_like_one {
        return Some(format!("what is at {offset} does not read as an L2 table"));
    }
    (table.entries == 0).then(|| format!("no entry of what is at {offset} leads to data"))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is what `map_err` is given"
)]
fn text(error: impl ToString) -> String {
    error.to_string()
}
