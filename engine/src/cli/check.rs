//! `recount check`: opens the image, checks it, repairs it or plans a repair, and prints what
//! `qemu-img check` would.

use std::io::{self, Write as _};
use std::process::ExitCode;

use recount::repair::{Kept, RepairOptions, Scope};
use recount::storage::{FileStorage, Locking};
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
    if arguments.rebuild.undo.is_some() {
        return Err(Failure::UndoNotSaved);
    }
    let mut storage = FileStorage::open_read_write(&arguments.file)?;
    let options = options(arguments, what);
    let outcome = recount::repair(&mut storage, &options, terminal).map_err(|failure| {
        let file = arguments.file.clone();
        Failure::Repair { file, failure }
    })?;
    // Locks and buffers of the system go before the result is out.
    drop(storage);
    say_what_is_kept(&outcome.kept, terminal);
    let counters = Counters {
        report: outcome.report,
        corruptions_fixed: outcome.fixed.corruptions,
        leaks_fixed: outcome.fixed.leaks,
    };
    print_counters(arguments, &counters, terminal)
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

/// What a repair left alone, why, and what to do about it.
fn say_what_is_kept(kept: &Kept, terminal: &mut Terminal) {
    let Kept {
        clusters,
        dead_ends,
        ref examples,
    } = *kept;
    if dead_ends == 0 {
        return;
    }
    if clusters > 0 {
        terminal.say(format_args!(
            "recount: kept {clusters} clusters that nothing refers to: {dead_ends} entries or \
             tables cannot be followed and may be what referred to them:"
        ));
    } else {
        terminal.say(format_args!(
            "recount: kept what {dead_ends} entries or tables that cannot be followed may refer \
             to:"
        ));
    }
    for example in examples {
        terminal.say(format_args!("    {example}"));
    }
    terminal.say("Mend what is damaged and repair again: what it referred to is back then.");
    if clusters > 0 {
        terminal.say("To give the space back instead, for good: --release-unreachable.");
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
