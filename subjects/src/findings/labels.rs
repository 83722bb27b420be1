//! What the bytes of an image are, by the names that the qcow2 specification has for them.

use recount_oracle::audit::{self, Audit, Header, LayerId, Referrer};
use recount_oracle::case::damage::SparseBytes;

/// Fields of the header: first byte, length in bytes, name (specification, "Header").
const FIELDS: [(u64, u64, &str); 20] = [
    (0, 4, "magic"),
    (4, 4, "version"),
    (8, 8, "backing_file_offset"),
    (16, 4, "backing_file_size"),
    (20, 4, "cluster_bits"),
    (24, 8, "size"),
    (32, 4, "crypt_method"),
    (36, 4, "l1_size"),
    (40, 8, "l1_table_offset"),
    (48, 8, "refcount_table_offset"),
    (56, 4, "refcount_table_clusters"),
    (60, 4, "nb_snapshots"),
    (64, 8, "snapshots_offset"),
    (72, 8, "incompatible_features"),
    (80, 8, "compatible_features"),
    (88, 8, "autoclear_features"),
    (96, 4, "refcount_order"),
    (100, 4, "header_length"),
    (104, 1, "compression_type"),
    (105, 7, "padding"),
];
/// The fields that version 2 has.
const OF_VERSION_2: usize = 13;
/// Header extensions (specification, "Header extensions").
const EXTENSIONS: [(u64, &str); 5] = [
    (0xe279_2aca, "backing file format name"),
    (0x6803_f857, "feature name table"),
    (0x2385_2875, "bitmaps extension"),
    (0x0537_be77, "full disk encryption header pointer"),
    (0x4441_5441, "external data file name"),
];
/// Fields of a snapshot table entry: first byte, length in bytes, what it is (specification,
/// "Snapshots"). Seconds and nanoseconds of the date are told together.
const SNAPSHOT_FIELDS: [(u64, u64, &str); 9] = [
    (0, 8, "offset of its L1 table"),
    (8, 4, "size of its L1 table"),
    (12, 2, "length of its ID"),
    (14, 2, "length of its name"),
    (16, 8, "date"),
    (24, 8, "time that the guest was running"),
    (32, 4, "size of the VM state"),
    (36, 4, "size of the extra data"),
    (40, u64::MAX, "extra data, ID and name"),
];
/// What lies in units of this size is told unit by unit.
const ENTRY: u64 = 8;

/// A stretch of bytes with one meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// First byte.
    pub start: u64,
    /// The byte behind it.
    pub end: u64,
    /// What it is.
    pub name: Name,
}

/// What some bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// As it is called.
    Text(String),
    /// One or more in a row of many alike.
    Numbered {
        /// What one is called, and what several are.
        called: [&'static str; 2],
        /// The first and the last of them.
        numbers: [u64; 2],
        /// Which table they are in.
        of: String,
    },
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Numbered {
                called: [one, many],
                numbers: [first, last],
                of,
            } => match last - first {
                0 => write!(f, "{one} {first}{of}"),
                _ => write!(f, "{many} {first} to {last}{of}"),
            },
        }
    }
}

impl Part {
    /// Whether one value makes it up, rather than content.
    pub const fn is_field(&self) -> bool {
        self.end - self.start <= 2 * ENTRY
    }

    /// Takes in the part behind this one, where both are of one table.
    pub fn join(&mut self, next: &Self) -> bool {
        let joined = match (&mut self.name, &next.name) {
            (
                Name::Numbered {
                    called,
                    numbers: [_, last],
                    of,
                },
                Name::Numbered {
                    called: other,
                    numbers: [first, end],
                    of: table,
                },
            ) if called == other && of == table && *first == *last + 1 => {
                *last = *end;
                true
            }
            (one, other) => one == other,
        };
        let follows = joined && next.start == self.end;
        if follows {
            self.end = next.end;
        }
        follows
    }
}

