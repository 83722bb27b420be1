//! `recount info`: what the header and the tables of an image say. It reads only, and goes on behind
//! what cannot be read.

mod json;
pub mod parts;
mod text;

use std::path::Path;

use recount::info::Info;
use recount::storage::Storage;
use recount::{CheckError, Report};

use crate::args::{InfoArguments, OutputFormat};
use crate::failure::Failure;
use crate::name;
use crate::output::pretty;
use crate::progress::Progress;
use crate::terminal::Terminal;
use parts::{Bitmap, Feature, OtherFile, Part, Snapshot};

/// All that is shown of an image.
struct Shown<'a> {
    /// The name that was given.
    name: &'a Path,
    info: Info,
    file_length: u64,
    features: Vec<Feature>,
    backing: Option<OtherFile>,
    /// The format that the image has for its backing file.
    backing_format: Option<String>,
    data_file: Option<OtherFile>,
    snapshots: Part<Snapshot>,
    bitmaps: Part<Bitmap>,
    /// What a check counts, or why there is none.
    check: Result<Report, CheckError>,
}

/// Runs the command; the exit code is 0 wherever the header can be read.
pub fn run(arguments: &InfoArguments, terminal: &mut Terminal) -> Result<u8, Failure> {
    let (file, storage) = &name::open(&arguments.image)?;
    let info = Info::read(storage);
    let info = info.map_err(|error| Failure::of_check(file, &error.into(), storage))?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let shown = Shown {
        name: &arguments.image.name,
        file_length: storage.len(),
        features: Feature::all(&info.image),
        backing: OtherFile::backing(&info.image, folder, storage),
        backing_format: parts::backing_format(&info.image, storage),
        data_file: OtherFile::data(&info.image, folder, storage),
        snapshots: Part::snapshots(&info, storage),
        bitmaps: Part::bitmaps(&info, storage),
        check: recount::check(storage, &mut Progress(terminal)),
        info,
    };
    let text = match arguments.output {
        OutputFormat::Human => shown.to_string(),
        OutputFormat::Json => pretty(&shown.json())?,
    };
    terminal.print(&text)?;
    Ok(0)
}
