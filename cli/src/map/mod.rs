//! `recount map`: shows what lies where in an image, now and after a repair.

mod json;
mod mark;
mod past_end;
mod picture;
mod strip;
mod svg;

use std::fs::{self, Permissions};
use std::io::{self, BufWriter, ErrorKind, IsTerminal as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use console::Term;
use recount::map::Map;
use recount::step::of;
use recount::storage::{FileStorage, shown};
use recount::{RepairOptions, RepairPlan};

use crate::args::MapArguments;
use crate::failure::Failure;
use crate::name;
use crate::terminal::Terminal;
use past_end::PastEnd;
use picture::Picture;
use strip::Strip;

/// Columns of a strip where no terminal says how many it has.
const WIDTH: u16 = 80;

/// What a repair makes of an image.
enum After {
    NotAsked,
    /// Nothing: why.
    AsNow(String),
    Picture(Box<Picture>),
}

/// Runs the command; the exit code is 0 wherever the map can be made.
pub fn run(arguments: &MapArguments, terminal: &mut Terminal) -> Result<u8, Failure> {
    let (file, storage) = &name::open(&arguments.image)?;
    let mut past_end = PastEnd::new(terminal);
    let map = Map::take(storage, &mut past_end)
        .map_err(|error| Failure::of_check(file, &error, storage))?;
    let now = Picture::new(map, past_end);
    let after = if arguments.plan {
        after(&now, storage, terminal)
    } else {
        After::NotAsked
    };
    let then = match &after {
        After::Picture(picture) => Some(&**picture),
        After::NotAsked | After::AsNow(_) => None,
    };
    if let Some(path) = &arguments.output {
        let mut maps = vec![(shown(file), &now)];
        maps.extend(then.map(|picture| ("After a repair".to_owned(), picture)));
        save(path, file, &svg::of_maps(&maps), arguments.force)?;
    }
    if arguments.json {
        if let After::AsNow(why) = &after {
            terminal.say(format_args!("recount: {why}"));
        }
        terminal.finish();
        return print_json(&arguments.image.name, &now, then);
    }
    let text = match &arguments.output {
        Some(path) => format!(
            "{} shows what lies where in {}.\n",
            shown(path),
            shown(file)
        ),
        None => strips(arguments, file, &now, then),
    };
    terminal.print(&(text + &remarks(file, &now, &after)))?;
    Ok(0)
}

fn print_json(name: &Path, now: &Picture, then: Option<&Picture>) -> Result<u8, Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let written = json::write(&mut out, &name.to_string_lossy(), now, then);
    match written.and_then(|()| out.flush()) {
        // Whoever read the output has seen enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(0),
    }
}

/// The image once it is repaired.
fn after(now: &Picture, storage: &FileStorage, terminal: &mut Terminal) -> After {
    let refused = |error| After::AsNow(format!("A repair would write nothing: {error}."));
    let (survey, options) = (now.map.survey().clone(), RepairOptions::default());
    let plan = match RepairPlan::of(storage, survey, &options, &mut ()) {
        Ok(plan) if plan.is_empty() => {
            return After::AsNow("A repair would write nothing.".to_owned());
        }
        Ok(plan) => plan,
        Err(error) => return refused(error),
    };
    let mut past_end = PastEnd::new(terminal);
    match Map::after(storage, &plan, &mut past_end) {
        Ok(map) => After::Picture(Box::new(Picture::new(map, past_end))),
        Err(error) => refused(error),
    }
}

fn strips(arguments: &MapArguments, file: &Path, now: &Picture, then: Option<&Picture>) -> String {
    let term = Term::stdout();
    let size = term.size_checked().map(|(_, columns)| columns);
    let strip = Strip {
        width: arguments.width.or(size).unwrap_or(WIDTH),
        is_coloured: io::stdout().is_terminal() && term.features().colors_supported(),
    };
    let mut text = strip.draw(&shown(file), now);
    let mut pictures = vec![now];
    if let Some(then) = then {
        text.push('\n');
        text += &strip.draw("After a repair", then);
        pictures.push(then);
    }
    text + &strip.legend(&pictures)
}

/// What is to be said below the map.
fn remarks(file: &Path, now: &Picture, after: &After) -> String {
    let (problems, file) = (now.problems(), shown(file));
    let wrong = (problems > 0).then(|| {
        let clusters = of(problems, "cluster");
        format!("Something is wrong with {clusters}: `recount check {file}` tells what.")
    });
    let why = match after {
        After::AsNow(why) => Some(why.clone()),
        After::NotAsked | After::Picture(_) => None,
    };
    let mut text = String::new();
    for remark in wrong.into_iter().chain(why) {
        text += &["\n", &remark, "\n"].concat();
    }
    text
}

/// Writes the picture, never over the image, and over another file only if it may; all of it, or nothing.
fn save(path: &Path, image: &Path, svg: &str, force: bool) -> Result<(), Failure> {
    let failed = |error: io::Error| match error.kind() {
        ErrorKind::AlreadyExists => {
            Failure::of(path, "there is such a file already; --force replaces it")
        }
        _ => Failure::of(path, format_args!("could not write the picture: {error}")),
    };
    let identity = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino()));
    if identity(path).is_ok_and(|one| identity(image).is_ok_and(|other| one == other)) {
        return Err(Failure::of(path, "that is the image"));
    }
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let mut new = tempfile::Builder::new();
    new.permissions(Permissions::from_mode(0o666));
    let mut new = new
        .tempfile_in(folder.unwrap_or(Path::new(".")))
        .map_err(failed)?;
    new.write_all(svg.as_bytes()).map_err(failed)?;
    let kept = if force {
        new.persist(path)
    } else {
        new.persist_noclobber(path)
    };
    kept.map(drop).map_err(|error| failed(error.error))
}
