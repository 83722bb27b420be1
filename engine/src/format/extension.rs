//! Header extensions (specification, "Header extensions"): parsed where they refer to clusters,
//! passed over otherwise.

use super::error::ImageError;
use super::header::{CRYPT_LUKS, Header};
use super::{be32, be64};
use crate::units::{Offset, Region};

const END: u32 = 0;
const BACKING_FORMAT: u32 = 0xe279_2aca;
const CRYPTO_HEADER: u32 = 0x0537_be77;
const BITMAPS: u32 = 0x2385_2875;
const DATA_FILE: u32 = 0x4441_5441;

/// What a LUKS header begins with (specification, "Full disk encryption header pointer").
pub const LUKS_MAGIC: [u8; 6] = *b"LUKS\xba\xbe";

const PREFIX_BYTES: u64 = 8;
const CRYPTO_BYTES: u64 = 16;
const BITMAPS_BYTES: u64 = 24;
const MAX_BITMAPS: u32 = 65_535;
const MAX_DIRECTORY_BYTES: u64 = 64 << 20;
/// qemu keeps the format's name in a buffer of this size, with its final zero.
const BACKING_FORMAT_BUFFER: u64 = 16;

/// Where the bitmap directory is (specification, "Bitmaps extension").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bitmaps {
    /// Bitmaps in the directory, 1 to 65,535.
    pub count: u32,
    /// The directory, at most 64 MiB.
    pub directory: Region,
}

/// What the header extensions say about clusters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// The LUKS header (specification, "Full disk encryption header pointer").
    pub luks: Option<Region>,
    /// The bitmaps, if the autoclear bit says that they are to be believed.
    pub bitmaps: Option<Bitmaps>,
}

impl Extensions {
    /// Where the space for extensions ends: at the backing file's name, else at the first
    /// cluster's end.
    pub const fn end(header: &Header) -> u64 {
        match header.backing_file_offset {
            Offset(0) => header.geometry.cluster_size(),
            Offset(name) => name,
        }
    }

    /// Parses the extensions that follow the header in `first_cluster`.
    pub fn parse(header: &Header, first_cluster: &[u8]) -> Result<Self, ImageError> {
        let end = Self::end(header);
        let mut extensions = Self::default();
        let mut data_file = false;
        let mut position = u64::from(header.length);
        while position < end {
            let (at, data_start) = (Offset(position), position + PREFIX_BYTES);
            let magic = be32(first_cluster, position as usize);
            let length = u64::from(be32(first_cluster, position as usize + 4));
            if data_start > end || length > end - data_start {
                return Err(ImageError::ExtensionTooLong(magic, at, length, Offset(end)));
            }
            let data = first_cluster.get(data_start as usize..).unwrap_or_default();
            // A field is held to a rule.
            let hold = |field, value, holds| {
                let broken = ImageError::ExtensionField(magic, at, field, value);
                if holds { Ok(()) } else { Err(broken) }
            };
            let length_is = |holds| hold("length", length, holds);
            let aligned = |offset| header.geometry.is_aligned(offset);
            match magic {
                END => break,
                BACKING_FORMAT => length_is(length < BACKING_FORMAT_BUFFER)?,
                DATA_FILE => data_file = true,
                CRYPTO_HEADER => {
                    let (crypt, offset) = (header.crypt_method, Offset(be64(data, 0)));
                    let is_luks = crypt == CRYPT_LUKS;
                    hold("crypt_method of the image", crypt.into(), is_luks)?;
                    length_is(length == CRYPTO_BYTES)?;
                    hold("offset of the LUKS header", offset.0, aligned(offset))?;
                    let length = be64(data, 8);
                    extensions.luks = Some(Region { offset, length });
                }
                BITMAPS => {
                    length_is(length == BITMAPS_BYTES)?;
                    if header.has_consistent_bitmaps() {
                        let (count, reserved) = (be32(data, 0), be32(data, 4));
                        let (length, offset) = (be64(data, 8), Offset(be64(data, 16)));
                        let has_count = (1..=MAX_BITMAPS).contains(&count);
                        hold("reserved field", reserved.into(), reserved == 0)?;
                        hold("number of bitmaps", count.into(), has_count)?;
                        hold("offset of the directory", offset.0, aligned(offset))?;
                        let fits = length <= MAX_DIRECTORY_BYTES;
                        hold("size of the directory", length, fits)?;
                        let directory = Region { offset, length };
                        extensions.bitmaps = Some(Bitmaps { count, directory });
                    }
                }
                _ => {}
            }
            position = data_start + length.next_multiple_of(8);
        }
        if header.crypt_method == CRYPT_LUKS && extensions.luks.is_none() {
            return Err(ImageError::NoLuksHeader);
        }
        if header.has_data_file() && !data_file {
            return Err(ImageError::NoDataFile);
        }
        Ok(extensions)
    }
}
