//! Makes the images of recipes with qemu-img and qemu-io.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::observed::Ended;
use recount_oracle::case::real::{Kind, Recipe};

use super::disk;
use super::program::{self, Limits, Output};
use super::recipe::{self, Call, Tool};
use crate::error::Result;

/// No image that is made, nor its data file, is longer than this.
const LIMITS: Limits = Limits::for_image(1 << 41);
/// The file that a recipe's image is made in.
const IMAGE: &str = "base.qcow2";

/// qemu-img and qemu-io, and encrypted images already created: each takes qemu-img two seconds of
/// finding out how many iterations a key needs.
pub struct Maker {
    qemu_img: PathBuf,
    qemu_io: PathBuf,
    encrypted: Mutex<HashMap<Recipe, SparseBytes>>,
}

impl Maker {
    /// By these programs.
    pub fn new(qemu_img: PathBuf, qemu_io: PathBuf) -> Self {
        Self {
            qemu_img,
            qemu_io,
            encrypted: Mutex::default(),
        }
    }

    /// The image of a recipe, made in `directory`, where its backing or data file stays.
    pub fn make(&self, recipe: &Recipe, directory: &Path) -> Result<SparseBytes> {
        self.create(recipe, directory)?;
        for call in recipe::steps(recipe, IMAGE) {
            // qemu refuses a snapshot that does not exist, or exists; the image is good still.
            self.run(&call, directory)?;
        }
        Ok(disk::load(&directory.join(IMAGE), u64::MAX)?)
    }

    fn create(&self, recipe: &Recipe, directory: &Path) -> Result<()> {
        let path = directory.join(IMAGE);
        if recipe.kind != Kind::Luks {
            return self.create_anew(recipe, directory);
        }
        let encrypted = self.encrypted.lock();
        let mut encrypted = encrypted.unwrap_or_else(PoisonError::into_inner);
        let plain = Recipe {
            steps: Vec::new(),
            ..recipe.clone()
        };
        if let Some(image) = encrypted.get(&plain) {
            return Ok(image.store(&path)?);
        }
        self.create_anew(recipe, directory)?;
        encrypted.insert(plain, disk::load(&path, u64::MAX)?);
        Ok(())
    }

    fn create_anew(&self, recipe: &Recipe, directory: &Path) -> Result<()> {
        self.companions(recipe, directory)?;
        let said = self.run(&recipe::create(recipe, IMAGE), directory)?;
        if said.ended == Ended::Code(0) {
            return Ok(());
        }
        let (options, message) = (recipe::options(recipe), said.stderr.trim());
        Err(format!("qemu-img refuses to create {options}: {message}").into())
    }

    /// Makes the files that qemu needs beside the image: its backing or data file.
    pub fn companions(&self, recipe: &Recipe, directory: &Path) -> Result<()> {
        if recipe.kind == Kind::DataFile {
            File::create(directory.join(recipe::DATA_FILE))?.set_len(recipe.virtual_size())?;
        }
        for call in recipe::backing(recipe) {
            self.run(&call, directory)?;
        }
        Ok(())
    }

    fn run(&self, call: &Call, directory: &Path) -> Result<Output> {
        let program = match call.tool {
            Tool::Img => &self.qemu_img,
            Tool::Io => &self.qemu_io,
        };
        program::run(program, &call.arguments, directory, &LIMITS)
    }
}
