//! Who sees which mistake, and how soon: a table, and the page that has it.

use std::collections::BTreeMap;
use std::fs;

use super::detect::{DETECTORS, Detector};
use super::list::Mutant;
use crate::error::{At as _, Result};

/// From the root of the repository.
const PAGE: &str = "docs/mutants.md";

/// What each detector sees of each mutant, by their names.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// What goes before it in the page.
    introduction: String,
    rows: BTreeMap<String, BTreeMap<String, String>>,
}

impl Table {
    /// That of the page.
    pub fn read() -> Result<Self> {
        Ok(Self::parse(&fs::read_to_string(PAGE).at(PAGE)?))
    }

    fn parse(page: &str) -> Self {
        let (introduction, table) = page.split_once("\n|").unwrap_or((page, ""));
        let mut rows = table.lines().map(|line| {
            let cells = line.trim_start_matches('|').split('|');
            cells.map(|cell| cell.trim_matches([' ', '`']).to_owned())
        });
        let names: Vec<_> = rows.next().into_iter().flatten().collect();
        let rows = rows.map(|cells| {
            let mut row: BTreeMap<_, _> = names.iter().cloned().zip(cells).collect();
            (row.remove("mutant").unwrap_or_default(), row)
        });
        Self {
            introduction: introduction.trim_end().to_owned(),
            rows: rows.collect(),
        }
    }

    /// Takes in what a detector says of a mutant.
    pub fn set(&mut self, mutant: &Mutant, detector: Detector, seen: Option<&str>) {
        let row = self.rows.entry(mutant.name.clone()).or_default();
        row.insert(detector.name.to_owned(), seen.unwrap_or("–").to_owned());
    }

    /// The row of a mutant.
    pub fn row(&self, mutant: &Mutant, detectors: &[Detector]) -> String {
        let rule = mutant.rule.map_or(String::new(), |rule| rule.to_string());
        let mistake = if mutant.mistake { "m" } else { "" };
        let mut row = format!("| {rule}{mistake} | `{}` |", mutant.name);
        for detector in detectors {
            let cell = self.rows.get(&mutant.name);
            let cell = cell.and_then(|row| row.get(detector.name));
            row.extend([" ", cell.map_or("", String::as_str), " |"]);
        }
        row
    }

    /// Writes the page, with those of the mutants that were asked about.
    pub fn write(&self, mutants: &[Mutant]) -> Result<()> {
        fs::write(PAGE, self.page(mutants)).at(PAGE)
    }

    fn page(&self, mutants: &[Mutant]) -> String {
        let asked = |mutant: &&Mutant| self.rows.contains_key(&mutant.name);
        let rows = mutants.iter().filter(asked);
        let rows = rows.map(|mutant| self.row(mutant, &DETECTORS) + "\n");
        let rows: String = rows.collect();
        format!("{}\n\n{}\n{rows}", self.introduction, head(&DETECTORS))
    }
}

/// The lines above the rows.
pub fn head(detectors: &[Detector]) -> String {
    let names: Vec<_> = detectors.iter().map(|detector| detector.name).collect();
    let line = "---|".repeat(names.len());
    format!("| rule | mutant | {} |\n|---|---|{line}", names.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_page_says_stays_until_it_is_asked_again() {
        let mutants = super::super::list::mutants().unwrap();
        let (mutant, [first, second, ..]) = (&mutants[3], DETECTORS);
        let mut table = Table::default();
        table.set(mutant, first, Some("7 s: some_test"));
        table.set(mutant, second, None);
        let mut again = Table::parse(&table.page(&mutants));
        assert_eq!(again.page(&mutants), table.page(&mutants));
        again.set(mutant, second, Some("1 s: another"));
        let row = again.row(mutant, &[first, second]);
        assert!(row.ends_with("| 7 s: some_test | 1 s: another |"), "{row}");
    }
}
