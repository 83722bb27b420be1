//! Makes the images of recipes with qemu-img and qemu-io.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::observed::Ended;
use recount_oracle::case::real::{Kind, Preallocation, Recipe, Step};

use super::disk;
use super::subject::program::{self, Limits, Output};
use super::subject::{SECRET, image_arguments};
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
        let mut commands = Vec::new();
        for step in &recipe.steps {
            if let Some(command) = image_command(step) {
                self.qemu_io(recipe, &mut commands, directory)?;
                // qemu refuses a snapshot that does not exist, or exists; the image is good still.
                self.qemu_img(&command, directory)?;
            } else {
                commands.push(io_command(step, recipe));
                if matches!(step, Step::Kill) {
                    self.qemu_io(recipe, &mut commands, directory)?;
                }
            }
        }
        self.qemu_io(recipe, &mut commands, directory)?;
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
        let (options, size) = (create_options(recipe), recipe.virtual_size());
        let key = match recipe.kind {
            Kind::Luks => format!("--object {SECRET} "),
            _ => String::new(),
        };
        let create = format!("create -q -fqcow2 {key}-o {options} {IMAGE} {size}");
        let said = self.qemu_img(&create, directory)?;
        if said.ended == Ended::Code(0) {
            return Ok(());
        }
        let message = said.stderr.trim();
        Err(format!("qemu-img refuses to create {options}: {message}").into())
    }

    /// Makes the files that qemu needs beside the image: its backing or data file.
    pub fn companions(&self, recipe: &Recipe, directory: &Path) -> Result<()> {
        let size = recipe.virtual_size();
        match recipe.kind {
            Kind::Backing => {
                let create = format!("create -q -fqcow2 backing.qcow2 {size}");
                self.qemu_img(&create, directory)?;
                let write = ["-c", "write -q -P 85 0 512", "backing.qcow2"];
                program::run(&self.qemu_io, write, directory, &LIMITS)?;
            }
            Kind::DataFile => File::create(directory.join("data.raw"))?.set_len(size)?,
            Kind::Plain | Kind::Luks => {}
        }
        Ok(())
    }

    /// Runs qemu-img with arguments that have no spaces.
    fn qemu_img(&self, arguments: &str, directory: &Path) -> Result<Output> {
        program::run(&self.qemu_img, arguments.split(' '), directory, &LIMITS)
    }

    /// Runs the commands collected so far in one qemu-io.
    fn qemu_io(&self, recipe: &Recipe, commands: &mut Vec<String>, directory: &Path) -> Result<()> {
        if commands.is_empty() {
            return Ok(());
        }
        let mut arguments = Vec::new();
        for command in commands.drain(..) {
            arguments.extend(["-c".to_owned(), command]);
        }
        arguments.extend(image_arguments(IMAGE, recipe.kind == Kind::Luks));
        program::run(&self.qemu_io, arguments, directory, &LIMITS)?;
        Ok(())
    }
}

fn create_options(recipe: &Recipe) -> String {
    let mut options = vec![
        format!("cluster_size={}", 1_u32 << recipe.cluster_bits),
        format!("compat={}", if recipe.version_2 { "0.10" } else { "1.1" }),
        format!("refcount_bits={}", 1 << recipe.refcount_order),
    ];
    for (chosen, option) in [
        (recipe.zstd, "compression_type=zstd"),
        (recipe.extended_l2, "extended_l2=on"),
        (recipe.lazy_refcounts, "lazy_refcounts=on"),
    ] {
        options.extend(chosen.then(|| option.to_owned()));
    }
    let kind = match recipe.kind {
        Kind::Plain => None,
        Kind::Backing => Some("backing_file=backing.qcow2,backing_fmt=qcow2"),
        Kind::DataFile => Some("data_file=data.raw"),
        Kind::Luks => Some("encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=1"),
    };
    let preallocation = match recipe.preallocation {
        Preallocation::Off => None,
        Preallocation::Metadata => Some("preallocation=metadata"),
        Preallocation::Falloc => Some("preallocation=falloc"),
        Preallocation::Full => Some("preallocation=full"),
    };
    options.extend(kind.into_iter().chain(preallocation).map(str::to_owned));
    options.join(",")
}

/// The arguments of qemu-img for a step; `None` for those that qemu-io does.
fn image_command(step: &Step) -> Option<String> {
    Some(match step {
        Step::Snapshot(number) => format!("snapshot -c s{number} {IMAGE}"),
        Step::DeleteSnapshot(number) => format!("snapshot -d s{number} {IMAGE}"),
        Step::ApplySnapshot(number) => format!("snapshot -a s{number} {IMAGE}"),
        Step::Bitmap(number) => format!("bitmap --add -g 64k {IMAGE} b{number}"),
        Step::RemoveBitmap(number) => format!("bitmap --remove {IMAGE} b{number}"),
        _ => return None,
    })
}

/// The qemu-io command of a step, within the guest's disk.
fn io_command(step: &Step, recipe: &Recipe) -> String {
    let disk = recipe.virtual_size();
    let cluster_size = 1_u64 << recipe.cluster_bits;
    let start = |cluster: u32| u64::from(cluster % recipe.virtual_clusters) * cluster_size;
    let range = |start: u64, length: u64| format!("{start} {}", length.min(disk - start));
    match *step {
        Step::Write {
            cluster,
            skip,
            sectors,
            pattern,
        } => {
            let skipped = start(cluster) + u64::from(skip) * 512 % cluster_size;
            let from = skipped.min(disk - 512);
            let range = range(from, (u64::from(sectors) + 1) * 512);
            format!("write -q -P {pattern} {range}")
        }
        Step::Compressed { cluster, pattern } => {
            let range = range(start(cluster), cluster_size);
            format!("write -q -c -P {pattern} {range}")
        }
        Step::Zeroes {
            cluster,
            clusters,
            unmap,
        } => {
            let range = range(start(cluster), (u64::from(clusters) + 1) * cluster_size);
            format!("write -q -z {} {range}", if unmap { "-u" } else { "-q" })
        }
        Step::Discard { cluster, clusters } => {
            let range = range(start(cluster), (u64::from(clusters) + 1) * cluster_size);
            format!("discard -q {range}")
        }
        // Steps of qemu-img never come here.
        _ => "sigraise 9".to_owned(),
    }
}
