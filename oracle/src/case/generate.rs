//! Cases from seeds and from the bytes of a fuzzer.

use arbitrary::{Arbitrary, Result, Unstructured};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Case, Image};

/// Random bytes that a case is made of: what it does not use up costs nothing.
const ENTROPY: usize = 4096;

/// The case with a synthetic image that a seed stands for: the same one in every run of this
/// version.
#[must_use]
#[expect(clippy::missing_panics_doc, reason = "no bytes are without a case")]
pub fn generate(seed: u64) -> Case {
    let mut bytes = vec![0; ENTROPY];
    ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
    let mut entropy = Unstructured::new(&bytes);
    let image = entropy.arbitrary().map(Image::Synthetic);
    let case = image.and_then(|image| with_image(image, &mut entropy));
    case.expect("bytes that run out read as zeros, which are a case")
}

/// A case with this image.
fn with_image(image: Image, entropy: &mut Unstructured<'_>) -> Result<Case> {
    let is_toy = matches!(image, Image::Model(_));
    Ok(Case {
        image,
        storage: entropy.arbitrary()?,
        algorithm: entropy.arbitrary()?,
        schedule: entropy.arbitrary()?,
        damage: if is_toy {
            Vec::new()
        } else {
            entropy.arbitrary()?
        },
    })
}

impl<'a> Arbitrary<'a> for Case {
    fn arbitrary(entropy: &mut Unstructured<'a>) -> Result<Self> {
        let image = match entropy.choose_index(3)? {
            0 => Image::Model(entropy.arbitrary()?),
            1 => Image::Synthetic(entropy.arbitrary()?),
            _ => Image::Real(entropy.arbitrary()?),
        };
        with_image(image, entropy)
    }
}
