//! The header (specification, "Header").
//!
//! ```text
//!   0 magic "QFI\xfb"          32 crypt_method             72 incompatible_features (v3)
//!   4 version                  36 l1_size                  80 compatible_features
//!   8 backing_file_offset      40 l1_table_offset          88 autoclear_features
//!  16 backing_file_size        48 refcount_table_offset    96 refcount_order
//!  20 cluster_bits             56 refcount_table_clusters 100 header_length
//!  24 size                     60 nb_snapshots            104 compression_type
//!                              64 snapshots_offset
//! ```

use super::entry::L2Format;
use super::error::ImageError;
use super::{be32, be64};
use crate::geometry::Geometry;
use crate::units::Offset;

/// Bytes of the header that are known to this version.
pub const KNOWN_BYTES: usize = 112;
/// Where `nb_snapshots` is, followed by `snapshots_offset`: 12 bytes within one sector.
pub const SNAPSHOTS_POSITION: u64 = 60;
/// Where `incompatible_features` is.
pub const INCOMPATIBLE_FEATURES_POSITION: u64 = 72;
/// Where `autoclear_features` is.
pub const AUTOCLEAR_FEATURES_POSITION: u64 = 88;

const MAGIC: u32 = 0x5146_49fb;
const V2_LENGTH: u32 = 72;
const V3_MIN_LENGTH: u32 = 104;
const V2_REFCOUNT_ORDER: u32 = 4;

/// The features that are known: the kind as the feature name table has it, the bit, the name as qemu has it.
pub const FEATURES: [(u8, u32, &str); 8] = [
    (0, 0, "dirty bit"),
    (0, 1, "corrupt bit"),
    (0, 2, "external data file"),
    (0, 3, "compression type"),
    (0, 4, "extended L2 entries"),
    (1, 0, "lazy refcounts"),
    (2, 0, "bitmaps"),
    (2, 1, "raw external data"),
];

/// Incompatible feature bit 0: refcounts may be out of date (lazy refcounts).
pub const DIRTY: u64 = 1;
/// Incompatible feature bit 1: metadata is known to be corrupt.
pub const CORRUPT: u64 = 1 << 1;
/// Incompatible feature bit 2: guest data is in another file.
pub const DATA_FILE: u64 = 1 << 2;
/// Incompatible feature bit 3: the compression type is not zlib.
pub const COMPRESSION: u64 = 1 << 3;
/// Incompatible feature bit 4: L2 entries of 16 bytes, with subclusters.
pub const EXTENDED_L2: u64 = 1 << 4;
const KNOWN_INCOMPATIBLE: u64 = DIRTY | CORRUPT | DATA_FILE | COMPRESSION | EXTENDED_L2;
/// Autoclear feature bit 0: the bitmaps are consistent with the data.
pub const BITMAPS: u64 = 1;
/// Autoclear feature: the external data file can be read as a raw image.
pub const DATA_FILE_RAW: u64 = 1 << 1;
/// The autoclear feature bits that are known.
pub const KNOWN_AUTOCLEAR: u64 = BITMAPS | DATA_FILE_RAW;

/// Encryption by LUKS, in `crypt_method`.
pub const CRYPT_LUKS: u32 = 2;

pub const MAX_L1_BYTES: u64 = 32 << 20;
const MAX_REFTABLE_BYTES: u64 = 8 << 20;
const MAX_BACKING_NAME: u64 = 1023;
const TABLE_ENTRY_BYTES: u64 = 8;
const SUBCLUSTERS: u64 = 32;
const MIN_SUBCLUSTER_BYTES: u64 = 512;

/// A parsed header, within the limits that qemu accepts. Sizes are in bytes where nothing else is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// Cluster size and refcount width.
    pub geometry: Geometry,
    /// Where the backing file's name is; 0 without one.
    pub backing_file_offset: Offset,
    pub backing_file_size: u32,
    /// The virtual size.
    pub size: u64,
    /// 0 none, 1 AES, 2 LUKS.
    pub crypt_method: u32,
    /// Entries of the active L1 table.
    pub l1_size: u32,
    pub l1_table_offset: Offset,
    pub reftable_offset: Offset,
    /// Clusters of the reftable; 0 is accepted, for a check.
    pub reftable_clusters: u32,
    /// Entries of the snapshot table, not yet held against any limit.
    pub nb_snapshots: u32,
    /// Not yet validated.
    pub snapshots_offset: Offset,
    /// All of them known, unless the header was only [read](Self::read).
    pub incompatible_features: u64,
    pub compatible_features: u64,
    pub autoclear_features: u64,
    /// 0 zlib, 1 zstd.
    pub compression_type: u8,
    /// Bytes of the header itself.
    pub length: u32,
    /// Whether there can be a reftable where the header says that it is: what a rebuild replaces
    /// keeps no image from being repaired.
    pub has_usable_reftable: bool,
}

