//! A copy of the tree to break, with a target folder of its own.

use std::fs;
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
        for name in listed.split_terminator('\0') {
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
