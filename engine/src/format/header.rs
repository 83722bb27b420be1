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
use super::{be32, be64};
use crate::geometry::{Geometry, GeometryError};
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

const MAX_L1_BYTES: u64 = 32 << 20;
const MAX_REFTABLE_BYTES: u64 = 8 << 20;
const MAX_BACKING_NAME: u64 = 1023;
const TABLE_ENTRY_BYTES: u64 = 8;
const SUBCLUSTERS: u64 = 32;
const MIN_SUBCLUSTER_BYTES: u64 = 512;

/// Why a file cannot be opened as a qcow2 image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The first four bytes are not the magic number.
    #[error("not a qcow2 image: its magic (bytes 0 to 3) is {found:#010x} instead of 0x514649fb")]
    Magic {
        /// What they are.
        found: u32,
    },
    /// Neither 2 nor 3.
    #[error("version (bytes 4 to 7) is {0}; only versions 2 and 3 are known")]
    Version(u32),
    /// `cluster_bits` or `refcount_order` is out of range.
    #[error("{0} (cluster_bits: bytes 20 to 23, refcount_order: bytes 96 to 99)")]
    Geometry(#[from] GeometryError),
    /// A version 3 header that says that it is shorter than it must be.
    #[error("header_length (bytes 100 to 103) is {0}, but a version 3 header has at least 104")]
    TooShort(u32),
    /// The header does not fit into the first cluster.
    #[error("header_length (bytes 100 to 103) is {length}, more than a cluster of {cluster_size}")]
    TooLong {
        /// What the field says.
        length: u32,
        /// Bytes of a cluster.
        cluster_size: u64,
    },
    /// The backing file's name is not in the first cluster.
    #[error("backing_file_offset (bytes 8 to 15) is {offset}, past the first cluster")]
    BackingFileOffset {
        /// What the field says.
        offset: Offset,
    },
    /// The backing file's name is too long.
    #[error("backing_file_size (bytes 16 to 19) is {length}, more than the {limit} that fit")]
    BackingFileName {
        /// What the field says.
        length: u32,
        /// The most it may be.
        limit: u64,
    },
    /// Incompatible features that are not known.
    #[error(
        "incompatible_features (bytes 72 to 79) has the unknown bits {bits:#x}: a newer program \
         is needed for this image"
    )]
    IncompatibleFeatures {
        /// The unknown bits.
        bits: u64,
    },
    /// Compression type and feature bit contradict each other, or the type is not known.
    #[error(
        "compression_type (byte 104) is {compression_type}, which incompatible feature bit 3 \
         {}", if *bit { "being set does not allow" } else { "being clear does not allow" }
    )]
    Compression {
        /// What the field says.
        compression_type: u8,
        /// Whether the feature bit is set.
        bit: bool,
    },
    /// Extended L2 entries with clusters that are too small for them.
    #[error("extended L2 entries need clusters of at least 16384 bytes, these have {cluster_size}")]
    Subclusters {
        /// Bytes of a cluster.
        cluster_size: u64,
    },
    /// The L1 table is larger than any program would read.
    #[error(
        "l1_size (bytes 36 to 39) makes a table of {bytes} bytes, more than the {limit} with which \
         an image can be opened"
    )]
    L1TooLarge {
        /// Its size in bytes.
        bytes: u64,
        /// The largest size allowed.
        limit: u64,
    },
    /// The L1 table does not begin at a cluster, or ends past 2^63.
    #[error(
        "l1_table_offset (bytes 40 to 47) is {offset}, which is not a multiple of the cluster size \
         below 2^63"
    )]
    L1Offset {
        /// What the field says.
        offset: Offset,
    },
    /// The L1 table cannot map the whole virtual disk.
    #[error(
        "l1_size (bytes 36 to 39) is {l1_size}, but size (bytes 24 to 31), {size}, needs {needed} \
         L1 entries"
    )]
    L1TooSmall {
        /// What the field says.
        l1_size: u32,
        /// The virtual size in bytes.
        size: u64,
        /// Entries that the virtual size needs.
        needed: u64,
    },
    /// Guest data is not in another file.
    #[error(
        "autoclear_features (bytes 88 to 95) has bit 1, a raw external data file, but \
         incompatible_features (bytes 72 to 79) has no bit 2, an external data file"
    )]
    RawWithoutDataFile,
    /// The encryption method is not known.
    #[error("crypt_method (bytes 32 to 35) is {0}; only 0, 1 and 2 are known")]
    CryptMethod(u32),
}

/// A parsed header, within the limits that qemu accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// Cluster size and refcount width.
    pub geometry: Geometry,
    /// Where the backing file's name is; 0 without one.
    pub backing_file_offset: Offset,
    /// Bytes of the backing file's name.
    pub backing_file_size: u32,
    /// The virtual size, in bytes.
    pub size: u64,
    /// 0 none, 1 AES, 2 LUKS.
    pub crypt_method: u32,
    /// Entries of the active L1 table.
    pub l1_size: u32,
    /// Where the active L1 table is.
    pub l1_table_offset: Offset,
    /// Where the reftable is.
    pub reftable_offset: Offset,
    /// Clusters of the reftable; 0 is accepted, for a check.
    pub reftable_clusters: u32,
    /// Entries of the snapshot table, not yet held against any limit.
    pub nb_snapshots: u32,
    /// Where the snapshot table is, not yet validated.
    pub snapshots_offset: Offset,
    /// Incompatible feature bits, all of them known.
    pub incompatible_features: u64,
    /// Autoclear feature bits.
    pub autoclear_features: u64,
    /// Bytes of the header.
    pub header_length: u32,
    /// Why the reftable cannot be where the header says that it is: what a rebuild replaces keeps no
    /// image from being repaired.
    pub reftable_refusal: Option<ReftableRefusal>,
}

