//! Images that qemu-img makes.

use std::fs;
use std::path::Path;
use std::process::Command;

use recount_oracle::case::damage::SparseBytes;
use recount_writers::{BACKING, DATA_FILE, Start};
use tempfile::TempDir;

const IMAGE: &str = "image.qcow2";

/// An image by options of `qemu-img create` and commands of qemu-io. The names of its backing file and
/// of its data file are in the header, and the files are beside it.
pub fn image((options, commands): (&str, &[&str])) -> Result<Start, String> {
    let folder = TempDir::new().map_err(|error| error.to_string())?;
    let file = |name| folder.path().join(name);
    // Shorter than the disk.
    let backing: Vec<u8> = (1..=200).flat_map(|sector| [sector; 512]).collect();
    fs::write(file(BACKING), backing).map_err(|error| error.to_string())?;
    let create = ["create", "-q", "-f", "qcow2", "-o", options, IMAGE, "200k"];
    run(folder.path(), "qemu-img", &create)?;
    let commands = commands.iter().flat_map(|command| ["-c", *command]);
    let write: Vec<&str> = commands.chain([IMAGE]).collect();
    run(folder.path(), "qemu-io", &write)?;
    let image = read(&file(IMAGE))?;
    let is_named = |name| options.contains(name);
    if is_named(DATA_FILE) {
        return Start::with_data_file(image, read(&file(DATA_FILE))?);
    }
    let backing = is_named(BACKING).then(|| read(&file(BACKING)));
    Start::new(image, backing.transpose()?)
}

fn run(folder: &Path, program: &str, arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new(program);
    let output = command.args(arguments).current_dir(folder).output();
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

fn read(path: &Path) -> Result<SparseBytes, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let mut sparse = SparseBytes::default();
    sparse.put(0, &bytes);
    Ok(sparse)
}
