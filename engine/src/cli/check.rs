//! `recount check`: opens the image, checks it, repairs it or plans a repair, and prints what
//! `qemu-img check` would.

use std::io::{self, Write as _};
use std::process::ExitCode;

use recount::guest::{LostRanges, lost_ranges};
use recount::plan::{Kept, RepairError, RepairOptions, Scope};
use recount::repair::{self, RepairFailure};
use recount::storage::{FileStorage, Locking, Storage};
use recount::undo::{self, UndoFile};
use recount::{Algorithm, CheckError};

use super::args::{AlgorithmName, CheckArguments, OutputFormat, RepairWhat};
use super::failure::Failure;
use super::output::Counters;
use super::plan::plan;
use super::terminal::Terminal;

/// Runs the command and says why where there is no result.
pub fn run(arguments: &CheckArguments) -> ExitCode {
    let mut terminal = Terminal::new();
    let code = result(arguments, &mut terminal).unwrap_or_else(|failure| {
        terminal.say(format_args!("recount: {failure}"));
        failure.exit_code()
    });
    terminal.finish();
    ExitCode::from(code)
}

fn result(arguments: &CheckArguments, terminal: &mut Terminal) -> Result<u8, Failure> {
    match arguments.format.as_deref() {
        None | Some("qcow2") => {}
        Some("raw") => return Err(Failure::Raw(arguments.file.clone())),
        Some(other) => return Err(Failure::UnknownFormat(other.to_owned())),
    }
    if arguments.rebuild.plan {
        return plan(arguments, terminal);
    }
    match arguments.repair {
        None => check(arguments, terminal),
        Some(what) => repair(arguments, what, terminal),
    }
}

fn check(arguments: &CheckArguments, terminal: &mut Terminal) -> Result<u8, Failure> {
    let storage = open_read_only(arguments)?;
    let report = recount::check(&storage, terminal).map_err(|error| failed(arguments, error))?;
    let counters = Counters {
        report,
        ..Counters::default()
    };
    print_counters(arguments, &counters, terminal)
}

fn repair(
    arguments: &CheckArguments,
    what: RepairWhat,
    terminal: &mut Terminal,
) -> Result<u8, Failure> {
    let mut storage = FileStorage::open_read_write(&arguments.file)?;
    let options = options(arguments, what);
    let failed = |failure: RepairFailure| {
        let file = arguments.file.clone();
        let reuse_old = arguments.rebuild.reuse_old;
        Failure::Repair {
            file,
            failure,
            reuse_old,
        }
    };
    let plan = repair::plan(&storage, &options, terminal);
    let mut plan = match plan {
        Ok(plan) => plan,
        Err(error) => {
            if matches!(error, RepairError::GrowthWouldHide { .. }) {
                say_what_is_lost(&lost_ranges(&storage).unwrap_or_default(), terminal);
            }
            return Err(failed(error.into()));
        }
    };
    let lost = lost_where(plan.kept.damage > 0, &storage);
    let undo = match &arguments.rebuild.undo {
        Some(path) if !plan.is_empty() => {
            // What is given back to the file system cannot be put back.
            plan.released.clear();
            let image = std::path::absolute(&arguments.file)?;
            let saved = undo::save(path, &storage, &image, &|write| {
                plan.for_each_write(&storage, &mut |_, offset, bytes| write(offset, bytes))
            });
            Some(saved.map_err(|error| Failure::UndoFile {
                verb: "save",
                path: path.clone(),
                error,
            })?)
        }
        _ => None,
    };
    let outcome = repair::carry_out(&mut storage, plan, &options, terminal);
    if let Some(undo) = undo {
        // Also of a repair that failed: what changes the image later is somebody else.
        let sealed = storage.flush().is_ok() && seal(&undo, &storage);
        if !sealed {
            terminal.say("recount: the undo file does not know when the repair ended");
        }
    }
    let outcome = outcome.map_err(failed)?;
    // Locks and buffers of the system go before the result is out.
    drop(storage);
    say_what_is_kept(&outcome.kept, &lost, terminal);
    let counters = Counters {
        report: outcome.report,
        corruptions_fixed: outcome.fixed.corruptions,
        leaks_fixed: outcome.fixed.leaks,
    };
    print_counters(arguments, &counters, terminal)
}

