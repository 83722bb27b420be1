//! Which cases a run goes through: case `i` of seed `s` is the same in every run.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use recount_oracle::case::damage::{self, Damage};
use recount_oracle::case::real::{self, Recipe};
use recount_oracle::case::{Algorithm, Case, Image, Schedule, StorageLimit};

/// So many cases in a row damage the same image: making one takes longer than checking it.
pub const CASES_PER_IMAGE: u64 = 8;

/// Case `index` of seed `seed`, written `seed:index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CaseId {
    /// The seed of the run.
    pub seed: u64,
    /// The place in the run, from 0.
    pub index: u64,
}

/// A case of a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CaseName {
    /// Made from a seed.
    Random(CaseId),
    /// Read from a file.
    Recorded(PathBuf),
}

impl CaseName {
    /// The option that runs this case alone.
    pub fn option(&self) -> String {
        match self {
            Self::Random(id) => format!("--only {id}"),
            Self::Recorded(path) => format!("--case {}", path.display()),
        }
    }
}

impl fmt::Display for CaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random(id) => id.fmt(f),
            Self::Recorded(path) => path.display().fmt(f),
        }
    }
}

/// A case is named by two numbers with a colon between them.
#[derive(Clone, Debug, thiserror::Error)]
#[error("`{0}` is not a case: it is written SEED:INDEX, as in 7:1203")]
pub struct NotACase(String);

impl FromStr for CaseId {
    type Err = NotACase;

    fn from_str(text: &str) -> Result<Self, NotACase> {
        let parse = || {
            let (seed, index) = text.split_once(':')?;
            Some(Self {
                seed: seed.parse().ok()?,
                index: index.parse().ok()?,
            })
        };
        parse().ok_or_else(|| NotACase(text.to_owned()))
    }
}

impl fmt::Display for CaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seed, self.index)
    }
}

impl CaseId {
    /// The number of its image, from 0.
    pub const fn group(self) -> u64 {
        self.index / CASES_PER_IMAGE
    }

    /// The image, the same for all cases of the group.
    pub fn recipe(self) -> Recipe {
        real::random_recipe(&mut generator(self.seed, 2 * self.group()))
    }

    /// The damage, this case's own.
    pub fn damage(self) -> Vec<Damage> {
        damage::random_damage(&mut generator(self.seed, 2 * self.index + 1))
    }

    /// The case as the value that is stored and replayed.
    pub fn case(self) -> Case {
        Case {
            image: Image::Real(self.recipe()),
            damage: self.damage(),
            storage: StorageLimit::default(),
            algorithm: Algorithm::default(),
            schedule: Schedule::default(),
        }
    }
}

/// Independent numbers for every stream of a seed.
fn generator(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}
