//! The report of a run of `cargo xtask differential`: a folder with report.json, junit.xml and
//! index.html; and `cargo xtask report`, which joins the reports of several runs.

mod html;
mod junit;
pub mod model;
pub mod picture;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;

use model::{Report, VERSION};

/// The file that everything else can be made from.
const JSON: &str = "report.json";
/// For CI systems.
const JUNIT: &str = "junit.xml";
/// For people.
const PAGE: &str = "index.html";

/// Options of `cargo xtask report`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: ReportCommand,
}

#[derive(Subcommand)]
enum ReportCommand {
    /// Joins the reports of several runs, as of shards, into one.
    Merge {
        /// Folders with a report each.
        #[arg(required = true)]
        folders: Vec<PathBuf>,
        /// Where the joined report goes.
        #[arg(long, short)]
        output: PathBuf,
        /// The folder may have something in it.
        #[arg(long)]
        overwrite: bool,
    },
}

/// A report could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file or folder.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that is no report.
    #[error("{}: not a report: {source}", path.display())]
    Json {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A report of another version.
    #[error("{}: a report of version {found}; this program reads version {VERSION}", path.display())]
    Version {
        /// Which.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
    /// There is something in the folder.
    #[error("{} is not empty; --overwrite writes a report there all the same", .0.display())]
    NotEmpty(PathBuf),
    /// The XML could not be written.
    #[error("{}: {source}", path.display())]
    Junit {
        /// The file.
        path: PathBuf,
        /// Why.
        source: quick_junit::SerializeError,
    },
}

/// Runs the command. Exit code 1 where the joined report has failures that count.
pub fn run(args: &Args) -> Result<ExitCode, ReportError> {
    let ReportCommand::Merge {
        folders,
        output,
        overwrite,
    } = &args.command;
    let mut reports = folders.iter().map(|folder| Report::load(folder));
    let mut joined = match reports.next() {
        Some(first) => first?,
        None => return Ok(ExitCode::SUCCESS),
    };
    for report in reports {
        joined.add(report?);
    }
    Report::prepare(output, *overwrite)?;
    joined.save(output)?;
    println!(
        "{} reports, {} cases, {} failures: {}",
        folders.len(),
        joined.cases,
        joined.counting(),
        output.join(PAGE).display()
    );
    Ok(ExitCode::from(u8::from(joined.counting() > 0)))
}

impl Report {
    /// The report in a folder.
    pub fn load(folder: &Path) -> Result<Self, ReportError> {
        let path = folder.join(JSON);
        let text = fs::read_to_string(&path).map_err(|source| io_error(&path, source))?;
        let json = |source| ReportError::Json {
            path: path.clone(),
            source,
        };
        let value: serde_json::Value = serde_json::from_str(&text).map_err(json)?;
        match value.get("version").and_then(serde_json::Value::as_u64) {
            Some(found) if found != u64::from(VERSION) => Err(ReportError::Version {
                path: path.clone(),
                found,
            }),
            _ => serde_json::from_value(value).map_err(json),
        }
    }

    /// Makes the folder of a report, which has to be empty unless it may be overwritten.
    pub fn prepare(folder: &Path, overwrite: bool) -> Result<(), ReportError> {
        fs::create_dir_all(folder).map_err(|source| io_error(folder, source))?;
        let mut entries = fs::read_dir(folder).map_err(|source| io_error(folder, source))?;
        if entries.next().is_some() && !overwrite {
            return Err(ReportError::NotEmpty(folder.to_owned()));
        }
        Ok(())
    }

    /// Writes all of it.
    pub fn save(&self, folder: &Path) -> Result<(), ReportError> {
        self.save_json(folder)?;
        let path = folder.join(JUNIT);
        let xml = junit::of(self)
            .to_string()
            .map_err(|source| ReportError::Junit {
                path: path.clone(),
                source,
            })?;
        write(&path, &xml)?;
        write(&folder.join(PAGE), &html::of(self))
    }

    /// Writes report.json, all of it or nothing.
    pub fn save_json(&self, folder: &Path) -> Result<(), ReportError> {
        let path = folder.join(JSON);
        let text = serde_json::to_string_pretty(self).map_err(|source| ReportError::Json {
            path: path.clone(),
            source,
        })?;
        write(&path, &text)
    }
}

fn write(path: &Path, text: &str) -> Result<(), ReportError> {
    let part = path.with_extension("part");
    fs::write(&part, text)
        .and_then(|()| fs::rename(&part, path))
        .map_err(|source| io_error(path, source))
}

fn io_error(path: &Path, source: io::Error) -> ReportError {
    ReportError::Io {
        path: path.to_owned(),
        source,
    }
}
