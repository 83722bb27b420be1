//! The header and its extensions (specification, "Header", "Header extensions"), refused where
//! qemu refuses to open the image.

use super::reader::{Reader, Unreadable, be32, be64};
use crate::format::{
    BACKING_FORMAT, BACKING_NAME_MAX, BITMAPS, BITMAPS_CONSISTENT, DATA_FILE_NAME, EXTENDED_L2,
    L1_MAX, LUKS_HEADER, MAGIC, REFTABLE_MAX,
};

/// Every incompatible feature that is known: dirty, corrupt, external data file, compression type,
/// extended L2.
const KNOWN_FEATURES: u64 = 0x1f;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
/// Autoclear feature bit 1: the external data file is raw.
const DATA_FILE_RAW: u64 = 2;
const BITMAPS_MAX: u64 = 65_535;
const BITMAP_DIRECTORY_MAX: u64 = 64 << 20;

/// A stretch of bytes that a header extension names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// What the header says. Offsets and sizes are in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Version of the format, 2 or 3.
    pub version: u64,
    /// Binary logarithm of the cluster size.
    pub cluster_bits: u64,
    /// The guest's disk.
    pub virtual_size: u64,
    /// The active L1 table.
    pub l1_offset: u64,
    /// Its entries.
    pub l1_entries: u64,
    /// The reftable.
    pub reftable_offset: u64,
    /// Its clusters.
    pub reftable_clusters: u64,
    /// How many snapshots.
    pub snapshots: u64,
    /// The snapshot table.
    pub snapshots_offset: u64,
    /// Whether there is a backing file.
    pub backing: bool,
    /// How guest data is encrypted; 0 when it is not.
    pub crypt_method: u64,
    /// Incompatible features.
    pub incompatible: u64,
    /// Autoclear features.
    pub autoclear: u64,
    /// Binary logarithm of the refcount width.
    pub refcount_order: u64,
    /// The LUKS header.
    pub luks: Option<Region>,
    /// How many bitmaps, and their directory; only while they are consistent.
    pub bitmaps: Option<(u64, Region)>,
    /// Whether there can be a reftable where the fields say; qemu refuses to open the image otherwise.
    pub reftable_usable: bool,
}

impl Header {
    /// What the first 112 bytes say, whether or not there can be such an image.
    pub(crate) fn parse(raw: &[u8]) -> Self {
        // A version 2 header ends at byte 72.
        let is_newer = be32(&raw[4..]) >= 3;
        let newer = |at: usize| if is_newer { be64(&raw[at..]) } else { 0 };
        Self {
            version: be32(&raw[4..]),
            cluster_bits: be32(&raw[20..]),
            virtual_size: be64(&raw[24..]),
            l1_entries: be32(&raw[36..]),
            l1_offset: be64(&raw[40..]),
            reftable_offset: be64(&raw[48..]),
            reftable_clusters: be32(&raw[56..]),
            snapshots: be32(&raw[60..]),
            snapshots_offset: be64(&raw[64..]),
            backing: be64(&raw[8..]) != 0,
            crypt_method: be32(&raw[32..]),
            incompatible: newer(72),
            autoclear: newer(88),
            refcount_order: if is_newer { be32(&raw[96..]) } else { 4 },
            ..Self::default()
        }
    }

    /// Bytes of a cluster.
    pub const fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Bits of a refcount.
    pub const fn refcount_bits(&self) -> u64 {
        1 << self.refcount_order
    }

    /// The largest refcount.
    pub const fn max_refcount(&self) -> u64 {
        u64::MAX >> (64 - self.refcount_bits())
    }

    /// Refcounts of a refblock: the clusters that it covers.
    pub const fn refblock_entries(&self) -> u64 {
        self.cluster_size() * 8 / self.refcount_bits()
    }

    /// Whether L2 entries are 16 bytes and have subclusters.
    pub const fn extended_l2(&self) -> bool {
        self.incompatible & EXTENDED_L2 != 0
    }

    /// Whether guest data lies in another file.
    pub const fn external_data(&self) -> bool {
        self.incompatible & EXTERNAL_DATA != 0
    }

    /// Whether compressed clusters are zstd: the only compression type that has the feature bit.
    pub const fn zstd(&self) -> bool {
        self.incompatible & COMPRESSION_TYPE != 0
    }

    /// Bytes of an L2 entry.
    pub const fn l2_entry_bytes(&self) -> u64 {
        if self.extended_l2() { 16 } else { 8 }
    }

    /// Entries of an L2 table.
    pub const fn l2_entries(&self) -> u64 {
        self.cluster_size() / self.l2_entry_bytes()
    }

    /// Whether an offset is the first byte of a cluster.
    pub const fn is_aligned(&self, offset: u64) -> bool {
        offset.is_multiple_of(self.cluster_size())
    }
}

