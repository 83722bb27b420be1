//! The options of the command line and the help that explains them.

mod help;

use std::path::PathBuf;

use clap::{Args, Parser, ValueEnum};
use recount::{Algorithm, Scope};

/// Checks and repairs the refcount structures of qcow2 images
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 100,
    infer_long_args = true,
    args_override_self = true
)]
pub enum Command {
    /// Check an image, and with -r repair it: options, output and exit codes of `qemu-img check`
    ///
    /// What every table refers to is counted, and the counts are compared with those that the image
    /// stores. Without -r nothing is written. The result goes to standard output, messages about
    /// what is found to standard error.
    ///
    /// With -r what is found is repaired, and the image is checked once more; that second result is
    /// printed. Structures are rebuilt in free clusters and come into use by one write to the
    /// header, so that a crash leaves either the old ones or the new.
    #[command(after_long_help = help::CHECK_AFTER)]
    Check(CheckArguments),

    /// Show what lies where in an image, problems first: a strip, a picture (-o) or data (--json)
    ///
    /// Every cluster of the file has one use: a table, guest data, free. The strip goes over the width
    /// of the terminal; where a character stands for several clusters, it shows the worst that is
    /// wrong with one of them, or else what most of those in use are. Nothing is written but the
    /// picture.
    #[command(after_long_help = help::MAP_AFTER)]
    Map(MapArguments),

    /// Show what the header and the tables of an image say, also of a damaged one
    ///
    /// Sizes, features, the files that belong to it, snapshots, bitmaps, where the tables are, and
    /// how much is allocated. What cannot be read is said in its place. Nothing is written.
    #[command(after_long_help = help::INFO_AFTER)]
    Info(InfoArguments),

    /// Show what the clusters look like that are in use and that nothing refers to
    ///
    /// Where the entry of a table was lost, nothing refers any more to the table that it led to, nor
    /// to the data behind that. This finds such tables, and says how much of their data is there and
    /// which L1 entries may have led to them. Nothing is written.
    #[command(after_long_help = help::FIND_AFTER)]
    Find(FindArguments),

    /// Put one lost entry of a table back, as `recount find` shows it
    ///
    /// Shows what would be read then: for which part of the virtual disk, whether a table is there,
    /// and how much of its data. With --yes the entry is written, and nothing else; `recount check
    /// -r all` comes next.
    #[command(after_long_help = help::MEND_AFTER)]
    Mend(MendArguments),

    /// Put back what a repair with --undo has replaced: the bytes, and the length of the image
    ///
    /// It does so wherever the repair ended, at its end, in an error or in a power cut, and can
    /// itself be interrupted and run again.
    ///
    /// Nothing is written unless the undo file is whole, and the image is the one that was repaired
    /// and has not been written to since: by no machine, no qemu-img, no second repair. An undo
    /// file is put back once; of several repairs the last one is undone first.
    #[command(after_long_help = help::UNDO_AFTER)]
    Undo(UndoArguments),
}

/// An image that is only read.
#[derive(Args, Debug)]
pub struct ImageArguments {
    /// The image: a regular file or a block device; also as `file:PATH`, or as `json:{...}` with the
    /// drivers qcow2, file and `host_device`
    #[arg(value_name = "FILE")]
    pub name: PathBuf,

    /// FILE is a list of options, `driver=qcow2,file.filename=PATH` for example
    #[arg(long)]
    pub image_opts: bool,

    /// Look at an image that another process has open; what that process has half written shows as
    /// wrong
    #[arg(short = 'U', long)]
    pub force_share: bool,
}

#[derive(Args, Debug)]
pub struct MapArguments {
    #[command(flatten)]
    pub image: ImageArguments,

    /// Show what is there now and what `recount check -r all` would make of it
    #[arg(long)]
    pub plan: bool,

    /// Write a picture to FILE, as SVG, in place of the strip
    #[arg(short, long, value_name = "FILE.svg")]
    pub output: Option<PathBuf>,

    /// Let -o replace a file that is there
    #[arg(long, requires = "output")]
    pub force: bool,

    /// Print every run of clusters that are alike, as JSON, in place of the strip
    #[arg(long)]
    pub json: bool,

    /// Columns of the strip; those of the terminal unless given, 80 where there is none
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(24..=1000))]
    pub width: Option<u16>,
}

#[derive(Args, Debug)]
pub struct InfoArguments {
    #[command(flatten)]
    pub image: ImageArguments,

    /// How the result is printed
    #[arg(long, value_name = "FORM", default_value = "human")]
    pub output: OutputFormat,
}

#[derive(Args, Debug)]
pub struct FindArguments {
    #[command(flatten)]
    pub image: ImageArguments,

    /// How the result is printed
    #[arg(long, value_name = "FORM", default_value = "human")]
    pub output: OutputFormat,

    /// Show all, and not 20 lines of a kind
    #[arg(short, long)]
    pub verbose: bool,
}

#[derive(Args, Debug)]
pub struct MendArguments {
    /// The image; all names that `recount check` takes but --image-opts
    #[arg(value_name = "FILE")]
    pub name: PathBuf,