impl Header {
    /// Parses the first [`KNOWN_BYTES`] bytes of a file; what is missing of them counts as zeros,
    /// as it reads.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        let header = Self::read(bytes)?;
        header.violation().map_or(Ok(header), Err)
    }

    /// The same of one that may break rules, as long as its fields can be told.
    pub fn read(bytes: &[u8]) -> Result<Self, ImageError> {
        let (magic, version) = (be32(bytes, 0), be32(bytes, 4));
        if bytes.starts_with(&super::UNDO_MAGIC) {
            return Err(ImageError::UndoFile);
        }
        if magic != MAGIC {
            return Err(ImageError::Magic(magic));
        }
        if !(2..=3).contains(&version) {
            return Err(ImageError::Version(version));
        }
        let v3 = version >= 3;
        let refcount_order = if v3 {
            be32(bytes, 96)
        } else {
            V2_REFCOUNT_ORDER
        };
        let mut header = Self {
            version,
            geometry: Geometry::new(be32(bytes, 20), refcount_order)?,
            backing_file_offset: Offset(be64(bytes, 8)),
            backing_file_size: be32(bytes, 16),
            size: be64(bytes, 24),
            crypt_method: be32(bytes, 32),
            l1_size: be32(bytes, 36),
            l1_table_offset: Offset(be64(bytes, 40)),
            reftable_offset: Offset(be64(bytes, 48)),
            reftable_clusters: be32(bytes, 56),
            nb_snapshots: be32(bytes, SNAPSHOTS_POSITION as usize),
            snapshots_offset: Offset(be64(bytes, SNAPSHOTS_POSITION as usize + 4)),
            incompatible_features: if v3 { be64(bytes, 72) } else { 0 },
            compatible_features: if v3 { be64(bytes, 80) } else { 0 },
            autoclear_features: if v3 { be64(bytes, 88) } else { 0 },
            compression_type: 0,
            length: if v3 { be32(bytes, 100) } else { V2_LENGTH },
            has_usable_reftable: false,
        };
        let reftable_bytes = u64::from(header.reftable_clusters) << header.geometry.cluster_bits();
        header.has_usable_reftable = reftable_bytes <= MAX_REFTABLE_BYTES
            && header.can_be_at(header.reftable_offset, reftable_bytes);
        if header.length > V3_MIN_LENGTH {
            header.compression_type = bytes.get(104).copied().unwrap_or(0);
        }
        Ok(header)
    }

    /// The first rule that is broken.
    pub fn violation(&self) -> Option<ImageError> {
        use ImageError as E;
        let (cluster_size, length) = (self.geometry.cluster_size(), u64::from(self.length));
        let (name_at, name_bytes) = (self.backing_file_offset, u64::from(self.backing_file_size));
        let name_limit = MAX_BACKING_NAME.min(cluster_size.saturating_sub(name_at.0));
        let fits = name_at.0 == 0 || name_bytes <= name_limit;
        let unknown = self.incompatible_features & !KNOWN_INCOMPATIBLE;
        let compression = self.compression_type;
        // 0 is zlib and 1 is zstd; the bit stands for "not zlib".
        let bit = self.incompatible_features & COMPRESSION != 0;
        let is_known = compression <= 1 && bit == (compression == 1);
        let too_small =
            self.l2_format().extended && cluster_size / SUBCLUSTERS < MIN_SUBCLUSTER_BYTES;
        let is_raw = self.autoclear_features & DATA_FILE_RAW != 0;
        let (crypt, l1_at, size) = (self.crypt_method, self.l1_table_offset, self.size);
        let (l1_size, l1_bytes) = (self.l1_size, u64::from(self.l1_size) * TABLE_ENTRY_BYTES);
        let needed = size.div_ceil(self.l2_entries() << self.geometry.cluster_bits());
        let is_enough = u64::from(l1_size) >= needed;
        let too_short = self.version >= 3 && self.length < V3_MIN_LENGTH;
        let rules = [
            (!too_short, E::TooShort(length)),
            (length <= cluster_size, E::TooLong(length, cluster_size)),
            (name_at.0 <= cluster_size, E::BackingFileOffset(name_at)),
            (fits, E::BackingFileName(name_bytes, name_limit)),
            (unknown == 0, E::IncompatibleFeatures(unknown)),
            (is_known, E::Compression(compression, bit)),
            (!too_small, E::Subclusters(cluster_size)),
            (!is_raw || self.has_data_file(), E::RawWithoutDataFile),
            (crypt <= CRYPT_LUKS, E::CryptMethod(crypt)),
            (l1_bytes <= MAX_L1_BYTES, E::L1TooLarge(l1_bytes)),
            (self.can_be_at(l1_at, l1_bytes), E::L1Offset(l1_at)),
            (is_enough, E::L1TooSmall(l1_size, size, needed)),
        ];
        let broken = rules.into_iter().find(|(holds, _)| !holds);
        broken.map(|(_, error)| error)
    }

    /// Whether guest data is in another file.
    pub const fn has_data_file(&self) -> bool {
        self.incompatible_features & DATA_FILE != 0
    }

    /// What its L2 entries depend on.
    pub const fn l2_format(&self) -> L2Format {
        L2Format {
            geometry: self.geometry,
            extended: self.incompatible_features & EXTENDED_L2 != 0,
            data_file: self.has_data_file(),
        }
    }

    /// Whether the bitmaps are to be believed.
    pub const fn has_consistent_bitmaps(&self) -> bool {
        self.autoclear_features & BITMAPS != 0
    }

    /// Entries of an L2 table.
    pub const fn l2_entries(&self) -> u64 {
        self.geometry.cluster_size() / self.l2_format().entry_bytes()
    }

    /// Whether a table can be there: at the beginning of a cluster, and before 2^63.
    const fn can_be_at(&self, offset: Offset, bytes: u64) -> bool {
        offset.0 <= i64::MAX as u64 - bytes && self.geometry.is_aligned(offset)
    }
}
