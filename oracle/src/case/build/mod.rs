//! From a case to the bytes of its image. First everything is laid out, in memory and without any
//! I/O; then the pieces are written. The same case always gives the same bytes.
#![expect(
    clippy::cast_possible_truncation,
    reason = "fields of the format have fixed widths; what goes into them is validated before"
)]

mod allocator;
mod deflate;
mod extras;
mod geometry;
mod guest;
mod header;
mod luks;
mod refcounts;
mod synthetic;
mod toy;

use std::collections::BTreeMap;

use super::damage::{self, Applied, DamageError, ReadWriteAt};
use super::impossible::Impossible;
use super::{Case, Image, StorageLimit};

/// References of each cluster.
type Counts = BTreeMap<u64, u64>;

/// Bytes of the marks at both ends of a data cluster.
const STAMP: usize = 32;

/// Longest image that [`bytes`] gives, in bytes.
const MEMORY_MAX: u64 = 4 << 30;

/// Bytes at a place in the file. Where pieces meet, the later one wins.
struct Piece {
    offset: u64,
    bytes: Vec<u8>,
}

/// A whole image, laid out.
pub struct Layout {
    pieces: Vec<Piece>,
    cluster_size: u64,
    /// The file's length in bytes.
    length: u64,
}

/// What was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// Length in bytes of what was written, spare space of a device included.
    pub length: u64,
    /// What the storage can hold, in bytes; `None` when it can grow.
    pub capacity: Option<u64>,
    /// What each act of damage changed.
    pub damage: Vec<Applied>,
}

/// Why an image was not built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There is no such image.
    #[error("the case is impossible: {0}")]
    Impossible(#[from] Impossible),
    /// It cannot be written.
    #[error("writing the image: {0}")]
    Io(#[from] std::io::Error),
    /// It cannot be damaged.
    #[error(transparent)]
    Damage(#[from] DamageError),
    /// Longer than memory should be filled with.
    #[error("an image of {length} bytes is too long for memory; build it in a file")]
    TooLong {
        /// Its length in bytes.
        length: u64,
    },
    /// qemu-img makes it.
    #[error("an image that qemu-img makes is not laid out by the builder")]
    Real,
}

/// Writes the case's image to an empty sink and damages it. A device that cannot grow is as long
/// as it is from the start: its spare clusters read as zeros.
pub fn build(case: &Case, sink: &mut dyn ReadWriteAt) -> Result<Built, BuildError> {
    if matches!(case.image, Image::Model(_)) && !case.damage.is_empty() {
        return Err(Impossible::DamagedModel.into());
    }
    let mut built = lay_out(&case.image)?.write(case.storage, sink)?;
    for damage in &case.damage {
        built.damage.push(damage::apply(sink, damage)?);
    }
    // Damage may cut a file short, never a device.
    if built.capacity.is_some() {
        sink.set_len(built.length)?;
    }
    built.length = sink.len();
    Ok(built)
}

/// The bytes of the case's image in memory.
pub fn bytes(case: &Case) -> Result<Vec<u8>, BuildError> {
    let length = lay_out(&case.image)?.length(case.storage).0;
    if length > MEMORY_MAX {
        return Err(BuildError::TooLong { length });
    }
    let mut bytes = Vec::new();
    build(case, &mut bytes)?;
    Ok(bytes)
}

/// Lays out an image without writing it: fails exactly where the image is impossible.
pub fn lay_out(image: &Image) -> Result<Layout, BuildError> {
    match image {
        Image::Synthetic(image) => {
            image.validate_fields()?;
            Ok(synthetic::lay_out(image)?)
        }
        Image::Model(model) => Ok(toy::lay_out(model)?),
        Image::Real(_) => Err(BuildError::Real),
    }
}

impl Layout {
    /// The length in bytes and, of a device, the capacity.
    pub(crate) fn length(&self, storage: StorageLimit) -> (u64, Option<u64>) {
        match storage {
            StorageLimit::Growing => (self.length, None),
            StorageLimit::Fixed { spare } => {
                let spare = u64::from(spare).saturating_mul(self.cluster_size);
                let length = self.length.saturating_add(spare);
                (length, Some(length))
            }
        }
    }

    /// Writes the image, undamaged, to an empty sink.
    pub fn write(
        &self,
        storage: StorageLimit,
        sink: &mut dyn ReadWriteAt,
    ) -> Result<Built, BuildError> {
        let (length, capacity) = self.length(storage);
        sink.set_len(length)?;
        for piece in &self.pieces {
            sink.write_at(piece.offset, &piece.bytes)?;
        }
        Ok(Built {
            length,
            capacity,
            damage: Vec::new(),
        })
    }
}

/// Marks both ends of a data cluster, so that writing over it or discarding it shows.
fn stamp(pieces: &mut Vec<Piece>, sizes: &geometry::Sizes, cluster: u64, kind: &str, label: u64) {
    let mut mark = |offset, end: &str| {
        let mut bytes = format!("{kind} {label:012x} {end}").into_bytes();
        bytes.resize(STAMP, b'.');
        pieces.push(Piece { offset, bytes });
    };
    let offset = sizes.offset(cluster);
    mark(offset, "begins");
    mark(offset + sizes.cluster - STAMP as u64, "ends");
}
