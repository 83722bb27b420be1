//! Which cases a run goes through: case `i` of seed `s` is the same in every run, in every shard, and
//! whatever share of the images is synthetic.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use rand::{RngExt as _, SeedableRng};
use rand_chacha::ChaCha8Rng;
use recount_oracle::case::build;
use recount_oracle::case::damage;
use recount_oracle::case::generate;
use recount_oracle::case::real::{self, Recipe};
use recount_oracle::case::synthetic::Structures;
use recount_oracle::case::{Algorithm, Case, Image, Schedule, StorageLimit};

/// So many cases in a row damage the same image: making one takes longer than checking it.
const CASES_PER_IMAGE: u64 = 8;

/// Most clusters of a synthetic image's file: qemu-img takes a second for a few hundred million.
const LONGEST_SYNTHETIC: u64 = 1 << 22;
/// Seeds tried for a synthetic image that is not too long.
const TRIES: u64 = 64;

/// Case `index` of seed `seed`, written `seed:index`, or `seed:sindex` when its image is synthetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CaseId {
    pub seed: u64,
    /// The place in the run, from 0.
    pub index: u64,
    /// Whether our own builder makes the image, and not qemu-img.
    pub synthetic: bool,
}

/// Which groups of cases a run goes through. All cases of a group damage the same image, or are all
/// synthetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Where the random cases begin.
    pub seed: u64,
    /// How many cases there are, those of other shards included.
    pub cases: u64,
    /// Percent of the groups that are synthetic.
    pub synthetic_share: u32,
    /// Every how manieth group is this run's.
    pub shard: Shard,
}

/// A part of the cases: the `of` parts have no case in common, and leave none out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which, from 1.
    pub number: u64,
    /// Of how many.
    pub of: u64,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (number, of) = text.split_once('/')?;
            let (number, of) = (number.parse().ok()?, of.parse().ok()?);
            (1..=of).contains(&number).then_some(Self { number, of })
        };
        parse().ok_or_else(|| {
            format!("`{text}` is not a shard: it is written K/N, as in 2/8, with K from 1 to N")
        })
    }
}

impl Selection {
    /// The groups of this shard, in order.
    pub fn own_groups(&self) -> impl Iterator<Item = u64> {
        let shard = self.shard;
        let groups = self.cases.div_ceil(CASES_PER_IMAGE);
        (0..groups).filter(move |group| group % shard.of == shard.number - 1)
    }

    pub fn group(&self, group: u64) -> Vec<CaseId> {
        // Spread evenly: the group at which the share of all before it goes up by one.
        let share = u64::from(self.synthetic_share);
        let synthetic = (group + 1) * share / 100 > group * share / 100;
        let first = group * CASES_PER_IMAGE;
        let indices = first..self.cases.min(first + CASES_PER_IMAGE);
        let id = |index| CaseId {
            seed: self.seed,
            index,
            synthetic,
        };
        indices.map(id).collect()
    }
}

/// A case of a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CaseName {
    Random(CaseId),
    Recorded(PathBuf),
}

impl CaseName {
    /// Whether it is read from a file.
    pub const fn is_recorded(&self) -> bool {
        matches!(self, Self::Recorded(_))
    }

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

impl FromStr for CaseId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (seed, index) = text.split_once(':')?;
            let real = index.strip_prefix('s');
            Some(Self {
                seed: seed.parse().ok()?,
                index: real.unwrap_or(index).parse().ok()?,
                synthetic: real.is_some(),
            })
        };
        parse().ok_or_else(|| {
            format!("`{text}` is not a case: it is written SEED:INDEX, as in 7:1203 or 7:s1203")
        })
    }
}

impl fmt::Display for CaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.synthetic { "s" } else { "" };
        write!(f, "{}:{kind}{}", self.seed, self.index)
    }
}

impl CaseId {
    /// The recipe of a real image, the same for all cases of the group.
    pub fn recipe(self) -> Recipe {
        let group = self.index / CASES_PER_IMAGE;
        real::random_recipe(&mut generator(self.seed, 2 * group))
    }

    /// Whether the image stays as it was made: the first of a group, as every program should first be
    /// tried on what is whole.
    const fn is_undamaged(self) -> bool {
        self.index.is_multiple_of(CASES_PER_IMAGE)
    }

    /// The case as the value that is stored and replayed.
    pub fn case(self) -> Case {
        if self.synthetic {
            return self.synthetic();
        }
        // This case's own.
        let mut damage = damage::random_damage(&mut generator(self.seed, 2 * self.index + 1));
        damage.retain(|_| !self.is_undamaged());
        Case {
            image: Image::Real(self.recipe()),
            damage,
            storage: StorageLimit::default(),
            algorithm: Algorithm::default(),
            schedule: Schedule::default(),
        }
    }