/// What of the virtual disk is lost, where something is damaged.
pub(super) fn lost_where(damaged: bool, storage: &dyn Storage) -> Vec<LostRanges> {
    // Whatever keeps this from being found out has been said before.
    let lost = damaged.then(|| lost_ranges(storage).ok());
    lost.flatten().unwrap_or_default()
}

/// Notes when the image was changed last, so that a later change shows; whether that is done.
fn seal(undo: &UndoFile, storage: &FileStorage) -> bool {
    match storage.modified() {
        Ok(Some(modified)) => undo.seal(modified).is_ok(),
        Ok(None) => true,
        Err(_) => false,
    }
}

pub(super) const fn options(arguments: &CheckArguments, what: RepairWhat) -> RepairOptions {
    RepairOptions {
        scope: match what {
            RepairWhat::Leaks => Scope::Leaks,
            RepairWhat::All => Scope::All,
        },
        algorithm: match arguments.rebuild.algorithm {
            AlgorithmName::Planned => Algorithm::Planned,
            AlgorithmName::FirstFit => Algorithm::FirstFit,
            AlgorithmName::Tail => Algorithm::Tail,
        },
        reuse_old: arguments.rebuild.reuse_old,
        release_unreachable: arguments.rebuild.release_unreachable,
        verify: !arguments.rebuild.no_verify,
    }
}

/// What a repair leaves alone, why, and what to do about it.
pub(super) fn say_what_is_kept(kept: &Kept, lost: &[LostRanges], terminal: &mut Terminal) {
    let Kept {
        clusters,
        damage,
        ref examples,
    } = *kept;
    if damage == 0 {
        return;
    }
    let what = match clusters {
        0 => "what nothing refers to is".to_owned(),
        1 => "1 cluster whose refcount is above its references is".to_owned(),
        _ => format!("{clusters} clusters whose refcounts are above their references are"),
    };
    terminal.say(format_args!(
        "recount: the image is damaged, so {what} kept: it may be data that the damage hides:"
    ));
    for example in examples {
        terminal.say(format_args!("    {example}"));
    }
    if damage > examples.len() as u64 {
        let more = damage - examples.len() as u64;
        terminal.say(format_args!("    and {more} more"));
    }
    say_what_is_lost(lost, terminal);
    terminal.say("Mend what is damaged and repair again: what it referred to is back then.");
    if clusters > 0 {
        terminal.say("To give the space back instead, for good: --release-unreachable.");
    }
}

/// Which parts of the virtual disk have data that is not in the file.
pub(super) fn say_what_is_lost(lost: &[LostRanges], terminal: &mut Terminal) {
    for lost in lost {
        terminal.say(format_args!(
            "    {} bytes of {} lead to what is not in the file, at these bytes of the virtual disk:",
            lost.bytes, lost.layer
        ));
        for range in &lost.ranges {
            terminal.say(format_args!("      {} to {}", range.start, range.end - 1));
        }
        let named: u64 = lost
            .ranges
            .iter()
            .map(|range| range.end - range.start)
            .sum();
        if named < lost.bytes {
            let more = lost.bytes - named;
            terminal.say(format_args!("      and {more} bytes more"));
        }
    }
}

pub(super) fn open_read_only(arguments: &CheckArguments) -> Result<FileStorage, Failure> {
    let locking = if arguments.force_share {
        Locking::Ignored
    } else {
        Locking::Respected
    };
    let storage = FileStorage::open_read_only(&arguments.file, locking)?;
    Ok(storage)
}

pub(super) fn failed(arguments: &CheckArguments, error: CheckError) -> Failure {
    Failure::Check {
        file: arguments.file.clone(),
        error,
    }
}

/// Prints the result unless it is to be quiet; returns the exit code.
fn print_counters(
    arguments: &CheckArguments,
    counters: &Counters,
    terminal: &mut Terminal,
) -> Result<u8, Failure> {
    let text = match arguments.output {
        OutputFormat::Human => counters.to_string(),
        OutputFormat::Json => counters.to_json(&arguments.file)? + "\n",
    };
    print(arguments, &text, terminal)?;
    if counters.report.check_errors > 0 {
        terminal.say("recount: the check did not complete: see the errors above");
    }
    Ok(counters.exit_code())
}

/// Writes to standard output, after every message that came before.
pub(super) fn print(
    arguments: &CheckArguments,
    text: &str,
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    terminal.finish();
    if arguments.quiet {
        return Ok(());
    }
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        // Whoever read the output has seen enough; the exit code says the rest.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}
