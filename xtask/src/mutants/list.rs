//! The list of mutants: a file, what to replace in it, and which mistake that stands for.

use std::error::Error;

use serde::Deserialize;

/// The checked-in list.
const TEXT: &str = include_str!("../../../mutants/mutants.toml");

/// A plausible mistake.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutant {
    /// A name for tables.
    pub name: String,
    /// The file, from the top of the tree.
    pub file: String,
    /// What is there, once.
    pub old: String,
    /// What is there instead.
    pub new: String,
    /// The mistake that it stands for.
    pub why: String,
}

/// A mutant that does not fit its file any more.
#[derive(Debug, thiserror::Error)]
#[error(
    "mutant {name}: what it replaces is {times} times in {file}; it has to be there once: \
     adapt mutants/mutants.toml to the code"
)]
pub struct Misfit {
    name: String,
    file: String,
    times: usize,
}

#[derive(Deserialize)]
struct List {
    mutant: Vec<Mutant>,
}

/// All mutants.
pub fn read() -> Result<Vec<Mutant>, Box<dyn Error>> {
    let list: List =
        toml::from_str(TEXT).map_err(|error| format!("mutants/mutants.toml: {error}"))?;
    Ok(list.mutant)
}

impl Mutant {
    /// The file's text with the mistake in it.
    pub fn apply(&self, text: &str) -> Result<String, Misfit> {
        let times = text.matches(&self.old).count();
        if times != 1 {
            return Err(Misfit {
                name: self.name.clone(),
                file: self.file.clone(),
                times,
            });
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
        let mutants = read().expect("a list");
        assert!(mutants.len() >= 25, "only {}", mutants.len());
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
}
