//! `recount check`: opens the image, checks it, repairs it or plans a repair, and prints what
//! `qemu-img check` would.

use std::fmt::Display;

use recount::plan::{Kept, RepairError, RepairOptions, RepairPlan};
use recount::repair::{self, Outcome};
use recount::storage::{Access, FileStorage, Storage, shown};
use recount::{RunSet, Scope, Survey, undo};
use serde::Serialize;

use crate::args::{CheckArguments, OutputFormat};
use crate::failure::Failure;
use crate::lost::{self, lost_data};
use crate::name;
use crate::output::{Counters, More, exit_code, pretty};
use crate::plan::PlanOutput;
use crate::recognize::Explanation;
use crate::terminal::Terminal;
use crate::verdict;

/// Runs the command; returns the exit code.
pub fn run(arguments: &CheckArguments, terminal: &mut Terminal) -> Result<u8, Failure> {
    let named = name::resolve(&arguments.name, arguments.image_opts)?;
    let arguments = &CheckArguments {
        file: named.path,
        ..arguments.clone()
    };
    let file = &arguments.file;
    match arguments.format.as_deref().or(named.format) {
        None | Some("qcow2") => {}
        Some("raw") => {
            let what = "this image format does not support checks (raw images have none)";
            terminal.say(format_args!("recount: {}: {what}", shown(file)));
            return Ok(63);
        }
        Some(other) => {
            return Err(Failure::new(format_args!(
                "unknown format '{}'; recount checks qcow2 images (-f qcow2)",
                other.escape_debug()
            )));
        }
    }
    if arguments.plan {
        return plan(arguments, terminal);
    }
    // Locks and buffers of the system go before the result is out.
    let (outcome, more) = &match arguments.repair {
        None => check(arguments, terminal)?,
        Some(_) => repair(arguments, terminal)?,
    };
    let counters = &Counters {
        outcome,
        file: &arguments.name,
        more,
    };
    print(arguments, (counters, counters), terminal)?;
    if outcome.report.check_errors > 0 {
        terminal.say("recount: the check did not complete: see the errors above");
    }
    Ok(exit_code(&outcome.report))
}

/// Checks, and says what that comes to and what was found.
fn check(arguments: &CheckArguments, terminal: &mut Terminal) -> Result<(Outcome, More), Failure> {
    let file = &arguments.file;
    let storage = open_read_only(arguments)?;
    let failed = |error| Failure::of_check(file, &error, &storage);
    let survey = Survey::take(&storage, terminal).map_err(failed)?;
    let report = survey.report(&storage, terminal).map_err(failed)?;
    let mut verdict = verdict::of_flags(file, &storage);
    let mut more = More::default();
    if (!report.is_clean() || report.dead_ends.count > 0) && !arguments.quiet {
        let options = RepairOptions::default().verify(false);
        let plan = RepairPlan::of(&storage, survey, &options, &mut ());
        terminal.note_damage(match &plan {
            Ok(plan) => &plan.kept.examples,
            Err(_) => &report.dead_ends.examples,
        });
        more.lost = lost_data(&storage);
        let (findings, length) = (terminal.findings(), storage.len());
        let errors = verdict::of_errors(file, &report, &plan, findings, &more.lost, length);
        verdict.splice(0..0, errors);
        more.kept = plan.ok().map(|plan| plan.kept);
    }
    more.findings = terminal.conclude(&verdict, &storage);
    let outcome = Outcome {
        report,
        ..Outcome::default()
    };
    Ok((outcome, more))
}

/// Plans a repair and prints the plan; writes nothing. The exit code is that of a check.
fn plan(arguments: &CheckArguments, terminal: &mut Terminal) -> Result<u8, Failure> {
    let (file, options) = (&arguments.file, options(arguments));
    let storage = open_read_only(arguments)?;
    let survey = Survey::take(&storage, terminal)
        .map_err(|error| Failure::of_check(file, &error, &storage))?;
    // Where a check gives up for what a repair mends, its exit code is 1.
    let found = survey.report(&storage, terminal).ok();
    terminal.conclude(&[], &storage);
    let output = RepairPlan::of(&storage, survey, &options, &mut ())
        .and_then(|plan| {
            PlanOutput::new(
                &arguments.name,
                found.as_ref(),
                plan,
                options.scope,
                &storage,
            )
        })
        .map_err(|error| planning_failed(arguments, error, &storage, terminal))?;
    terminal.tell_all(&what_is_kept(&output.plan.kept, &storage));
    print(arguments, (&output.json, &output), terminal)?;
    Ok(output.exit_code)
}

