//! From a case to the bytes of its image, in memory and without any I/O. The same case always gives
//! the same bytes.

mod allocator;
mod deflate;
mod extras;
mod guest;
mod header;
mod luks;
mod refcounts;
mod synthetic;
mod toy;

use super::damage::{self, Applied, SparseBytes};
use super::validate::{Impossible, impossible};
use super::{Case, Image, StorageLimit};

/// What was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// The image, damaged, spare space of a device included.
    pub bytes: SparseBytes,
    /// What the storage can hold, in bytes; `None` when it can grow.
    pub capacity: Option<u64>,
    /// What each act of damage changed.
    pub damage: Vec<Applied>,
}

/// Lays the case's image out and damages it. A device that cannot grow is as long as it is from the
/// start: its spare clusters read as zeros.
pub fn build(case: &Case) -> Result<Built, Impossible> {
    if matches!(case.image, Image::Model(_)) && !case.damage.is_empty() {
        return impossible(
            "damage needs a real or synthetic image; leave out `old` for a model without reftable",
        );
    }
    let mut bytes = image(&case.image)?;
    let capacity = match case.storage {
        StorageLimit::Growing => None,
        StorageLimit::Fixed { spare } => {
            let spare = u64::from(spare).saturating_mul(cluster_size(&case.image));
            Some(bytes.len().saturating_add(spare))
        }
    };
    bytes.set_len(capacity.unwrap_or(bytes.len()));
    let acts = case.damage.iter();
    let damage = acts.map(|act| damage::apply(&mut bytes, act)).collect();
    // Damage may cut a file short, never a device.
    bytes.set_len(capacity.unwrap_or(bytes.len()));
    Ok(Built {
        bytes,
        capacity,
        damage,
    })
}

/// The image undamaged, in a file of its own length: fails exactly where the image is impossible.
pub fn image(image: &Image) -> Result<SparseBytes, Impossible> {
    match image {
        Image::Synthetic(image) => synthetic::lay_out(image),
        Image::Model(model) => toy::lay_out(model),
        Image::Real(_) => {
            impossible("it is made by qemu-img; `cargo xtask differential` runs the case")
        }
    }
}

fn cluster_size(image: &Image) -> u64 {
    match image {
        Image::Synthetic(image) => 1 << image.cluster_bits,
        Image::Model(model) => model.cluster_size(),
        Image::Real(recipe) => 1 << recipe.cluster_bits,
    }
}

/// Big-endian fields, each a number and its length in bytes, one after the other.
fn fields<const N: usize>(fields: [(u64, usize); N]) -> Vec<u8> {
    let bytes = fields.map(|(value, bytes)| value.to_be_bytes()[8 - bytes..].to_vec());
    bytes.concat()
}

/// Text, with zeros up to this length in bytes.
fn padded(text: &str, length: usize) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(length, 0);
    bytes
}
