//! What the tests of cases and of the audit share: cases from seeds, and qemu-img where installed.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use arbitrary::{Arbitrary, Unstructured};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use recount_oracle::case::damage::SparseBytes;
use serde_json::Value;

/// The value that a seed stands for.
pub fn from_seed<T: for<'a> Arbitrary<'a>>(seed: u64) -> T {
    let mut bytes = vec![0; 4096];
    ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
    T::arbitrary(&mut Unstructured::new(&bytes)).unwrap()
}

/// What `qemu-img check` said.
pub struct Check {
    pub exit: Option<i32>,
    /// `null` when it gave up.
    pub json: Value,
    pub stderr: String,
}

/// Checks an image with qemu-img.
pub fn qemu_img_check(image: &Path) -> Check {
    let mut command = Command::new("qemu-img");
    command.args(["check", "--output=json", "-f", "qcow2"]);
    let output = command.arg(image).output().expect("qemu-img");
    Check {
        exit: output.status.code(),
        json: serde_json::from_slice(&output.stdout).unwrap_or_default(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A directory for images, with the backing file that synthetic images name.
pub struct Scratch {
    directory: tempfile::TempDir,
}

impl Scratch {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("base.raw"), vec![1; 1 << 16]).unwrap();
        Self { directory }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A new file with these bytes, to be read.
    pub fn store(&self, name: &str, bytes: &SparseBytes) -> File {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true);
        let file = options.open(self.path(name)).unwrap();
        for (offset, page) in bytes.pages() {
            file.write_all_at(page, offset).unwrap();
        }
        file.set_len(bytes.len()).unwrap();
        file
    }
}
