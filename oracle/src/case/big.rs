//! Numbers past 2^63 in text: TOML has no larger integers, so they are written as hexadecimal
//! strings.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Either way of writing a number.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Small(i64),
    Large(String),
}

impl From<u64> for Written {
    fn from(value: u64) -> Self {
        i64::try_from(value).map_or_else(|_| Self::Large(format!("{value:#x}")), Self::Small)
    }
}

impl Written {
    fn value<E: serde::de::Error>(self) -> Result<u64, E> {
        let parsed = match &self {
            Self::Small(value) => u64::try_from(*value).ok(),
            Self::Large(text) => {
                let digits = text.strip_prefix("0x");
                digits.and_then(|digits| u64::from_str_radix(digits, 16).ok())
            }
        };
        parsed.ok_or_else(|| {
            E::custom("expected a number from 0 on, or one as \"0xffffffffffffffff\"")
        })
    }
}

/// One number.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
pub fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    Written::from(*value).serialize(serializer)
}

/// One number.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Written::deserialize(deserializer)?.value()
}

/// A list of numbers.
pub mod list {
    use super::{Deserialize, Deserializer, Serializer, Written};

    /// All of them.
    pub fn serialize<S: Serializer>(values: &[u64], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(|&value| Written::from(value)))
    }

    /// All of them.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
        let written = Vec::<Written>::deserialize(deserializer)?;
        written.into_iter().map(Written::value).collect()
    }
}
