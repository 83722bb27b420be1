//! Whether what recount does with an image is what the specification says, of the library and of the
//! program; and whether the program can undo it.

use recount_oracle::audit;
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::observed::Ended;
use recount_oracle::disk::Trace;
use recount_oracle::judge::{self, Specified};
use recount_oracle::properties::Verdict;
use recount_oracle::subject::{Ask, Stopped};

use super::exhibit::Exhibit;
use super::subject::{Checker, Repair, Repaired, Subject};
use crate::error::Result;

/// Whether what recount did is what the specification says; not applicable where that takes the naive
/// program too long to say, which the report counts.
pub fn as_specified(damaged: &SparseBytes, ask: &Ask, repaired: &Repaired) -> Verdict {
    let (Some(ended), Some(trace)) = (&repaired.outcome, &repaired.trace) else {
        return Verdict::NotApplicable;
    };
    let wrote = !trace.is_read_only();
    let said = match judge::as_specified(ask, damaged, &repaired.image, ended, wrote) {
        Ok(Specified::TooMuchWork) => return Verdict::NotApplicable,
        Ok(Specified::Refused) => Ok(()),
        Ok(Specified::Repaired) => says_what_is_there(repaired),
        Err(message) => Err(message),
    };
    match said {
        Ok(()) => Verdict::Holds,
        Err(message) => Verdict::fails(format!("{ask:?}: {message}\n    {}", repaired.said)),
    }
}

/// Exit code and counters are those that the audit gives of what is left, or which of them are not.
fn says_what_is_there(repaired: &Repaired) -> Result<(), String> {
    let audit = audit::audit(&repaired.image)
        .map_err(|error| format!("a check cannot read what is left: {error}"))?;
    let figures = audit::counters(&audit);
    let said = &repaired.said;
    let mut wrong = Vec::new();
    if said.ended != Ended::Code(figures.exit_code()) {
        wrong.push(format!("exit {}", figures.exit_code()));
    }
    for (name, count) in figures.named() {
        if !figures.gives_up && i64::try_from(count) != Ok(said.counter(name)) {
            wrong.push(format!("{name}={count}"));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!("a check afterwards finds {}", wrong.join(", ")))
}

/// Whether the program leaves the same file as the library, but for what is in clusters that were
/// released, and says the same.
pub fn program_agrees(
    program: &dyn Subject,
    library: &Repaired,
    ask: &Ask,
    exhibit: &Exhibit<'_>,
) -> Result<Verdict> {
    let damaged = &exhibit.damaged;
    let file = program.run(exhibit.bench, damaged, Repair::All)?;
    let unknown = || Err(Stopped::unknown("it is not known how"));
    let ended = library.outcome.clone().unwrap_or_else(unknown);
    let wrote = file.image != *damaged;
    let specified = || judge::as_specified(ask, damaged, &file.image, &ended, wrote);
    let same = file.image == library.image || specified() == Ok(Specified::Repaired);
    if same && file.said.agrees_with(&library.said) {
        return Ok(Verdict::Holds);
    }
    let by = events(&library.image, &file.image);
    Ok(Verdict::fails(format!(
        "the program: {}\n    the library: {}\n    the files differ by {by}",
        file.said, library.said,
    )))
}

/// Whether the program gives back the image that it has repaired with `--undo`, bit for bit, length
/// included. Where it writes nothing there is nothing to give back.
pub fn undo_restores(program: &Checker, exhibit: &Exhibit<'_>) -> Result<Verdict> {
    let damaged = &exhibit.damaged;
    let (repaired, undone) = program.repair_and_undo(exhibit.bench, damaged)?;
    let Some(undone) = undone else {
        if repaired.image == *damaged {
            return Ok(Verdict::NotApplicable);
        }
        let said = repaired.said;
        return Ok(Verdict::fails(format!("it saves no undo file: {said}")));
    };
    let ends = undone.said.ended == Ended::Code(0);
    if ends && undone.image == *damaged {
        return Ok(Verdict::Holds);
    }
    let by = events(damaged, &undone.image);
    Ok(Verdict::fails(format!(
        "the repair: {}\n    undoing it: {}\n    the image differs by {by}",
        repaired.said, undone.said,
    )))
}

/// What makes one image of the other, in words.
fn events(one: &SparseBytes, other: &SparseBytes) -> String {
    let events = Trace::between(one, other).events;
    let first = events.first().map(ToString::to_string);
    format!("{} events: {first:?}", events.len())
}