    /// Let this entry of the active L1 table lead to the L2 table at OFFSET
    #[arg(
        long,
        value_name = "INDEX=OFFSET",
        value_parser = pair,
        required_unless_present = "entry",
        conflicts_with = "entry"
    )]
    pub l1: Option<(u64, u64)>,

    /// Write VALUE to the entry of an L1 or L2 table at OFFSET in the file
    #[arg(long, value_name = "OFFSET=VALUE", value_parser = pair)]
    pub entry: Option<(u64, u64)>,

    /// Write the entry
    #[arg(short = 'r', long, requires = "undo")]
    pub yes: bool,

    /// Before the entry is written, save what it replaces to FILE, a new file; `recount undo FILE`
    /// puts it back
    #[arg(long, value_name = "FILE", requires = "yes")]
    pub undo: Option<PathBuf>,

    /// Write it although something speaks against it; nothing leads outside of the file or into
    /// the middle of a cluster then, and nothing but entries of tables in use is written
    #[arg(long)]
    pub force: bool,
}

/// Two numbers, decimal or hexadecimal with `0x`.
fn pair(text: &str) -> Result<(u64, u64), String> {
    let number = |text: &str| {
        let parsed = match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        };
        parsed.map_err(|error| format!("'{}': {error}", text.escape_debug()))
    };
    let (one, other) = text.split_once('=').ok_or("there is no '=' in it")?;
    Ok((number(one)?, number(other)?))
}

#[derive(Args, Debug)]
pub struct UndoArguments {
    /// What `recount check -r` was given as --undo
    #[arg(value_name = "UNDO-FILE")]
    pub undo_file: PathBuf,

    /// The image; without it, the path at which it was repaired
    #[arg(value_name = "IMAGE")]
    pub image: Option<PathBuf>,
}

/// The heading of the options below it.
const OURS: &str = "Options that qemu-img does not have";

#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub struct CheckArguments {
    /// The image: a regular file or a block device; also as `file:PATH`, or as `json:{...}` with the
    /// drivers qcow2, file and `host_device`
    #[arg(value_name = "FILE")]
    pub name: PathBuf,

    /// What the name stands for.
    #[arg(skip)]
    pub file: PathBuf,

    /// FILE is a list of options, `driver=qcow2,file.filename=PATH` for example
    #[arg(long, conflicts_with = "format")]
    pub image_opts: bool,

    /// The format of the image, as for qemu-img; only qcow2 can be checked
    #[arg(short, long, value_name = "FMT")]
    pub format: Option<String>,

    /// Repair what is found; guest data is never changed
    #[arg(short, long, value_name = "WHAT", conflicts_with = "force_share")]
    pub repair: Option<Repair>,

    /// How the result is printed
    #[arg(long, value_name = "FORM", default_value = "human")]
    pub output: OutputFormat,

    /// Print nothing about the image; the exit code remains, and messages about what keeps a check
    /// or a repair from being done
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Check an image that another process has open; what that process has half written shows as
    /// errors
    #[arg(short = 'U', long)]
    pub force_share: bool,

    /// Accepted because `qemu-img check` has it; it changes nothing here
    #[arg(short = 'T', long, value_name = "MODE")]
    pub cache: Option<String>,

    /// Show what -r would write, and write nothing (`-r all` unless -r is given)
    #[arg(short = 'n', long, visible_alias = "dry-run", help_heading = OURS)]
    pub plan: bool,

    /// Show each finding on a line of its own, in the words of qemu-img, and not 20 lines of a kind
    #[arg(short, long, help_heading = OURS)]
    pub verbose: bool,

    /// Where a rebuild puts the new structures
    #[arg(long, value_name = "NAME", default_value = "planned", help_heading = OURS)]
    pub algorithm: Placement,

    /// Let a rebuild write over the old refcount structures, for a full device; a crash meanwhile
    /// can leave neither the old ones nor the new
    #[arg(long, help_heading = OURS)]
    pub reuse_old: bool,

    /// Release unreferenced clusters even where a damaged table may be what referred to them
    #[arg(long, help_heading = OURS)]
    pub release_unreachable: bool,

    /// Before anything is written, save what it replaces to FILE, a new file; `recount undo FILE`
    /// puts it back. A repair that writes nothing makes none
    #[arg(
        long,
        value_name = "FILE",
        requires = "repair",
        conflicts_with = "plan",
        help_heading = OURS
    )]
    pub undo: Option<PathBuf>,

    /// Do not check the result of a repair by reading it back
    #[arg(long, help_heading = OURS)]
    pub no_verify: bool,
}

/// What a repair may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Repair {
    /// Refcounts above the references, and COPIED bits if nothing else is wrong; fails, and writes
    /// nothing, where the refcount structures have to be built anew.
    Leaks,
    /// All that is wrong with refcounts and their structures, and the COPIED, dirty and corrupt bits.
    All,
}

impl From<Repair> for Scope {
    fn from(repair: Repair) -> Self {
        match repair {
            Repair::Leaks => Self::Leaks,
            Repair::All => Self::All,
        }
    }
}

/// How new refcount structures are placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Placement {
    /// Ours: inside the file first, the old structures untouched until the new ones are in use.
    Planned,
    /// As QEMU 7.1 and later, byte for byte; it need not end, and says so when it will not.
    FirstFit,
    /// As QEMU up to 7.0.
    Tail,
}

impl From<Placement> for Algorithm {
    fn from(placement: Placement) -> Self {
        match placement {
            Placement::Planned => Self::Planned,
            Placement::FirstFit => Self::FirstFit,
            Placement::Tail => Self::Tail,
        }
    }
}

/// How the result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    Human,
    Json,
}
