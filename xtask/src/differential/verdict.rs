//! What a check said: the exit code and the counters of its JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::program::{Ended, Output};

/// What a check said.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// How the program ended.
    pub ended: Ended,
    /// The JSON's counters; `None` when it printed no JSON, as a check that failed does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counters: Option<Counters>,
    /// Its messages, which are not recorded.
    #[serde(skip)]
    pub stderr: String,
}

/// The numbers of the JSON, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Counters(pub BTreeMap<String, i64>);

impl Counters {
    /// A counter; those that are 0 are not printed.
    pub fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or_default()
    }
}

impl Verdict {
    /// From what a program printed.
    pub fn new(output: Output) -> Self {
        let counters = serde_json::from_str::<BTreeMap<String, Value>>(&output.stdout).ok();
        let number = |(name, value): (String, Value)| value.as_i64().map(|value| (name, value));
        Self {
            ended: output.ended,
            counters: counters.map(|all| Counters(all.into_iter().filter_map(number).collect())),
            stderr: output.stderr,
        }
    }

    /// Nothing is wrong with the image.
    pub fn is_clean(&self) -> bool {
        self.ended == Ended::Code(0)
    }

    /// It ended by itself.
    pub const fn is_answer(&self) -> bool {
        matches!(self.ended, Ended::Code(_))
    }

    /// Same exit code and same counters; two refusals are the same whatever their messages.
    pub fn agrees_with(&self, other: &Self) -> bool {
        self.ended == other.ended && self.counters == other.counters
    }

    /// A counter; 0 without JSON.
    pub fn counter(&self, name: &str) -> i64 {
        self.counters.as_ref().map_or(0, |all| all.get(name))
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.ended)?;
        match &self.counters {
            Some(Counters(counters)) => {
                for (name, value) in counters {
                    write!(f, " {name}={value}")?;
                }
            }
            None => write!(f, ", no result")?,
        }
        // The beginning tells what is wrong, the end what was done about it.
        let lines: Vec<_> = self.stderr.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            if index < 6 || index + 4 >= lines.len() {
                write!(f, "\n      | {line}")?;
            } else if index == 6 {
                write!(f, "\n      | …")?;
            }
        }
        Ok(())
    }
}
