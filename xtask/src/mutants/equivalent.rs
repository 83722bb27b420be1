//! Mutants that change nothing that anyone could see: mutants/equivalent.toml.

use std::error::Error;

use serde::Deserialize;

/// The checked-in list.
const TEXT: &str = include_str!("../../../mutants/equivalent.toml");

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

impl Equivalent {
    /// Whether it is this change of this line.
    pub fn is(&self, file: &str, change: &str, code: &str) -> bool {
        self.file == file && self.mutant == change && self.code == code
    }
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    equivalent: Vec<Equivalent>,
}

/// All of them.
pub fn read() -> Result<Vec<Equivalent>, Box<dyn Error>> {
    let list: List =
        toml::from_str(TEXT).map_err(|error| format!("mutants/equivalent.toml: {error}"))?;
    Ok(list.equivalent)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_line_is_still_in_its_file() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for known in read().unwrap() {
            let text = std::fs::read_to_string(top.join(&known.file)).unwrap();
            let is_there = text.lines().any(|line| line.trim() == known.code);
            assert!(is_there, "{}: no line `{}`", known.file, known.code);
            assert!(!known.why.is_empty(), "{}: no reason", known.code);
        }
    }
}
