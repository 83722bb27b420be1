//! What a check said: the exit code and the counters of its JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It was ended because it took too long.
    TimedOut,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
            Self::TimedOut => f.write_str("timed out"),
        }
    }
}

/// What a check said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    /// How the program ended.
    pub ended: Ended,
    /// The JSON's counters; `None` when it printed no JSON, as a check that failed does.
    pub counters: Option<Counters>,
    /// Its messages, which are not recorded.
    #[serde(skip)]
    pub stderr: String,
}

/// The numbers of the JSON, by name; those that are 0 are left out.
pub type Counters = BTreeMap<String, i64>;

impl Said {
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
        let all = self.counters.as_ref();
        all.and_then(|all| all.get(name)).copied().unwrap_or(0)
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.ended)?;
        match &self.counters {
            Some(counters) => {
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
