//! `recount find`: what the clusters look like that nothing refers to, and which L1 entries may have led
//! to them. It reads only.

mod idle;
mod lines;
mod output;
pub mod search;

use recount::guest::Layers;
use recount::plan::RepairOptions;
use recount::{Storage, Survey};

use crate::args::{FindArguments, OutputFormat};
use crate::failure::Failure;
use crate::name;
use crate::output::pretty;
use crate::progress::Progress;
use crate::terminal::Terminal;
use lines::{LINES_MAX, Lines};
use output::Output;
use search::{Content, Search};

/// Runs the command; the exit code is 0 wherever the image could be looked through.
pub fn run(arguments: &FindArguments, terminal: &mut Terminal) -> Result<u8, Failure> {
    let (file, storage) = &name::open(&arguments.image)?;
    let survey = Survey::take(storage, &mut Progress(terminal));
    let survey = survey.map_err(|error| Failure::of_check(file, &error, storage))?;
    let most = if arguments.verbose {
        usize::MAX
    } else {
        LINES_MAX
    };
    let output = look(storage, survey, arguments, most);
    let output = output.map_err(|error| Failure::of(file, error))?;
    let text = match arguments.output {
        OutputFormat::Human => output.to_string(),
        OutputFormat::Json => pretty(&output.json())?,
    };
    terminal.print(&text)?;
    Ok(0)
}

/// Looks through the clusters, then for what may have led to tables that were found.
fn look<'a>(
    storage: &'a dyn Storage,
    survey: Survey,
    arguments: &'a FindArguments,
    most: usize,
) -> Result<Output<'a>, recount::RepairError> {
    let layers = Layers::read(storage)?;
    let (image, l1_tables) = (
        survey.image.clone(),
        survey.look.references.l1_tables.clone(),
    );
    let options = RepairOptions::default();
    let mut search = Search::of(storage, survey, &options)?;
    let (contents, tables) = search.look_through()?;
    let mut lines = Lines::new(most);
    for (cluster, content) in contents.above(0) {
        lines.note(cluster, Content::of(content));
    }
    let idle = if tables.is_empty() {
        idle::Idle::none()
    } else {
        let others = search.not_tables()?;
        idle::Idle::of(storage, &layers, &image, (&l1_tables, &others), most)?
    };
    Ok(Output {
        arguments,
        image,
        lines,
        tables,
        idle,
        most,
    })
}
