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
    /// The same whatever it says; held to no rule.
    pub claimed_bitmaps: Option<Bitmaps>,
    /// Where the names of the backing file's format and of the external data file are; 0 without one.
    pub backing_format: Region,
    pub data_file: Region,
}

impl Extensions {
    /// Where the space for extensions ends: at the backing file's name, else at the first
    /// cluster's end.
    pub fn end(header: &Header) -> u64 {
        let cluster_size = header.geometry.cluster_size();
        match header.backing_file_offset {
            Offset(0) => cluster_size,
            Offset(name) => name.min(cluster_size),
        }
    }

    /// Parses the extensions that follow the header in `first_cluster`.
    pub fn parse(header: &Header, first_cluster: &[u8]) -> Result<Self, ImageError> {
        let mut extensions = Self::default();
        extensions.read(header, first_cluster)?;
        Ok(extensions)
    }

    /// The same; what comes before the first that breaks a rule is there all the same.
    pub fn read(&mut self, header: &Header, first_cluster: &[u8]) -> Result<(), ImageError> {
        let end = Self::end(header);
        let mut position = u64::from(header.length);
        while position < end {
            let (at, data_start) = (Offset(position), position + PREFIX_BYTES);
            let magic = be32(first_cluster, position as usize);
            let length = u64::from(be32(first_cluster, position as usize + 4));
            if data_start > end || length > end - data_start {
                return Err(ImageError::ExtensionTooLong(magic, at, length, Offset(end)));
            }
            let data = first_cluster.get(data_start as usize..).unwrap_or_default();
            let offset = Offset(data_start);
            let region = Region { offset, length };
            // A field is held to a rule.
            let hold = |field, value, holds| {
                let broken = ImageError::ExtensionField(magic, at, field, value);
                if holds { Ok(()) } else { Err(broken) }
            };
            let length_is = |holds| hold("length", length, holds);
            let aligned = |offset| header.geometry.is_aligned(offset);
            match magic {
                END => break,
                BACKING_FORMAT => {
                    self.backing_format = region;
                    length_is(length < BACKING_FORMAT_BUFFER)?;
                }
                DATA_FILE => self.data_file = region,
                CRYPTO_HEADER => {
                    let (crypt, offset) = (header.crypt_method, Offset(be64(data, 0)));
                    let is_luks = crypt == CRYPT_LUKS;
                    hold("crypt_method of the image", crypt.into(), is_luks)?;
                    length_is(length == CRYPTO_BYTES)?;
                    hold("offset of the LUKS header", offset.0, aligned(offset))?;
                    let length = be64(data, 8);
                    self.luks = Some(Region { offset, length });
                }
                BITMAPS => {
                    length_is(length == BITMAPS_BYTES)?;
                    let (count, reserved) = (be32(data, 0), be32(data, 4));
                    let (length, offset) = (be64(data, 8), Offset(be64(data, 16)));
                    let directory = Region { offset, length };
                    self.claimed_bitmaps = Some(Bitmaps { count, directory });
                    if header.has_consistent_bitmaps() {
                        let has_count = (1..=MAX_BITMAPS).contains(&count);
                        hold("reserved field", reserved.into(), reserved == 0)?;
                        hold("number of bitmaps", count.into(), has_count)?;
                        hold("offset of the directory", offset.0, aligned(offset))?;
                        let fits = length <= MAX_DIRECTORY_BYTES;
                        hold("size of the directory", length, fits)?;
                        self.bitmaps = self.claimed_bitmaps;
                    }
                }
                _ => {}
            }
            position = data_start + length.next_multiple_of(8);
        }
        if header.crypt_method == CRYPT_LUKS && self.luks.is_none() {
            return Err(ImageError::NoLuksHeader);
        }
        if header.has_data_file() && self.data_file.offset == Offset(0) {
            return Err(ImageError::NoDataFile);
        }
        Ok(())
    }
}