/// Fails with the first field that is not fine.
fn demand(fields: &[(bool, &'static str, u64)]) -> Result<(), Unreadable> {
    let wrong = fields.iter().find(|(fine, ..)| !fine);
    wrong.map_or(Ok(()), |&(_, field, value)| {
        Err(Unreadable::NotOpened { field, value })
    })
}

/// Whether a table can be: no larger than `most` bytes, aligned, and it ends before 2^63.
fn can_be(header: &Header, offset: u64, bytes: u64, most: u64) -> bool {
    let ends = offset.checked_add(bytes).is_some_and(|end| end < 1 << 63);
    bytes <= most && ends && header.is_aligned(offset)
}

/// Reads and judges the header.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<Header, Unreadable> {
    let raw = reader.bytes(0, 112)?;
    let mut header = Header::parse(&raw);
    let (magic, version, cluster_bits) = (be32(&raw), header.version, header.cluster_bits);
    let bits_fit = (9..=21).contains(&cluster_bits);
    demand(&[
        (magic == MAGIC, "magic", magic),
        (version == 2 || version == 3, "version", version),
        (bits_fit, "cluster_bits", cluster_bits),
    ])?;
    let header_length = if version == 3 { be32(&raw[100..]) } else { 72 };
    judge_fields(&header, &raw, header_length)?;
    let reftable = header.reftable_clusters * header.cluster_size();
    header.reftable_usable = can_be(&header, header.reftable_offset, reftable, REFTABLE_MAX);
    let end = match be64(&raw[8..]) {
        0 => header.cluster_size(),
        backing_file => backing_file,
    };
    read_extensions(reader, header, header_length, end)
}

/// Refuses fields outside of their ranges, and an L1 table that cannot be.
fn judge_fields(header: &Header, raw: &[u8], header_length: u64) -> Result<(), Unreadable> {
    let (cluster_size, features) = (header.cluster_size(), header.incompatible);
    let (bits, order) = (header.cluster_bits, header.refcount_order);
    let (autoclear, method) = (header.autoclear, header.crypt_method);
    let (backing, name) = (be64(&raw[8..]), be32(&raw[16..]));
    let (l1, entries) = (header.l1_offset, header.l1_entries);
    let length_fits = header.version == 2 || (104..=cluster_size).contains(&header_length);
    let room = BACKING_NAME_MAX.min(cluster_size.saturating_sub(backing));
    let is_known = features & !KNOWN_FEATURES == 0;
    let raw_fits = header.external_data() || autoclear & DATA_FILE_RAW == 0;
    let has_type = header_length > 104;
    let compression = if has_type { raw[104].into() } else { 0 };
    let type_fits = compression <= 1 && header.zstd() == (compression != 0);
    let l1_can_be = can_be(header, l1, entries * 8, L1_MAX);
    let covered = cluster_size * header.l2_entries();
    let needed = header.virtual_size.div_ceil(covered);
    demand(&[
        (length_fits, "header_length", header_length),
        (backing <= cluster_size, "backing_file_offset", backing),
        (backing == 0 || name <= room, "backing_file_size", name),
        (is_known, "incompatible_features", features),
        (order <= 6, "refcount_order", order),
        (raw_fits, "autoclear_features", autoclear),
        (method <= 2, "crypt_method", method),
        (type_fits, "compression_type", compression),
        // Subclusters are in clusters of 16 KiB and more.
        (!header.extended_l2() || bits >= 14, "extended_l2", bits),
        (l1_can_be, "l1_table_offset", l1),
        (entries >= needed, "l1_size", entries),
    ])
}

fn read_extensions(
    reader: &mut Reader<'_>,
    mut header: Header,
    start: u64,
    end: u64,
) -> Result<Header, Unreadable> {
    let encrypted = header.crypt_method == 2;
    let mut names_data_file = false;
    let mut at = start;
    while at < end {
        let head = reader.bytes(at, 8)?;
        let (kind, length) = (be32(&head), be32(&head[4..]));
        let demand = |fine| demand(&[(fine, "header_extension", kind)]);
        at += 8;
        demand(at <= end && length <= end - at)?;
        match kind {
            0 => break,
            DATA_FILE_NAME => names_data_file = true,
            BACKING_FORMAT => demand(length < 16)?,
            LUKS_HEADER => {
                let data = reader.bytes(at, 16)?;
                let (offset, bytes) = (be64(&data), be64(&data[8..]));
                demand(encrypted && length == 16 && header.is_aligned(offset))?;
                header.luks = Some(Region { offset, bytes });
            }
            BITMAPS => {
                demand(length == 24)?;
                if header.autoclear & BITMAPS_CONSISTENT != 0 {
                    let data = reader.bytes(at, 24)?;
                    header.bitmaps = bitmaps(&header, &data);
                    demand(header.bitmaps.is_some())?;
                }
            }
            _ => (),
        }
        at += length.next_multiple_of(8);
    }
    let data_file = names_data_file || !header.external_data();
    let luks = header.luks.is_some() || !encrypted;
    demand(&[
        (data_file, "header_extension", DATA_FILE_NAME),
        (luks, "header_extension", LUKS_HEADER),
    ])?;
    Ok(header)
}

/// The bitmaps extension; `None` when it is malformed.
fn bitmaps(header: &Header, data: &[u8]) -> Option<(u64, Region)> {
    let (count, reserved) = (be32(data), be32(&data[4..]));
    let (bytes, offset) = (be64(&data[8..]), be64(&data[16..]));
    let fine = reserved == 0
        && (1..=BITMAPS_MAX).contains(&count)
        && bytes <= BITMAP_DIRECTORY_MAX
        && header.is_aligned(offset);
    fine.then_some((count, Region { offset, bytes }))
}
