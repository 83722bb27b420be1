//! Makes the image of a case and damages it.

use std::fs::File;
use std::path::Path;

use recount_oracle::case::damage::{self, Applied, Damage, SparseBytes};
use recount_oracle::case::real::Kind;
use recount_oracle::case::synthetic::Synthetic;
use recount_oracle::case::{Case, Image, build};

use super::examine::Exhibit;
use super::guest::GuestData;
use super::make::Maker;
use super::run::RunError;

/// An image before any damage, with what qemu needs beside it in its folder.
pub struct Whole {
    image: SparseBytes,
    guest: GuestData,
    encrypted: bool,
}

/// A copy of it after the damage.
pub struct Damaged {
    /// The bytes.
    pub image: SparseBytes,
    /// The acts of damage, and the bytes that each changed.
    pub acts: Vec<(Damage, Applied)>,
}

impl Whole {
    /// Makes the image of a case; its companions stay in `directory`.
    pub fn make(case: &Case, maker: &Maker, directory: &Path) -> Result<Self, RunError> {
        let (image, encrypted) = match &case.image {
            Image::Real(recipe) => {
                let made = maker.make(recipe, directory)?;
                (made, recipe.kind == Kind::Luks)
            }
            Image::Synthetic(synthetic) => {
                companion(synthetic, directory)?;
                (build::image(&case.image)?, synthetic.luks)
            }
            Image::Model(_) => return Err(RunError::Toy),
        };
        Ok(Self {
            guest: GuestData::read(&image),
            image,
            encrypted,
        })
    }

    /// Does the damage to a copy.
    pub fn damage(&self, acts: &[Damage]) -> Damaged {
        let mut image = self.image.clone();
        let acts = acts.iter();
        let acts = acts.map(|act| (act.clone(), damage::apply(&mut image, act)));
        let acts = acts.collect();
        Damaged { image, acts }
    }

    /// For everyone to look at.
    pub const fn exhibit<'a>(&'a self, directory: &'a Path, damaged: &'a Damaged) -> Exhibit<'a> {
        Exhibit {
            directory,
            encrypted: self.encrypted,
            damaged: &damaged.image,
            acts: damaged.acts.as_slice(),
            whole: &self.guest,
        }
    }
}

/// The backing file that qemu-img opens with the image.
fn companion(image: &Synthetic, directory: &Path) -> Result<(), RunError> {
    if let Some(name) = &image.backing {
        File::create(directory.join(name))?.set_len(512)?;
    }
    Ok(())
}
