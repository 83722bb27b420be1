//! Cases as bytes that a fuzzer can change: a version, then what `Arbitrary` reads.
//!
//! The version is raised whenever bytes come to stand for another case: when a field is added, the
//! order of fields changes, or `Arbitrary` of a part of the case reads something else. An input of
//! another version says nothing here, and says so instead of standing for some other case.

use arbitrary::{Arbitrary, Unstructured};

use super::Target;
use crate::case::damage::Damage;
use crate::case::model::Model;
use crate::case::synthetic::Allocation;
use crate::case::synthetic::Synthetic;
use crate::case::{Case, Fault, Image, Schedule};

/// The version of the encoding.
pub const VERSION: u8 = 1;

/// Most acts of damage in one case.
const DAMAGE_MAX: usize = 4;
/// Most operations that fail in one case.
const FAULTS_MAX: usize = 3;
/// Which operations of a kind fail: one of the first so many.
const NTH_MAX: u32 = 48;
/// Longest image, in bytes, that is kept in memory.
const LENGTH_MAX: u64 = 1 << 26;
/// Most clusters from one used one to the next.
const STEP_MAX: u32 = 8;
/// The largest cluster, as its binary logarithm: larger ones take more time and show no more.
const CLUSTER_BITS_MAX: u32 = 12;

/// Why bytes are no case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotACase {
    /// Nothing at all.
    #[error("an empty input has no version and stands for no case")]
    Empty,
    /// Another version.
    #[error(
        "this input is in version {found} of the case encoding, and was written by a recount that \
         reads that version; this one reads version {VERSION}. Replay it there, or replay the case \
         file that was stored with it"
    )]
    Version {
        /// Its version.
        found: u8,
    },
    /// The target reads images, not cases.
    #[error("the inputs of the target {0} are images, not cases")]
    NoCases(Target),
    /// The case's image is too large to be run often.
    #[error("the image of this case is too large to be fuzzed: {0}")]
    TooLarge(&'static str),
    /// The bytes cannot be read as a case.
    #[error("these bytes stand for no case: {0}")]
    Unreadable(#[from] arbitrary::Error),
}

/// The case that bytes stand for.
pub fn decode(target: Target, input: &[u8]) -> Result<Case, NotACase> {
    let (&found, rest) = input.split_first().ok_or(NotACase::Empty)?;
    if found != VERSION {
        return Err(NotACase::Version { found });
    }
    let mut entropy = Unstructured::new(rest);
    let case = match target {
        Target::Image => return Err(NotACase::NoCases(target)),
        Target::Rebuild => toy(&mut entropy, Schedule::Quiet)?,
        Target::Crash => {
            let crash = Schedule::Crash(entropy.arbitrary()?);
            toy_or_image(&mut entropy, crash)?
        }
        Target::Fault => {
            let count = entropy.int_in_range(1..=FAULTS_MAX)?;
            let faults = (0..count).map(|_| {
                let fault: Fault = entropy.arbitrary()?;
                // Beyond that a small case has no operation to fail.
                let nth = fault.nth % NTH_MAX;
                Ok::<_, arbitrary::Error>(Fault { nth, ..fault })
            });
            let faults = Schedule::Faults(faults.collect::<Result<_, _>>()?);
            toy_or_image(&mut entropy, faults)?
        }
    };
    small_enough(&case)?;
    Ok(case)
}

fn toy(entropy: &mut Unstructured<'_>, schedule: Schedule) -> arbitrary::Result<Case> {
    Ok(Case {
        storage: entropy.arbitrary()?,
        algorithm: entropy.arbitrary()?,
        image: Image::Model(Model::arbitrary(entropy)?),
        damage: Vec::new(),
        schedule,
    })
}

fn toy_or_image(entropy: &mut Unstructured<'_>, schedule: Schedule) -> arbitrary::Result<Case> {
    if entropy.ratio(1, 2)? {
        return toy(entropy, schedule);
    }
    let (storage, algorithm) = (entropy.arbitrary()?, entropy.arbitrary()?);
    let count = entropy.int_in_range(0..=DAMAGE_MAX)?;
    let damage = (0..count).map(|_| Damage::arbitrary(entropy));
    Ok(Case {
        damage: damage.collect::<Result<_, _>>()?,
        image: Image::Synthetic(Synthetic::arbitrary(entropy)?),
        storage,
        algorithm,
        schedule,
    })
}

/// Whether a case can be run thousands of times a second.
fn small_enough(case: &Case) -> Result<(), NotACase> {
    let image = match &case.image {
        Image::Synthetic(image) => image,
        // With B = 2 and E = 1 a reftable cluster covers no more than itself and the refblock that
        // it then needs: where the table has to follow the end, no size of it is enough.
        Image::Model(toy) if toy.refblock_bits + toy.reftable_entry_bits < 2 => {
            return Err(NotACase::TooLarge("its reftable cannot cover itself"));
        }
        Image::Model(_) | Image::Real(_) => return Ok(()),
    };
    if image.cluster_bits > CLUSTER_BITS_MAX {
        return Err(NotACase::TooLarge("its clusters are over 4 KiB"));
    }
    let sparse = match image.allocation {
        Allocation::Striped { step } => step > STEP_MAX,
        Allocation::OneARange { .. } | Allocation::Scattered { .. } => true,
        Allocation::Dense | Allocation::AfterHole { .. } | Allocation::Listed(_) => false,
    };
    if sparse {
        return Err(NotACase::TooLarge("its clusters are far apart"));
    }
    if image.virtual_size() > LENGTH_MAX {
        return Err(NotACase::TooLarge("its virtual disk is over 64 MiB"));
    }
    Ok(())
}
