//! The text form of a case: TOML that a person can read, write and edit.
//!
//! ```toml
//! version = 1
//! story = "No free run is long enough for the reftable."
//!
//! [case]
//! algorithm = "first-fit"
//!
//! [case.image.synthetic]
//! version = 3
//! cluster_bits = 9
//! structures = "absent"
//! allocation = { striped = { step = 2 } }
//! guest = [{ clusters = 20, content = "data" }]
//!
//! [verdicts."qemu-img 10.0.2"]
//! exit = 0
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::observed::Observed;
use super::{Case, Impossible};

/// The version of the text form.
pub const VERSION: u32 = 1;

/// A case with what is said about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseFile {
    /// The version of the text form: [`VERSION`].
    pub version: u32,
    /// What the case shows, in a few sentences.
    pub story: Option<String>,
    /// The case.
    pub case: Case,
    /// What came of it, by subject.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub verdicts: BTreeMap<String, Verdict>,
}

/// What came of a case with one subject. Everything may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// The repair's exit code.
    pub exit: Option<i32>,
    /// Whether it had to be stopped.
    pub timed_out: Option<bool>,
    /// Whether a check afterwards finds nothing.
    pub repaired_clean: Option<bool>,
    /// The check's figures under the names of its JSON.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counters: BTreeMap<String, i64>,
    /// Properties by name: `holds`, or what went wrong.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// All that qemu-img said and did, where the case is a damaged real image.
    pub observed: Option<Observed>,
    /// Anything else worth knowing.
    pub note: Option<String>,
}

impl From<Case> for CaseFile {
    fn from(case: Case) -> Self {
        Self {
            version: VERSION,
            story: None,
            case,
            verdicts: BTreeMap::new(),
        }
    }
}

/// Why a text is not a case. Lines and columns, in characters, count from 1.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum TextError {
    /// Not readable at all.
    #[error("{file}: {source}")]
    Read {
        file: String,
        source: std::io::Error,
    },
    /// Not TOML, of another version, or not what a case file has there.
    #[error("{file}:{line}:{column}: {expected}")]
    Syntax {
        file: String,
        line: usize,
        column: usize,
        expected: String,
    },
    /// There is no such case.
    #[error("{file}: this case is impossible: {why}")]
    Impossible { file: String, why: Impossible },
}

/// Only the version, whatever else there is.
#[derive(Deserialize)]
struct Versioned {
    version: toml::Spanned<u32>,
}

/// Reads a case file.
pub fn read(path: &Path) -> Result<CaseFile, TextError> {
    let text = std::fs::read_to_string(path).map_err(|source| {
        let file = path.display().to_string();
        TextError::Read { file, source }
    })?;
    parse(path, &text)
}

/// Reads the text of a case file. `file` is for the error.
pub fn parse(file: &Path, text: &str) -> Result<CaseFile, TextError> {
    let file = file.display().to_string();
    let syntax = |error: toml::de::Error| {
        let (line, column) = position(text, error.span().map_or(0, |span| span.start));
        TextError::Syntax {
            file: file.clone(),
            line,
            column,
            expected: error.message().replace('\n', " "),
        }
    };
    // Before the rest, which another version may say differently.
    let version = toml::from_str::<Versioned>(text).map_err(syntax)?.version;
    let found = *version.get_ref();
    if found != VERSION {
        let (line, _) = position(text, version.span().start);
        return Err(TextError::Syntax {
            file,
            line,
            column: 1,
            expected: format!("expected `version = {VERSION}`, found version {found}"),
        });
    }
    let parsed: CaseFile = toml::from_str(text).map_err(syntax)?;
    let validated = parsed.case.validate();
    validated.map_err(|why| TextError::Impossible { file, why })?;
    Ok(parsed)
}

/// The text of a case file; [`parse`] gives the same back.
#[expect(
    clippy::missing_panics_doc,
    reason = "no value of the type is without a text"
)]
pub fn print(file: &CaseFile) -> String {
    // Not the pretty form, which gives each number of a list a line of its own.
    toml::to_string(file).expect("numbers past 2^63 are written as text, all keys are strings")
}

/// Line and column, from 1, of a byte of the text.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (line, before[start..].chars().count() + 1)
}
