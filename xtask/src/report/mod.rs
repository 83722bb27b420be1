//! The report of a run of `cargo xtask differential`: a folder with report.json, junit.xml and
//! index.html; and `cargo xtask report`, which joins the reports of several runs.

mod html;
mod junit;
pub mod model;
pub mod picture;
pub mod question;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use recount_subjects::findings;
use serde_json::Value;

use crate::error::{At as _, Result};
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

/// Runs the command. Exit code 1 where the joined report has failures that count.
pub fn run(args: &Args) -> Result<ExitCode> {
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
    for folder in folders.iter().filter(|folder| *folder != output) {
        findings::copy(folder, output)?;
    }
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
    pub fn load(folder: &Path) -> Result<Self> {
        let path = folder.join(JSON);
        let name = path.display();
        let text = fs::read_to_string(&path).at(&name)?;
        let not_a_report = format!("{name}: not a report");
        let value: Value = serde_json::from_str(&text).at(&not_a_report)?;
        if let Some(found) = value["version"]
            .as_u64()
            .filter(|it| *it != u64::from(VERSION))
        {
            let known = format!("this program reads version {VERSION}");
            return Err(format!("{name}: a report of version {found}; {known}").into());
        }
        serde_json::from_value(value).at(not_a_report)
    }

    /// Makes the folder of a report, which has to be empty unless it may be overwritten.
    pub fn prepare(folder: &Path, overwrite: bool) -> Result<()> {
        let name = folder.display();
        fs::create_dir_all(folder).at(&name)?;
        if fs::read_dir(folder).at(&name)?.next().is_some() && !overwrite {
            let advice = "--overwrite writes a report there all the same";
            return Err(format!("{name} is not empty; {advice}").into());
        }
        Ok(())
    }

    pub fn save(&self, folder: &Path) -> Result<()> {
        self.save_json(folder)?;
        write(&folder.join(JUNIT), &junit::of(self).to_string()?)?;
        write(&folder.join(PAGE), &html::of(self))
    }

    /// Writes report.json, all of it or nothing.
    pub fn save_json(&self, folder: &Path) -> Result<()> {
        write(&folder.join(JSON), &serde_json::to_string_pretty(self)?)
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    let part = path.with_extension("part");
    let written = fs::write(&part, text).and_then(|()| fs::rename(&part, path));
    written.at(path.display())
}
