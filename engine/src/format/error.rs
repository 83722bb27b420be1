//! Why an image cannot be opened.

use super::header::MAX_L1_BYTES;
use crate::geometry::GeometryError;
use crate::storage::StorageError;
use crate::units::Offset;

/// Why an image cannot be opened. It has not been changed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "they are what their names and texts say")]
#[non_exhaustive]
pub enum ImageError {
    #[error("not a qcow2 image: its magic (bytes 0 to 3) is {0:#010x} instead of 0x514649fb")]
    Magic(u32),
    #[error(
        "this is no image but an undo file of recount: `recount undo FILE` puts back what a repair \
         replaced in the image"
    )]
    UndoFile,
    #[error("version (bytes 4 to 7) is {0}; only versions 2 and 3 are known")]
    Version(u32),
    #[error("{0} (cluster_bits: bytes 20 to 23, refcount_order: bytes 96 to 99)")]
    Geometry(#[from] GeometryError),
    #[error("header_length (bytes 100 to 103) is {0}, but a version 3 header has at least 104")]
    TooShort(u64),
    #[error("header_length (bytes 100 to 103) is {0}, more than a cluster of {1}")]
    TooLong(u64, u64),
    #[error("backing_file_offset (bytes 8 to 15) is {0}, past the first cluster")]
    BackingFileOffset(Offset),
    #[error("backing_file_size (bytes 16 to 19) is {0}, more than the {1} that fit")]
    BackingFileName(u64, u64),
    #[error(
        "incompatible_features (bytes 72 to 79) has the unknown bits {0:#x}: a newer program \
         is needed for this image"
    )]
    IncompatibleFeatures(u64),
    #[error(
        "compression_type (byte 104) is {0}, which incompatible feature bit 3 being {bit} does not \
         allow", bit = if *.1 { "set" } else { "clear" }
    )]
    Compression(u8, bool),
    #[error("extended L2 entries need clusters of at least 16384 bytes, these have {0}")]
    Subclusters(u64),
    #[error(
        "l1_size (bytes 36 to 39) makes a table of {0} bytes, more than the {limit} with which an \
         image can be opened", limit = MAX_L1_BYTES
    )]
    L1TooLarge(u64),
    #[error(
        "l1_table_offset (bytes 40 to 47) is {0}, which is not a multiple of the cluster size \
         below 2^63"
    )]
    L1Offset(Offset),
    #[error(
        "l1_size (bytes 36 to 39) is {0}, but size (bytes 24 to 31), {1}, needs {2} L1 entries"
    )]
    L1TooSmall(u32, u64, u64),
    #[error(
        "autoclear_features (bytes 88 to 95) has bit 1, a raw external data file, but \
         incompatible_features (bytes 72 to 79) has no bit 2, an external data file"
    )]
    RawWithoutDataFile,
    #[error("crypt_method (bytes 32 to 35) is {0}; only 0, 1 and 2 are known")]
    CryptMethod(u32),
    #[error(
        "header extension {0:#010x} at offset {1}: its length, {2}, reaches past the end of the \
         extensions at {3}"
    )]
    ExtensionTooLong(u32, Offset, u64, Offset),
    #[error("header extension {0:#010x} at offset {1}: {2} is {3:#x}")]
    ExtensionField(u32, Offset, &'static str, u64),
    #[error("crypt_method (bytes 32 to 35) says LUKS, but the header has no extension 0x0537be77")]
    NoLuksHeader,
    #[error(
        "incompatible feature bit 2 says that data is in another file, but the header has no \
         extension 0x44415441 with its name"
    )]
    NoDataFile,
    #[error(
        "the LUKS header at offset {offset} has an impossible length or does not begin with \"LUKS\", \
         0xba, 0xbe: without it the image cannot be decrypted. Put a backup of it back first"
    )]
    Luks { offset: Offset },
    #[error(transparent)]
    Storage(#[from] StorageError),
}
