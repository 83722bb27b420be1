//! Header extensions (specification, "Header extensions"): parsed where they refer to clusters,
//! passed over otherwise.

use super::header::{CRYPT_LUKS, Header};
use super::{be32, be64};
use crate::units::Offset;

const END: u32 = 0;
const BACKING_FORMAT: u32 = 0xe279_2aca;
const CRYPTO_HEADER: u32 = 0x0537_be77;
const BITMAPS: u32 = 0x2385_2875;
const DATA_FILE: u32 = 0x4441_5441;

/// What a LUKS header begins with (specification, "Full disk encryption header pointer").
pub const LUKS_MAGIC: [u8; 6] = *b"LUKS\xba\xbe";

const PREFIX_BYTES: usize = 8;
const CRYPTO_BYTES: u32 = 16;
const BITMAPS_BYTES: u32 = 24;
const MAX_BITMAPS: u32 = 65_535;
const MAX_BITMAP_DIRECTORY_BYTES: u64 = 64 << 20;
/// qemu keeps the format's name in a buffer of this size, with its final zero.
const BACKING_FORMAT_BUFFER: u32 = 16;

/// Why a header extension cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtensionError {
    /// It reaches past the space for extensions.
    #[error(
        "header extension {magic:#010x} at offset {position}: its length, {length}, reaches past \
         the end of the extensions at {end}"
    )]
    TooLong {
        /// Which extension.
        magic: u32,
        /// Where it begins.
        position: Offset,
        /// What its length field says.
        length: u32,
        /// Where the space for extensions ends.
        end: Offset,
    },
    /// A field of it has a value that it must not have.
    #[error("header extension {magic:#010x} at offset {position}: {field} is {value:#x}")]
    Field {
        /// Which extension.
        magic: u32,
        /// Where it begins.
        position: Offset,
        /// Which field.
        field: &'static str,
        /// What it says.
        value: u64,
    },
    /// The image is encrypted with LUKS and says nowhere where the LUKS header is.
    #[error("crypt_method (bytes 32 to 35) says LUKS, but the header has no extension 0x0537be77")]
    NoLuksHeader,
    /// Guest data is in another file, and the header says nowhere in which.
    #[error(
        "incompatible feature bit 2 says that data is in another file, but the header has no \
         extension 0x44415441 with its name"
    )]
    NoDataFile,
}

/// Where the LUKS header is (specification, "Full disk encryption header pointer").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LuksHeader {
    /// Its first byte.
    pub offset: Offset,
    /// Its length in bytes.
    pub length: u64,
}

/// Where the bitmap directory is (specification, "Bitmaps extension").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bitmaps {
    /// Bitmaps in the directory, 1 to 65,535.
    pub count: u32,
    /// The directory's first byte.
    pub directory_offset: Offset,
    /// The directory's length in bytes, at most 64 MiB.
    pub directory_size: u64,
}

/// What the header extensions say about clusters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// The LUKS header.
    pub luks: Option<LuksHeader>,
    /// The bitmaps, if the autoclear bit says that they are to be believed.
    pub bitmaps: Option<Bitmaps>,
}

impl Extensions {
    /// Where the space for extensions ends: at the backing file's name, else at the first
    /// cluster's end.
    #[must_use]
    pub const fn end(header: &Header) -> Offset {
        if header.backing_file_offset.0 == 0 {
            Offset(header.geometry.cluster_size())
        } else {
            header.backing_file_offset
        }
    }

    /// Parses the extensions that follow the header in `first_cluster`.
    pub fn parse(header: &Header, first_cluster: &[u8]) -> Result<Self, ExtensionError> {
        let end = Self::end(header).0;
        let mut extensions = Self::default();
        let mut data_file = false;
        let mut position = u64::from(header.header_length);
        while position < end {
            let data_start = position + PREFIX_BYTES as u64;
            let magic = be32(first_cluster, position as usize);
            let length = be32(first_cluster, position as usize + 4);
            if data_start > end || u64::from(length) > end - data_start {
                let (position, end) = (Offset(position), Offset(end));
                return Err(ExtensionError::TooLong {
                    magic,
                    position,
                    length,
                    end,
                });
            }
            let data = first_cluster.get(data_start as usize..).unwrap_or_default();
            let extension = Extension {
                magic,
                length,
                position: Offset(position),
                data,
            };
            match magic {
                END => break,
                BACKING_FORMAT if length >= BACKING_FORMAT_BUFFER => {
                    return Err(extension.field("length", u64::from(length)));
                }
                CRYPTO_HEADER => extensions.luks = Some(extension.luks(header)?),
                DATA_FILE => data_file = true,
                BITMAPS => extensions.bitmaps = extension.bitmaps(header)?,
                _ => {}
            }
            position = data_start + u64::from(length).next_multiple_of(8);
        }
        if header.crypt_method == CRYPT_LUKS && extensions.luks.is_none() {
            return Err(ExtensionError::NoLuksHeader);
        }
        if header.has_data_file() && !data_file {
            return Err(ExtensionError::NoDataFile);
        }
        Ok(extensions)
    }
}

/// One extension, as it lies in the header.
struct Extension<'a> {
    magic: u32,
    length: u32,
    position: Offset,
    data: &'a [u8],
}

impl Extension<'_> {
    const fn field(&self, field: &'static str, value: u64) -> ExtensionError {
        ExtensionError::Field {
            magic: self.magic,
            position: self.position,
            field,
            value,
        }
    }

    fn luks(&self, header: &Header) -> Result<LuksHeader, ExtensionError> {
        if header.crypt_method != CRYPT_LUKS {
            return Err(self.field("crypt_method of the image", header.crypt_method.into()));
        }
        if self.length != CRYPTO_BYTES {
            return Err(self.field("length", self.length.into()));
        }
        let luks = LuksHeader {
            offset: Offset(be64(self.data, 0)),
            length: be64(self.data, 8),
        };
        if !header.geometry.is_aligned(luks.offset) {
            return Err(self.field("offset of the LUKS header", luks.offset.0));
        }
        Ok(luks)
    }

    fn bitmaps(&self, header: &Header) -> Result<Option<Bitmaps>, ExtensionError> {
        if self.length != BITMAPS_BYTES {
            return Err(self.field("length", self.length.into()));
        }
        if !header.has_consistent_bitmaps() {
            return Ok(None);
        }
        let reserved = be32(self.data, 4);
        if reserved != 0 {
            return Err(self.field("reserved field", reserved.into()));
        }
        let bitmaps = Bitmaps {
            count: be32(self.data, 0),
            directory_size: be64(self.data, 8),
            directory_offset: Offset(be64(self.data, 16)),
        };
        if bitmaps.count == 0 || bitmaps.count > MAX_BITMAPS {
            return Err(self.field("number of bitmaps", bitmaps.count.into()));
        }
        if !header.geometry.is_aligned(bitmaps.directory_offset) {
            return Err(self.field("offset of the directory", bitmaps.directory_offset.0));
        }
        if bitmaps.directory_size > MAX_BITMAP_DIRECTORY_BYTES {
            return Err(self.field("size of the directory", bitmaps.directory_size));
        }
        Ok(Some(bitmaps))
    }
}
