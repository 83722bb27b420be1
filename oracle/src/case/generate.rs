//! Cases from seeds. The bytes that the seed's random numbers give are read by `Arbitrary`, so a
//! fuzzer and a seed reach the same cases.

use arbitrary::{Arbitrary, Unstructured};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Case, Image};

/// Random bytes that a case is made of: what it does not use up costs nothing.
const ENTROPY: usize = 4096;

/// The kinds of images that a seed can stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A toy.
    Model,
    /// A whole image, laid out by the builder.
    Synthetic,
    /// One that qemu-img makes.
    Real,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Model, Self::Synthetic, Self::Real];

    /// As it is written in a case's id.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Synthetic => "synthetic",
            Self::Real => "real",
        }
    }
}

/// The case that a seed stands for: the same one in every run of this version.
#[must_use]
#[expect(clippy::missing_panics_doc, reason = "no bytes are without a case")]
pub fn generate(kind: Kind, seed: u64) -> Case {
    let mut bytes = vec![0; ENTROPY];
    ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
    let mut entropy = Unstructured::new(&bytes);
    of_kind(kind, &mut entropy).expect("bytes that run out read as zeros, which are a case")
}

/// A case with an image of the kind.
pub fn of_kind(kind: Kind, entropy: &mut Unstructured<'_>) -> arbitrary::Result<Case> {
    let image = match kind {
        Kind::Model => Image::Model(entropy.arbitrary()?),
        Kind::Synthetic => Image::Synthetic(entropy.arbitrary()?),
        Kind::Real => Image::Real(entropy.arbitrary()?),
    };
    Ok(Case {
        image,
        storage: entropy.arbitrary()?,
        algorithm: entropy.arbitrary()?,
        schedule: entropy.arbitrary()?,
        damage: match kind {
            Kind::Model => Vec::new(),
            Kind::Synthetic | Kind::Real => Vec::arbitrary(entropy)?,
        },
    })
}

impl<'a> Arbitrary<'a> for Case {
    fn arbitrary(entropy: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let kind = *entropy.choose(&Kind::ALL)?;
        of_kind(kind, entropy)
    }
}