/// Repairs; the same.
fn repair(arguments: &CheckArguments, terminal: &mut Terminal) -> Result<(Outcome, More), Failure> {
    let (file, options) = (&arguments.file, options(arguments));
    let mut storage = FileStorage::open(file, Access::Write).map_err(Failure::new)?;
    let mut plan = repair::plan(&storage, &options, terminal)
        .map_err(|error| planning_failed(arguments, error, &storage, terminal))?;
    let mut more = More {
        findings: terminal.conclude(&[], &storage),
        kept: Some(plan.kept.clone()),
        ..More::default()
    };
    let kept = what_is_kept(&plan.kept, &storage);
    let undo = match &arguments.undo {
        Some(path) if !plan.is_empty() => {
            // What is given back to the file system cannot be put back.
            plan.released = RunSet::new();
            let saved = undo::save(path, &storage, &std::path::absolute(file)?, &|write| {
                plan.for_each_write(&storage, &mut |_, offset, bytes| write(offset, bytes))
            });
            more.undo = Some(path.clone());
            Some(saved.map_err(|error| Failure::of_undo_file("save", path, &error))?)
        }
        _ => None,
    };
    terminal.stop_on_signals()?;
    let outcome = repair::carry_out(&mut storage, plan, &options, terminal);
    if let Some(undo) = undo {
        // Also of a repair that failed: what changes the image later is somebody else.
        let seal = |time: Option<_>| time.is_none_or(|time| undo.seal(time).is_ok());
        if storage.flush().is_err() || !storage.modified().is_ok_and(seal) {
            terminal.say("recount: the undo file does not know when the repair ended");
        }
    }
    let outcome = outcome.map_err(|failure| {
        let signal = terminal.exit_code_of_signal();
        let signal = signal.filter(|_| matches!(failure.error, RepairError::Cancelled));
        Failure {
            code: signal.unwrap_or(1),
            ..Failure::of_repair(file, &failure, options.reuse_old)
        }
    })?;
    terminal.tell_all(&kept);
    if !outcome.report.is_clean() && !arguments.quiet {
        more.lost = lost_data(&storage);
    }
    Ok((outcome, more))
}

fn options(arguments: &CheckArguments) -> RepairOptions {
    RepairOptions::default()
        .scope(arguments.repair.map(Scope::from).unwrap_or_default())
        .algorithm(arguments.algorithm.into())
        .reuse_old(arguments.reuse_old)
        .release_unreachable(arguments.release_unreachable)
        .verify(!arguments.no_verify)
}

/// What a repair leaves alone, why, and what to do about it; empty where nothing is damaged.
fn what_is_kept(kept: &Kept, storage: &dyn Storage) -> Vec<String> {
    if kept.damage == 0 {
        return Vec::new();
    }
    let what = match kept.clusters {
        0 => "what nothing refers to is".to_owned(),
        1 => "1 cluster whose refcount is above its references is".to_owned(),
        clusters => format!("{clusters} clusters whose refcounts are above their references are"),
    };
    let mut lines = vec![format!(
        "recount: the image is damaged, so {what} kept: it may be data that the damage hides:"
    )];
    lines.extend(kept.examples.iter().map(|example| format!("    {example}")));
    let more = kept.damage.saturating_sub(kept.examples.len() as u64);
    lines.extend((more > 0).then(|| format!("    and {more} more")));
    lines.extend(what_is_lost(storage));
    let mend = "Mend what is damaged and repair again: what it referred to is back then.";
    lines.push(mend.to_owned());
    if kept.clusters > 0 {
        let release = "To give the space back instead, for good: --release-unreachable.";
        lines.push(release.to_owned());
    }
    lines
}

/// Which parts of the virtual disk have data that is not in the file.
fn what_is_lost(storage: &dyn Storage) -> Vec<String> {
    lost::lines(&lost_data(storage))
}

fn open_read_only(arguments: &CheckArguments) -> Result<FileStorage, Failure> {
    name::open_to_read(&arguments.file, arguments.force_share)
}

/// Where the file would have to grow over what it has lost, that is named; and what it is, where it
/// is no qcow2 image.
fn planning_failed(
    arguments: &CheckArguments,
    error: RepairError,
    storage: &dyn Storage,
    terminal: &mut Terminal,
) -> Failure {
    if let RepairError::GrowthWouldHide { .. } = error {
        terminal.say_all(&what_is_lost(storage));
    }
    if let RepairError::Check(check) = &error
        && let Some(explanation) = Explanation::of(&arguments.file, check, storage)
    {
        let nothing_written = format_args!("{explanation}\n    Nothing was written.");
        return Failure::of(&arguments.file, nothing_written);
    }
    Failure::of_repair(&arguments.file, &error.into(), arguments.reuse_old)
}

/// Prints the result, unless it is to be quiet.
fn print(
    arguments: &CheckArguments,
    (json, text): (&impl Serialize, &impl Display),
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    let text = match arguments.output {
        OutputFormat::Human => text.to_string(),
        OutputFormat::Json => pretty(json)?,
    };
    if !arguments.quiet {
        terminal.print(&text)?;
    }
    Ok(())
}