/// The names of an image's bytes.
pub struct Labels<'a> {
    image: &'a SparseBytes,
    /// `None` of an image that nobody can open: then only the header's fields have names.
    audit: Option<Audit>,
}

impl<'a> Labels<'a> {
    /// Those of an image.
    pub fn of(image: &'a SparseBytes) -> Self {
        let audit = audit::audit(image).ok();
        Self { image, audit }
    }

    /// The part that a byte belongs to.
    pub fn part(&self, at: u64) -> Part {
        let found = self.in_header(at).or_else(|| self.in_cluster(at));
        found.unwrap_or_else(|| Part {
            start: at,
            end: (at + 1).next_multiple_of(self.cluster_size()),
            name: Name::Text("bytes that nothing refers to".to_owned()),
        })
    }

    fn cluster_size(&self) -> u64 {
        let audit = self.audit.as_ref();
        audit.map_or(512, |audit| audit.header.cluster_size())
    }

    fn in_header(&self, at: u64) -> Option<Part> {
        let is_newer = self.image.number(4, 4) >= 3;
        let length = if is_newer {
            self.image.number(100, 4).clamp(104, 112)
        } else {
            72
        };
        let known = if is_newer { FIELDS.len() } else { OF_VERSION_2 };
        let fields = FIELDS[..known].iter();
        let mut fields = fields.filter(|(start, ..)| *start < length);
        let field = fields.find(|(start, bytes, _)| (*start..start + bytes).contains(&at));
        if let Some(&(start, bytes, name)) = field {
            return Some(Part {
                start,
                end: start + bytes,
                name: Name::Text(format!("byte {start} of the header: {name}")),
            });
        }
        self.in_extension(at, length)
    }

    /// Header extensions, and the name of the backing file behind them.
    fn in_extension(&self, at: u64, header_length: u64) -> Option<Part> {
        let cluster_size = self.audit.as_ref()?.header.cluster_size();
        let backing = (self.image.number(8, 8), self.image.number(16, 4));
        if backing.0 > 0 && (backing.0..backing.0.saturating_add(backing.1)).contains(&at) {
            return Some(Part {
                start: backing.0,
                end: backing.0 + backing.1,
                name: Name::Text("name of the backing file".to_owned()),
            });
        }
        let mut start = header_length;
        while start <= at && at < cluster_size {
            let (kind, length) = (self.image.number(start, 4), self.image.number(start + 4, 4));
            let end = start + 8 + length.next_multiple_of(8);
            if kind == 0 {
                break;
            }
            if at < end {
                let known = EXTENSIONS.iter().find(|(known, _)| *known == kind);
                let name = known.map_or("one that nobody knows", |(_, name)| name);
                return Some(Part {
                    start,
                    end: end.min(cluster_size),
                    name: Name::Text(format!("header extension {kind:#010x}: {name}")),
                });
            }
            start = end;
        }
        None
    }

    /// What refers to its cluster says what it is.
    fn in_cluster(&self, at: u64) -> Option<Part> {
        let audit = self.audit.as_ref()?;
        let cluster_size = audit.header.cluster_size();
        let cluster = at / cluster_size;
        // Of several uses the tables: they come last in the order of the uses' names.
        let mut uses = audit.uses(cluster);
        let by = uses.clone().find(|by| is_table(by)).or(uses.next())?;
        let (start, end) = (cluster * cluster_size, (cluster + 1) * cluster_size);
        Some(named(audit, by, at).unwrap_or_else(|| Part {
            start,
            end,
            name: content(by, audit),
        }))
    }
}

const fn is_table(by: &Referrer) -> bool {
    !matches!(by, Referrer::Data { .. } | Referrer::Compressed { .. })
}

