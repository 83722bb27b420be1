//! One word that stands for a case, printed with every failure: `cargo xtask replay WORD`.
//!
//! `r1:synthetic:42` is the case that seed 42 generates; `r1` is the version of the generator.
//! Anything else is the path of a case file.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::Case;
use super::generate::{Kind, generate};
use super::text::{self, TextError};

/// The version of the generator: raised whenever a seed comes to stand for another case.
const GENERATOR: &str = "r1";

/// Stands for a case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the text of a variant names its fields")]
pub enum Id {
    /// What a `seed` generates with this `kind` of image.
    Seed { kind: Kind, seed: u64 },
    /// A case file.
    File(PathBuf),
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seed { kind, seed } => write!(f, "{GENERATOR}:{}:{seed}", kind.name()),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Why a word stands for no case.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum IdError {
    /// A seed of another version of the generator.
    #[error(
        "`{word}` is from generator {version}; this is {GENERATOR}, whose seeds give other cases"
    )]
    Version { word: String, version: String },
    /// Not a kind and a seed.
    #[error("`{word}` is not of the form {GENERATOR}:model|synthetic|real:SEED")]
    Seed { word: String },
    /// A case file that cannot be read, or is none.
    #[error(transparent)]
    File(#[from] TextError),
}

impl FromStr for Id {
    type Err = IdError;

    fn from_str(word: &str) -> Result<Self, IdError> {
        let Some((version, rest)) = word.split_once(':').filter(|(start, _)| is_version(start))
        else {
            return Ok(Self::File(word.into()));
        };
        let word = word.to_owned();
        if version != GENERATOR {
            let version = version.to_owned();
            return Err(IdError::Version { word, version });
        }
        let parsed = rest.split_once(':').and_then(|(name, seed)| {
            let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name)?;
            let seed = seed.parse().ok()?;
            Some(Self::Seed { kind, seed })
        });
        parsed.ok_or(IdError::Seed { word })
    }
}

/// `r` and a number: what no path before a colon looks like.
fn is_version(start: &str) -> bool {
    let number = start.strip_prefix('r');
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

impl Id {
    /// The case that it stands for.
    pub fn case(&self) -> Result<Case, IdError> {
        match self {
            Self::Seed { kind, seed } => Ok(generate(*kind, *seed)),
            Self::File(path) => Ok(text::read(path)?.case),
        }
    }
}
