//! A failure of a subject as a folder that its maintainer can use without anything of ours: the image,
//! a script that builds it, what the clusters were before and are after, and what happened, in words.

mod account;
mod checksum;
mod chunks;
mod clusters;
mod files;
mod labels;
mod page;
pub mod script;
mod specification;
pub mod verdict;

use std::fs;
use std::path::Path;

use crate::error::{At as _, Result};
use crate::programs::{Command, Repaired};
pub use script::Origin;

/// The folder of all findings, beside the report.
pub const FOLDER: &str = "findings";
/// The page of a finding.
pub const PAGE: &str = files::PAGE;

/// One failure.
pub struct Finding<'a> {
    /// Whose it is.
    pub subject: &'a str,
    /// Under which property it is reported.
    pub property: &'a str,
    /// The case, as the report calls it.
    pub case: &'a str,
    /// The program.
    pub command: &'a Command,
    /// The image that the program got, and how that came about.
    pub origin: Origin<'a>,
    /// What happened, as the report tells it.
    pub story: &'a str,
    /// What the program said, and what it made of the image.
    pub repaired: &'a Repaired,
    /// What a guest that writes to the image destroys then, where it does.
    pub consequence: Option<&'a Consequence>,
}

/// What a guest destroys that writes to an image with wrong refcounts.
pub struct Consequence {
    /// What is lost, in words.
    pub loss: String,
    /// The command that writes, with [`Consequence::PLACE`] for the image.
    pub command: String,
}

impl Consequence {
    /// Stands for the image in the command.
    pub const PLACE: &'static str = "IMAGE";
}

impl Finding<'_> {
    /// Writes the folder `name` into that of all findings of a report.
    pub fn write(&self, report: &Path, name: &str) -> Result<()> {
        let folder = report.join(FOLDER).join(name);
        fs::create_dir_all(&folder).at(folder.display())?;
        let image = folder.join(files::IMAGE);
        self.origin.damaged.store(&image).at(image.display())?;
        let before = clusters::of(self.origin.damaged);
        let after = clusters::of(&self.repaired.image);
        let tables = [&before, &after];
        let blocks = account::of(self, tables);
        let script = script::of(&self.origin);
        for (file, text) in [
            (files::README, account::markdown(&blocks)),
            (files::PAGE, page::of(&blocks, tables, &script)),
            (files::BEFORE, clusters::text("Before", &before)),
            (files::AFTER, clusters::text("After", &after)),
            (files::SCRIPT, script),
        ] {
            let path = folder.join(file);
            fs::write(&path, text).at(path.display())?;
        }
        Ok(())
    }
}

/// Copies the findings of one report to those of another.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let (from, to) = (from.join(FOLDER), to.join(FOLDER));
    if !from.exists() {
        return Ok(());
    }
    for folder in fs::read_dir(&from).at(from.display())? {
        let folder = folder?;
        let target = to.join(folder.file_name());
        fs::create_dir_all(&target).at(target.display())?;
        for file in fs::read_dir(folder.path())? {
            let file = file?;
            let target = target.join(file.file_name());
            fs::copy(file.path(), &target).at(target.display())?;
        }
    }
    Ok(())
}
