//! The verdict table, and the counterexamples drawn as text.

use std::path::Path;

use recount_oracle::case::Algorithm;
use recount_oracle::case::text::{self, CaseFile, Verdict};
use recount_oracle::explore::{Bounds, Cell, Counterexample, Tally, draw};
use recount_oracle::toy::Toy;

use crate::columns;
use crate::error::{At as _, Result};

/// In the order of the table's columns.
pub const ALGORITHMS: [Algorithm; 3] = [Algorithm::Planned, Algorithm::FirstFit, Algorithm::Tail];

/// The name of an algorithm.
pub fn name(algorithm: Algorithm) -> &'static str {
    algorithm.into()
}

/// Prints the table, properties by algorithms, then the smallest counterexamples.
pub fn print(bounds: &Bounds, tally: &Tally) {
    let column = |&algorithm: &Algorithm| {
        let cells = bounds.properties.iter();
        let cells = cells.map(|property| Some(verdict(tally.cell(algorithm, *property))));
        (name(algorithm).to_owned(), cells.collect())
    };
    let columns: Vec<_> = bounds.algorithms.iter().map(column).collect();
    let rows: Vec<_> = bounds.properties.iter().map(ToString::to_string).collect();
    let lines = columns::lines("", &rows, &columns).join("\n");
    println!("{lines}\n\n{}", draw::LEGEND);
    for (title, example) in examples(bounds, tally) {
        println!("\n{title}");
        explain(example);
    }
}

/// The smallest counterexamples, each with what it shows.
fn examples<'a>(
    bounds: &'a Bounds,
    tally: &'a Tally,
) -> impl Iterator<Item = (String, &'a Counterexample)> {
    let algorithms = bounds.algorithms.iter();
    algorithms.flat_map(move |&algorithm| {
        bounds.properties.iter().filter_map(move |&property| {
            let cell = tally.cell(algorithm, property);
            let all = cell.fails + cell.holds;
            let title = format!(
                "{} fails {property} in {} of {all} cases; the smallest:",
                name(algorithm),
                cell.fails
            );
            Some((title, cell.smallest.as_ref()?))
        })
    })
}

fn verdict(cell: &Cell) -> String {
    match (&cell.smallest, cell.holds) {
        (None, 0) => "not looked at".to_owned(),
        (None, holds) => format!("holds ({holds} cases)"),
        (Some(example), _) => format!("fails: {}", example.word),
    }
}

fn explain(example: &Counterexample) {
    println!("  {}", example.message);
    if let Some(toy) = Toy::from_case(&example.case)
        && let Ok((_, repair)) = recount_subjects::toy(&example.case)
    {
        println!("  before  {}", draw::before(&toy));
        println!("  after   {}", draw::after(&toy, &repair.planned));
    }
    println!("  cargo xtask replay '{}'", example.word);
}

/// Writes each smallest counterexample as a case file.
pub fn store(bounds: &Bounds, tally: &Tally, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    for &algorithm in &bounds.algorithms {
        for &property in &bounds.properties {
            let Some(example) = &tally.cell(algorithm, property).smallest else {
                continue;
            };
            let name = name(algorithm);
            let verdict = Verdict {
                properties: [(property.to_string(), example.message.clone())].into(),
                ..Verdict::default()
            };
            let file = CaseFile {
                story: Some(format!(
                    "The smallest case, found by `cargo xtask model`, in which {name} fails \
                     {property}."
                )),
                verdicts: [(name.to_owned(), verdict)].into(),
                ..example.case.clone().into()
            };
            let path = folder.join(format!("model-{name}-{property}.toml"));
            std::fs::write(&path, text::print(&file)).at(path.display())?;
        }
    }
    Ok(())
}
