//! Makes the image of a case, damages it, and says what the oracle sees in it before anyone repairs
//! it.

use std::fs::File;
use std::path::Path;

use recount_oracle::audit::{self, Audit, Unreadable};
use recount_oracle::case::damage::{self, Applied, Damage, SparseBytes};
use recount_oracle::case::real::Kind;
use recount_oracle::case::{Case, Image, build};
use recount_oracle::class::{self, Class, Diagnosis};
use recount_oracle::guest::GuestData;

use super::subject::{Bench, Maker};
use crate::error::Result;

/// An image before any damage, with what qemu needs beside it in its folder.
pub struct Whole<'a> {
    pub bench: Bench<'a>,
    pub image: SparseBytes,
    guest: GuestData,
}

impl<'a> Whole<'a> {
    /// Makes the image of a case; its companions stay in `directory`.
    pub fn make(case: &Case, maker: &Maker, directory: &'a Path) -> Result<Self> {
        let image =
            match &case.image {
                Image::Real(recipe) => maker.make(recipe, directory)?,
                Image::Synthetic(synthetic) => {
                    // The backing file that qemu-img opens with the image.
                    if let Some(name) = &synthetic.backing {
                        File::create(directory.join(name))?.set_len(512)?;
                    }
                    build::image(&case.image)?
                }
                Image::Model(_) => return Err(
                    "a toy is no image that a program could repair; `cargo xtask replay` runs it"
                        .into(),
                ),
            };
        Ok(Self {
            bench: bench(case, directory),
            guest: GuestData::read(&image),
            image,
        })
    }

    pub fn damage(&self, damage: &[Damage]) -> Exhibit<'_> {
        let mut damaged = self.image.clone();
        let mut acts = Vec::new();
        for act in damage {
            acts.push((act.clone(), damage::apply(&mut damaged, act)));
        }
        Exhibit {
            acts,
            whole: Some(&self.guest),
            ..Exhibit::new(self.bench, damaged)
        }
    }
}

/// Where to work at a case's image.
pub fn bench<'a>(case: &Case, directory: &'a Path) -> Bench<'a> {
    Bench {
        directory,
        encrypted: match &case.image {
            Image::Real(recipe) => recipe.kind == Kind::Luks,
            Image::Synthetic(image) => image.luks,
            Image::Model(_) => false,
        },
    }
}

/// A damaged image, ready.
pub struct Exhibit<'a> {
    pub bench: Bench<'a>,
    pub damaged: SparseBytes,
    /// The acts of damage, and the bytes that each changed.
    pub acts: Vec<(Damage, Applied)>,
    /// What the guest saw before the damage, where that is known.
    pub whole: Option<&'a GuestData>,
    /// What a check finds, or why only what a check says is compared.
    pub audit: Result<Audit, Unreadable>,
    /// What is damaged.
    pub diagnosis: Option<Diagnosis>,
}

impl<'a> Exhibit<'a> {
    /// Of an image of which no more is known.
    pub fn new(bench: Bench<'a>, damaged: SparseBytes) -> Self {
        let audit = audit::audit(&damaged);
        let diagnose = |audit| class::diagnose(&damaged, audit).ok();
        Self {
            bench,
            diagnosis: audit.as_ref().ok().and_then(diagnose),
            audit,
            damaged,
            acts: Vec::new(),
            whole: None,
        }
    }

    /// The class, on which it depends what is compared.
    pub fn is(&self, class: Class) -> bool {
        self.diagnosis
            .as_ref()
            .is_some_and(|diagnosis| diagnosis.class == class)
    }

    /// Whether it takes the naive reader too long, so that next to nothing is asked of it.
    pub const fn is_too_much(&self) -> bool {
        matches!(self.audit, Err(Unreadable::TooMuchWork))
    }

    /// Bytes of the damaged image.
    pub fn length(&self) -> u64 {
        SparseBytes::len(&self.damaged)
    }
}