/// The table entry at a byte; `None` where what refers to it is no table of entries.
fn named(audit: &Audit, by: &Referrer, at: u64) -> Option<Part> {
    let header = &audit.header;
    let cluster_start = at / header.cluster_size() * header.cluster_size();
    let entries = |table: u64, unit: u64, called, of: String| {
        let index = at.checked_sub(table)? / unit;
        Some(Part {
            start: table + index * unit,
            end: table + (index + 1) * unit,
            name: Name::Numbered {
                called,
                numbers: [index, index],
                of,
            },
        })
    };
    match *by {
        Referrer::Reftable => entries(
            header.reftable_offset,
            ENTRY,
            ["refcount table entry", "refcount table entries"],
            String::new(),
        ),
        Referrer::Refblock { index } => Some(refcounts(header, index, cluster_start, at)),
        Referrer::L1 { layer } => {
            let known = audit.layers.iter().find(|known| known.id == layer)?;
            let called = ["L1 entry", "L1 entries"];
            entries(known.l1_offset, ENTRY, called, format!(" of {layer}"))
        }
        Referrer::L2 { layer, l1_index } => {
            let called = ["L2 entry", "L2 entries"];
            let of = format!(" of {layer}, in the table of L1 entry {l1_index}");
            entries(cluster_start, header.l2_entry_bytes(), called, of)
        }
        Referrer::BitmapTable { bitmap } => {
            let called = ["entry", "entries"];
            let of = format!(" of the table of bitmap {bitmap}");
            let directory = audit.bitmaps.get(usize::try_from(bitmap).ok()?)?;
            let offset = directory.fields.first_chunk().copied();
            entries(u64::from_be_bytes(offset?), ENTRY, called, of)
        }
        Referrer::SnapshotTable => {
            let mut known = (0_u64..).zip(&audit.snapshots.entries);
            let (number, entry) =
                known.find(|(_, entry)| (entry.at..entry.at + entry.bytes).contains(&at))?;
            let inside = at - entry.at;
            let mut fields = SNAPSHOT_FIELDS.into_iter().rev();
            let (start, bytes, what) = fields.find(|(start, ..)| *start <= inside)?;
            let end = start.saturating_add(bytes).min(entry.bytes);
            Some(Part {
                start: entry.at + start,
                end: entry.at + end,
                name: Name::Text(format!("snapshot table entry {number}: {what}")),
            })
        }
        _ => None,
    }
}

/// The refcount at a byte; all that share it, where they are narrower.
fn refcounts(header: &Header, refblock: u64, start: u64, at: u64) -> Part {
    let bytes = header.refcount_bits().div_ceil(8);
    let each = 8_u64.div_ceil(header.refcount_bits());
    let unit = (at - start) / bytes;
    let first = refblock
        .saturating_mul(header.refblock_entries())
        .saturating_add(unit * each);
    Part {
        start: start + unit * bytes,
        end: start + (unit + 1) * bytes,
        name: Name::Numbered {
            called: ["refcount of cluster", "refcounts of clusters"],
            numbers: [first, first.saturating_add(each - 1)],
            of: String::new(),
        },
    }
}

/// What a cluster is that is no table.
fn content(by: &Referrer, audit: &Audit) -> Name {
    let guest = |layer: LayerId, l1_index: u64, l2_index: u64| {
        let first = l1_index.saturating_mul(audit.header.l2_entries());
        let cluster = first.saturating_add(l2_index);
        Name::Numbered {
            called: ["guest cluster", "guest clusters"],
            numbers: [cluster, cluster],
            of: format!(" of {layer}"),
        }
    };
    match *by {
        Referrer::Data {
            layer,
            l1_index,
            l2_index,
        } => guest(layer, l1_index, l2_index),
        Referrer::Compressed {
            layer,
            l1_index,
            l2_index,
        } => Name::Text(format!("{}, compressed", guest(layer, l1_index, l2_index))),
        Referrer::Header => Name::Text("the cluster of the header".to_owned()),
        Referrer::LuksHeader => Name::Text("LUKS header".to_owned()),
        Referrer::BitmapDirectory => Name::Text("bitmap directory".to_owned()),
        Referrer::BitmapData { bitmap, .. } => Name::Text(format!("bits of bitmap {bitmap}")),
        _ => Name::Text("a table".to_owned()),
    }
}
