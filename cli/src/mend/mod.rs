//! `recount mend`: puts one entry of a table back. It shows what would be read then, and writes the entry
//! where that is asked for, behind an undo file.

mod judge;

use std::fmt;
use std::path::Path;

use recount::storage::{Access, FileStorage, shown};
use recount::undo::{self, UndoError};
use recount::{Offset, Storage, Survey};

use crate::args::MendArguments;
use crate::failure::Failure;
use crate::name;
use crate::progress::Progress;
use crate::terminal::Terminal;
use judge::{Mend, Wanted};

/// Runs the command; the exit code is 1 where something speaks against the entry.
pub fn run(arguments: &MendArguments, terminal: &mut Terminal) -> Result<u8, Failure> {
    let file = &name::resolve(&arguments.name, false)?.path;
    let access = if arguments.yes {
        Access::Write
    } else {
        Access::Read
    };
    let mut storage = FileStorage::open(file, access).map_err(Failure::new)?;
    let survey = Survey::take(&storage, &mut Progress(terminal));
    let survey = survey.map_err(|error| Failure::of_check(file, &error, &storage))?;
    let refused = |why| Failure::of(file, format_args!("{why}; nothing was written"));
    let mend = Mend::judge(&storage, survey, arguments.wanted()).map_err(refused)?;
    terminal.print(&mend.to_string())?;
    if !mend.doubts.is_empty() && !arguments.force {
        let doubts = mend.doubts.join("; ");
        let why = format!("{doubts}; --force writes all the same");
        return Err(refused(why));
    }
    let name = shown(file);
    let next = match &arguments.undo {
        Some(path) if arguments.yes => {
            write(&mut storage, file, path, &mend)?;
            format!(
                "The entry was written, and `recount undo {}` takes it back.\n\
                 Next: `recount check -r all --undo NEW-FILE {name}`, so that refcounts and COPIED \
                 bits fit.\n",
                shown(path)
            )
        }
        _ => "Nothing was written; --yes --undo NEW-FILE writes it.\n".to_owned(),
    };
    terminal.print(&next)?;
    Ok(0)
}

impl MendArguments {
    /// Which of the two options there is: the command line has exactly one.
    fn wanted(&self) -> Wanted {
        match (self.l1, self.entry) {
            (Some((index, table)), _) => Wanted::L1 {
                index,
                table: Offset(table),
            },
            (None, entry) => {
                let (at, value) = entry.unwrap_or_default();
                let at = Offset(at);
                Wanted::Entry { at, value }
            }
        }
    }
}

/// Saves what the entry replaces, then writes it, durably.
fn write(
    storage: &mut FileStorage,
    file: &Path,
    undo_path: &Path,
    mend: &Mend,
) -> Result<(), Failure> {
    let bytes = mend.new.to_be_bytes();
    let image_path = std::path::absolute(file)?;
    let saved = undo::save(undo_path, storage, &image_path, &|write| {
        write(mend.at, &bytes)
    });
    let undo = saved.map_err(|error| Failure::of_undo_file("save", undo_path, &error))?;
    let failed = |error| Failure::of(file, error);
    storage.write_at(mend.at, &bytes).map_err(failed)?;
    storage.flush().map_err(failed)?;
    let modified = storage.modified();
    let sealed = modified.map_err(UndoError::from);
    let sealed = sealed.and_then(|time| time.map_or(Ok(()), |time| undo.seal(time)));
    sealed.map_err(|error| {
        let what = "the entry was written, but the undo file could not be finished";
        Failure::of(file, format_args!("{what}: {error}"))
    })
}

impl fmt::Display for Mend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            place,
            at,
            old,
            new,
            ..
        } = self;
        writeln!(f, "{place}, at {at}:")?;
        let empty = |entry| if entry == 0 { ", empty" } else { "" };
        writeln!(
            f,
            "    now {old:#x}{}, then {new:#x}{}",
            empty(*old),
            empty(*new)
        )?;
        if let Some(guest) = self.guest.as_ref().filter(|guest| !guest.is_empty()) {
            writeln!(f, "    for guest {} to {}", guest.start, guest.end - 1)?;
        }
        match &self.table {
            Some(table) if table.looks_like_one => {
                writeln!(f, "    L2 table at {}: {table}", table.offset)
            }
            Some(table) => writeln!(f, "    what is at {} looks like no L2 table", table.offset),
            None => Ok(()),
        }
    }
}
