//! A copy of the tree to break, with a target folder of its own.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::list::Mutant;
use crate::error::{At as _, Result};
use crate::process::output;

/// The copy. It stays from run to run, so that only what changed is built again.
pub struct Scratch {
    top: PathBuf,
}

impl Scratch {
    /// Brings the copy up to date with the files that git knows or would add.
    pub fn copy() -> Result<Self> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let scratch = Self {
            top: source.join("target/mutants/tree"),
        };
        let mut list = Command::new("git");
        list.args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]);
        let listed = output(list.current_dir(&source))?;
        let names: BTreeSet<&Path> = listed.split_terminator('\0').map(Path::new).collect();
        scratch.remove_all_but(&names, Path::new(""))?;
        for name in names {
            let path = source.join(name);
            let link = fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink());
            if link || !path.is_file() {
                continue;
            }
            let bytes = fs::read(&path)?;
            let target = scratch.top.join(name);
            // What is the same keeps its time, and need not be built again.
            if fs::read(&target).is_ok_and(|there| there == bytes) {
                continue;
            }
            if let Some(folder) = target.parent() {
                fs::create_dir_all(folder)?;
            }
            // With its permissions: some are run.
            fs::copy(&path, &target)?;
        }
        Ok(scratch)
    }

    /// Removes what the tree has no more, from a folder of the copy.
    fn remove_all_but(&self, names: &BTreeSet<&Path>, folder: &Path) -> Result<()> {
        let found = match fs::read_dir(self.top.join(folder)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            found => found?,
        };
        for entry in found {
            let entry = entry?;
            let name = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                self.remove_all_but(names, &name)?;
            } else if !names.contains(name.as_path()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    pub fn top(&self) -> &Path {
        &self.top
    }

    /// Where it is built.
    pub fn target(&self) -> PathBuf {
        self.top.with_file_name("target")
    }

    /// What comes of some work while a mistake is in the copy.
    pub fn broken<T>(&self, mutant: &Mutant, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let path = self.top.join(&mutant.file);
        let original = fs::read_to_string(&path).at(&mutant.file)?;
        fs::write(&path, mutant.apply(&original)?)?;
        let outcome = work();
        fs::write(&path, original)?;
        outcome
    }
}