/// Why there can be no reftable where the header says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReftableRefusal {
    /// Not at the beginning of a cluster, or past 2^63.
    Offset,
    /// Over 8 MiB.
    Size,
}

impl Header {
    /// Parses the first [`KNOWN_BYTES`] bytes of a file; what is missing of them counts as zeros,
    /// as it reads.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let magic = be32(bytes, 0);
        if magic != MAGIC {
            return Err(HeaderError::Magic { found: magic });
        }
        let version = be32(bytes, 4);
        if !(2..=3).contains(&version) {
            return Err(HeaderError::Version(version));
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
            autoclear_features: if v3 { be64(bytes, 88) } else { 0 },
            header_length: if v3 { be32(bytes, 100) } else { V2_LENGTH },
            reftable_refusal: None,
        };
        header.reftable_refusal = header.judge_reftable();
        header.validate_sizes()?;
        header.validate_features(bytes)?;
        header.validate_tables()?;
        Ok(header)
    }

    /// Whether guest data is in another file.
    #[must_use]
    pub const fn has_data_file(&self) -> bool {
        self.incompatible_features & DATA_FILE != 0
    }

    /// Whether L2 entries have subclusters.
    #[must_use]
    pub const fn has_extended_l2(&self) -> bool {
        self.incompatible_features & EXTENDED_L2 != 0
    }

    /// Whether the bitmaps are to be believed.
    #[must_use]
    pub const fn has_consistent_bitmaps(&self) -> bool {
        self.autoclear_features & BITMAPS != 0
    }

    /// Whether there can be a reftable where the header says that it is.
    #[must_use]
    pub const fn has_usable_reftable(&self) -> bool {
        self.reftable_refusal.is_none()
    }

    /// Entries of an L2 table.
    #[must_use]
    pub const fn l2_entries(&self) -> u64 {
        self.geometry.cluster_size() / L2Format::of(self).entry_bytes()
    }

    fn validate_sizes(&self) -> Result<(), HeaderError> {
        let cluster_size = self.geometry.cluster_size();
        if self.version >= 3 && self.header_length < V3_MIN_LENGTH {
            return Err(HeaderError::TooShort(self.header_length));
        }
        if u64::from(self.header_length) > cluster_size {
            return Err(HeaderError::TooLong {
                length: self.header_length,
                cluster_size,
            });
        }
        if self.backing_file_offset.0 > cluster_size {
            return Err(HeaderError::BackingFileOffset {
                offset: self.backing_file_offset,
            });
        }
        let limit = MAX_BACKING_NAME.min(cluster_size - self.backing_file_offset.0);
        if self.backing_file_offset.0 != 0 && u64::from(self.backing_file_size) > limit {
            return Err(HeaderError::BackingFileName {
                length: self.backing_file_size,
                limit,
            });
        }
        Ok(())
    }

    fn validate_features(&self, bytes: &[u8]) -> Result<(), HeaderError> {
        let unknown = self.incompatible_features & !KNOWN_INCOMPATIBLE;
        if unknown != 0 {
            return Err(HeaderError::IncompatibleFeatures { bits: unknown });
        }
        let has_compression_type = self.header_length > V3_MIN_LENGTH;
        let compression_type = if has_compression_type {
            bytes.get(104).copied().unwrap_or(0)
        } else {
            0
        };
        let bit = self.incompatible_features & COMPRESSION != 0;
        // 0 is zlib and 1 is zstd; the bit stands for "not zlib".
        if compression_type > 1 || bit != (compression_type == 1) {
            return Err(HeaderError::Compression {
                compression_type,
                bit,
            });
        }
        let cluster_size = self.geometry.cluster_size();
        if self.has_extended_l2() && cluster_size / SUBCLUSTERS < MIN_SUBCLUSTER_BYTES {
            return Err(HeaderError::Subclusters { cluster_size });
        }
        if self.autoclear_features & DATA_FILE_RAW != 0 && !self.has_data_file() {
            return Err(HeaderError::RawWithoutDataFile);
        }
        if self.crypt_method > CRYPT_LUKS {
            return Err(HeaderError::CryptMethod(self.crypt_method));
        }
        Ok(())
    }

    fn validate_tables(&self) -> Result<(), HeaderError> {
        let bytes = u64::from(self.l1_size) * TABLE_ENTRY_BYTES;
        if bytes > MAX_L1_BYTES {
            let limit = MAX_L1_BYTES;
            return Err(HeaderError::L1TooLarge { bytes, limit });
        }
        if !self.can_be_at(self.l1_table_offset, bytes) {
            let offset = self.l1_table_offset;
            return Err(HeaderError::L1Offset { offset });
        }
        let needed = self
            .size
            .div_ceil(self.l2_entries() << self.geometry.cluster_bits());
        if u64::from(self.l1_size) < needed {
            return Err(HeaderError::L1TooSmall {
                l1_size: self.l1_size,
                size: self.size,
                needed,
            });
        }
        Ok(())
    }

    fn judge_reftable(&self) -> Option<ReftableRefusal> {
        let bytes = u64::from(self.reftable_clusters) << self.geometry.cluster_bits();
        if bytes > MAX_REFTABLE_BYTES {
            return Some(ReftableRefusal::Size);
        }
        let fits = self.can_be_at(self.reftable_offset, bytes);
        (!fits).then_some(ReftableRefusal::Offset)
    }

    /// Whether a table can be there: at the beginning of a cluster, and before 2^63.
    const fn can_be_at(&self, offset: Offset, bytes: u64) -> bool {
        offset.0 <= i64::MAX as u64 - bytes && self.geometry.is_aligned(offset)
    }
}
