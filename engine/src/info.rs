//! What the header and the tables of an image say, each part as far as it can be read: also of an image
//! that cannot be opened. Nothing is held against anything else.

use crate::format::ImageError;
use crate::format::bitmap::BitmapEntry;
use crate::format::extension::{Bitmaps, Extensions};
pub use crate::format::header::FEATURES;
use crate::format::header::{Header, KNOWN_BYTES};
use crate::image::{Extent, Image};
use crate::references::{CheckError, HeaderTables, SnapshotTable, read_directory};
use crate::storage::Storage;
use crate::units::Offset;

/// What an image says of itself.
#[derive(Debug)]
pub struct Info {
    /// The header, which may break rules, and its extensions up to the first that does.
    pub image: Image,
    /// The first rule that is broken: then nobody opens the image.
    pub broken: Option<ImageError>,
    /// The snapshot table; nothing where the header names no snapshot.
    pub snapshots: Option<Result<SnapshotTable, CheckError>>,
    /// The bitmaps up to the first that makes no sense; nothing where the header names none.
    pub bitmaps: Option<Result<Vec<BitmapEntry>, CheckError>>,
}

impl Info {
    /// Reads what can be read; an error where the fields of the header cannot be told.
    pub fn read(storage: &dyn Storage) -> Result<Self, ImageError> {
        let mut known = [0; KNOWN_BYTES];
        storage.read_at(Offset(0), &mut known)?;
        let header = Header::read(&known)?;
        let length = Extensions::end(&header).min(storage.len());
        let mut first_cluster = vec![0; length as usize];
        storage.read_at(Offset(0), &mut first_cluster)?;
        let mut extensions = Extensions::default();
        // What is wrong with them is what keeps the image from being opened.
        let _ = extensions.read(&header, &first_cluster);
        let image = Image {
            extent: Extent::of(storage, &header.geometry),
            header,
            extensions,
        };
        let snapshots = (image.header.nb_snapshots > 0)
            .then(|| SnapshotTable::read(&image, storage, HeaderTables::NotFollowed, &mut ()));
        let bitmaps = image.extensions.claimed_bitmaps;
        let bitmaps = bitmaps.map(|Bitmaps { count, directory }| {
            let (entries, _) = read_directory(&image, storage, count, directory)?;
            Ok(entries)
        });
        Ok(Self {
            broken: Image::open(storage).err(),
            image,
            snapshots,
            bitmaps,
        })
    }
}