    /// A synthetic case with a file that is not too long. What goes wrong meanwhile is another
    /// harness's matter; how large a device is, that of the comparison of devices.
    fn synthetic(self) -> Case {
        let mut rng = generator(self.seed, 2 * self.index + 1);
        let mut made = Case {
            schedule: Schedule::default(),
            ..generate(rng.random())
        };
        for _ in 0..TRIES {
            // Its LUKS header has no key, without which qemu-img opens no image.
            if let Image::Synthetic(image) = &mut made.image {
                image.luks = false;
            }
            if clusters(&made.image).is_some_and(|clusters| clusters <= LONGEST_SYNTHETIC) {
                break;
            }
            made.image = generate(rng.random()).image;
        }
        if let Image::Synthetic(image) = &mut made.image
            && self.is_undamaged()
        {
            made.damage.clear();
            image.structures = Structures::default();
        }
        made
    }
}

/// Clusters of a synthetic image's file; `None` when there is no such image.
fn clusters(image: &Image) -> Option<u64> {
    let Image::Synthetic(synthetic) = image else {
        return None;
    };
    let bytes = build::image(image).ok()?;
    Some(bytes.len() >> synthetic.cluster_bits)
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

    fn ids(synthetic: bool) -> impl Iterator<Item = CaseId> {
        (0..4_000).map(move |index| CaseId {
            seed: 11,
            index,
            synthetic,
        })
    }

    #[test]
    fn a_case_is_the_same_each_time_and_no_synthetic_one_too_long() {
        for id in ids(false).take(64).chain(ids(true).take(64)) {
            let case = id.case();
            assert_eq!(case, id.case());
            assert_eq!(id.to_string().parse(), Ok(id));
            match &case.image {
                Image::Real(recipe) => assert_eq!(*recipe, recipe.clone().settled(), "{id}"),
                image => assert!(clusters(image).unwrap() <= LONGEST_SYNTHETIC, "{id}"),
            }
        }
        let differing = ids(false).filter(|id| id.case() != CaseId { seed: 12, ..*id }.case());
        assert!(differing.count() > 3_900);
    }

    #[test]
    fn shards_are_disjoint_and_whole() {
        let whole = Selection {
            seed: 3,
            cases: 1_001,
            synthetic_share: 30,
            shard: Shard { number: 1, of: 1 },
        };
        let of = |selection: Selection| -> Vec<CaseId> {
            let groups = selection.own_groups();
            groups.flat_map(|group| selection.group(group)).collect()
        };
        let mut parts: Vec<CaseId> = (1..=7)
            .map(|number| Shard { number, of: 7 })
            .flat_map(|shard| of(Selection { shard, ..whole }))
            .collect();
        parts.sort_by_key(|id| id.index);
        assert_eq!(parts, of(whole));
        assert_eq!(parts.len(), 1_001);
        let synthetic = parts.iter().filter(|id| id.synthetic).count();
        assert!((280..=320).contains(&synthetic), "{synthetic}");
    }

    #[test]
    fn what_is_no_shard_is_refused() {
        assert_eq!("2/8".parse::<Shard>().unwrap(), Shard { number: 2, of: 8 });
        for text in ["0/8", "9/8", "1", "1/0", "a/b", ""] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_kind_of_image_and_damage_appears() {
        let mut kinds = BTreeSet::new();
        for id in ids(false) {
            let recipe = id.recipe();
            let words = format!(
                "{:?}",
                (recipe.kind, recipe.preallocation, id.case().damage)
            );
            let names = words.split(|c: char| !c.is_ascii_alphanumeric());
            kinds.extend(names.map(str::to_owned));
            kinds.insert(format!("cluster-{}", recipe.cluster_bits));
            kinds.insert(format!("width-{}", recipe.refcount_order));
            let compressed = recipe.steps.iter().any(is_compressed);
            let killed = recipe.steps.contains(&Step::Kill);
            for (is_so, name) in [
                (recipe.version_2, "version-2"),
                (recipe.extended_l2, "extended-L2"),
                (recipe.zstd && compressed, "zstd"),
                (recipe.lazy_refcounts && killed, "killed"),
            ] {
                kinds.extend(is_so.then(|| name.to_owned()));
            }
        }
        let expected = "\
            Plain Backing DataFile Luks Metadata Falloc Full version-2 extended-L2 zstd killed Gone \
            OffsetZero Refcount Refblock ReftableEntry L1Entry L2Entry Compressed Subclusters \
            Snapshot Bitmap Header Truncated CopyOf Scattered PastEnd Shifted";
        for expected in expected.split(' ') {
            assert!(
                kinds.contains(expected),
                "{expected} is missing from {kinds:?}"
            );
        }
        let sizes = (9..=21).map(|bits| format!("cluster-{bits}"));
        for size in sizes.chain((0..=6).map(|order| format!("width-{order}"))) {
            assert!(kinds.contains(&size), "{size} is missing");
        }
    }

    const fn is_compressed(step: &Step) -> bool {
        matches!(step, Step::Compressed { .. })
    }
}
