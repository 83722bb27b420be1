//! The list of mutants: a file, what to replace in it, and which mistake that stands for.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{At as _, Result};

/// The checked-in list.
const MUTANTS: &str = include_str!("../../../mutants/mutants.toml");
/// The list of those that change nothing that anyone could see.
const EQUIVALENT: &str = include_str!("../../../mutants/equivalent.toml");

/// A plausible mistake.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutant {
    /// A name for tables.
    pub name: String,
    /// The file, from the top of the tree.
    pub file: String,
    pub old: String,
    pub new: String,
    /// The mistake that it stands for.
    pub why: String,
    /// The rule of the contract of a repair that it breaks, where it is the one chosen for that rule.
    pub rule: Option<u8>,
    /// Whether it is one that was made once and that much of the judge did not see.
    #[serde(default)]
    pub mistake: bool,
}

/// A mutant that no test can see.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Equivalent {
    /// The file, from the top of the tree.
    pub file: String,
    /// What cargo-mutants calls it, without the place.
    pub mutant: String,
    /// The line that it changes, without indentation.
    pub code: String,
    /// Why nobody could see it.
    pub why: String,
}

/// All mutants.
pub fn mutants() -> Result<Vec<Mutant>> {
    read("mutant", "mutants/mutants.toml", MUTANTS)
}

/// All mutants of cargo-mutants that are known to change nothing that anyone could see.
pub fn equivalent() -> Result<Vec<Equivalent>> {
    read("equivalent", "mutants/equivalent.toml", EQUIVALENT)
}

/// The one table of a file.
fn read<T: DeserializeOwned>(table: &str, file: &str, text: &str) -> Result<Vec<T>> {
    let mut tables: BTreeMap<String, Vec<T>> = toml::from_str(text).at(file)?;
    Ok(tables.remove(table).unwrap_or_default())
}

impl Mutant {
    /// Whether every part of the judge has to see it.
    pub const fn is_of_rules(&self) -> bool {
        self.rule.is_some() || self.mistake
    }

    /// The file's text with the mistake in it.
    pub fn apply(&self, text: &str) -> Result<String> {
        let times = text.matches(&self.old).count();
        if times != 1 {
            let Self { name, file, .. } = self;
            return Err(format!(
                "mutant {name}: what it replaces is {times} times in {file}; it has to be there \
                 once: adapt mutants/mutants.toml to the code"
            )
            .into());
        }
        Ok(text.replacen(&self.old, &self.new, 1))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_mutant_fits_the_code_as_it_is() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mutants = mutants().expect("a list");
        assert!(mutants.len() >= 25, "only {}", mutants.len());
        let rules: BTreeSet<_> = mutants.iter().filter_map(|mutant| mutant.rule).collect();
        assert!(rules.into_iter().eq(1..=12), "a rule has no mutant");
        let names: BTreeSet<_> = mutants.iter().map(|mutant| &mutant.name).collect();
        assert_eq!(names.len(), mutants.len(), "a name is there twice");
        for mutant in &mutants {
            let text = std::fs::read_to_string(top.join(&mutant.file)).expect("a file");
            let broken = mutant
                .apply(&text)
                .unwrap_or_else(|error| panic!("{error}"));
            assert_ne!(broken, text, "{} changes nothing", mutant.name);
        }
    }

    #[test]
    fn every_line_of_an_equivalent_mutant_is_still_in_its_file() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for known in equivalent().unwrap() {
            let text = std::fs::read_to_string(top.join(&known.file)).unwrap();
            let is_there = text.lines().any(|line| line.trim() == known.code);
            assert!(is_there, "{}: no line `{}`", known.file, known.code);
            assert!(!known.why.is_empty(), "{}: no reason", known.code);
        }
    }
}
