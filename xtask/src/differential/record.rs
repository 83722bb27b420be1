//! Cases with the verdicts of qemu-img, in text, each with its damaged image beside it: what a run
//! compares with where qemu-img is not installed.

use std::fs;
use std::path::{Path, PathBuf};

use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::observed::Ended;
use recount_oracle::case::text::{self, CaseFile, Verdict};
use recount_subjects::packed;

use crate::error::{At as _, Result};
use crate::fuzz::tools::files;

/// Beside `NAME.toml` lies `NAME.image`.
const IMAGE_EXTENSION: &str = "image";

/// All recorded cases of a folder, by file name; none when the folder does not exist. Cases of other
/// commands have no image beside them.
pub fn load_all(folder: &Path) -> Result<Vec<(PathBuf, CaseFile)>> {
    load_some(folder, |path| path.with_extension(IMAGE_EXTENSION).exists())
}

/// The wanted cases of a folder, by file name; none when the folder does not exist.
pub fn load_some(
    folder: &Path,
    is_wanted: impl Fn(&Path) -> bool,
) -> Result<Vec<(PathBuf, CaseFile)>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut paths = files(folder)?;
    paths.retain(|path| path.extension().is_some_and(|it| it == "toml") && is_wanted(path));
    let read = |path: PathBuf| text::read(&path).map(|record| (path, record));
    Ok(paths.into_iter().map(read).collect::<Result<_, _>>()?)
}

/// The damaged image of the record at `path`.
pub fn load_image(path: &Path) -> Result<SparseBytes> {
    let path = path.with_extension(IMAGE_EXTENSION);
    let packed = fs::read(&path).at(path.display())?;
    packed::unpack(&packed).at(path.display())
}

/// Writes a record, and its image unless that is there already.
pub fn store(path: &Path, record: &CaseFile, image: Option<&[u8]>) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text::print(record)).at(path.display())?;
    if let Some(bytes) = image {
        fs::write(path.with_extension(IMAGE_EXTENSION), bytes).at(path.display())?;
    }
    Ok(())
}

/// How `-r all` of some program ended.
pub fn verdict_of(ended: Ended) -> Verdict {
    Verdict {
        exit: match ended {
            Ended::Code(code) => Some(code),
            _ => None,
        },
        timed_out: (ended == Ended::TimedOut).then_some(true),
        ..Verdict::default()
    }
}
