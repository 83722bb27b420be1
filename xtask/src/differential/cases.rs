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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use recount_oracle::case::real::Step;

    use super::*;

    fn ids() -> impl Iterator<Item = CaseId> {
        (0..4_000).map(|index| CaseId { seed: 11, index })
    }

    #[test]
    fn a_case_is_the_same_each_time() {
        for id in ids().take(64) {
            assert_eq!(id.case(), id.case());
            assert_eq!(id.recipe(), id.recipe().settled(), "{id}");
            assert_eq!(id.to_string().parse::<CaseId>().unwrap(), id);
        }
        let others = ids().map(|id| CaseId { seed: 12, ..id });
        let differing = ids()
            .zip(others)
            .filter(|(id, other)| id.case() != other.case());
        assert!(differing.count() > 3_900);
    }

    #[test]
    fn every_kind_of_image_and_damage_appears() {
        let mut kinds = BTreeSet::new();
        for id in ids() {
            let recipe = id.recipe();
            let words = format!("{:?}", (recipe.kind, recipe.preallocation, id.damage()));
            let names = words.split(|c: char| !c.is_ascii_alphanumeric());
            let names = names.filter(|name| name.starts_with(|c: char| c.is_ascii_uppercase()));
            kinds.extend(names.map(str::to_owned));
            kinds.insert(format!("cluster {}", recipe.cluster_bits));
            kinds.insert(format!("width {}", recipe.refcount_order));
            for (is_so, name) in [
                (recipe.version_2, "version 2"),
                (recipe.extended_l2, "extended L2"),
                (
                    recipe.zstd && recipe.steps.iter().any(is_compressed),
                    "zstd",
                ),
                (
                    recipe.lazy_refcounts && recipe.steps.contains(&Step::Kill),
                    "killed",
                ),
            ] {
                kinds.extend(is_so.then(|| name.to_owned()));
            }
        }
        for expected in [
            "Plain",
            "Backing",
            "DataFile",
            "Luks",
            "Metadata",
            "Falloc",
            "Full",
            "version 2",
            "extended L2",
            "zstd",
            "killed",
            "Gone",
            "OffsetZero",
            "Refcount",
            "Refblock",
            "ReftableEntry",
            "L1Entry",
            "L2Entry",
            "Compressed",
            "Subclusters",
            "Snapshot",
            "Bitmap",
            "Header",
            "Truncated",
            "CopyOf",
            "Scattered",
            "PastEnd",
            "Shifted",
        ] {
            assert!(
                kinds.contains(expected),
                "{expected} is missing from {kinds:?}"
            );
        }
        let sizes = (9..=21).map(|bits| format!("cluster {bits}"));
        for size in sizes.chain((0..=6).map(|order| format!("width {order}"))) {
            assert!(kinds.contains(&size), "{size} is missing");
        }
    }

    const fn is_compressed(step: &Step) -> bool {
        matches!(step, Step::Compressed { .. })
    }
}
