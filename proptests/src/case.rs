//! Whole cases: an image, damage, storage, algorithm, and what goes wrong.

use arbitrary::{Arbitrary, Unstructured};
use proptest::collection::vec;
use proptest::prelude::*;
use recount_oracle::case::damage::Damage;
use recount_oracle::case::{
    Algorithm, Case, Crash, Fault, FaultKind, Image, Operation, Schedule, StorageLimit, Times,
};

/// Bytes that one act of damage is made of.
const DAMAGE_BYTES: usize = 48;
/// Acts of damage to one image, at most.
const DAMAGE_MAX: usize = 4;
/// Writes after which the power may fail: more than a repair of a small image makes.
const WRITES_MAX: u32 = 400;

/// A case with the image that another strategy gives; whole, quiet, on storage that grows.
fn with_image(image: impl Strategy<Value = Image>) -> impl Strategy<Value = Case> {
    (image, storage(), algorithm()).prop_map(|(image, storage, algorithm)| Case {
        image,
        damage: Vec::new(),
        storage,
        algorithm,
        schedule: Schedule::Quiet,
    })
}

/// An undamaged synthetic image or a toy, and nothing that goes wrong.
pub fn case() -> impl Strategy<Value = Case> {
    let image = prop_oneof![
        super::model().prop_map(Image::Model),
        super::synthetic().prop_map(Image::Synthetic),
    ];
    with_image(image)
}

/// A synthetic image with damage, and perhaps a crash or faults.
pub fn damaged() -> impl Strategy<Value = Case> {
    let image = super::synthetic().prop_map(Image::Synthetic);
    let damage = vec(damage(), 1..=DAMAGE_MAX);
    (with_image(image), damage, schedule()).prop_map(|(case, damage, schedule)| Case {
        damage,
        schedule,
        ..case
    })
}

/// One act of damage.
#[expect(
    clippy::missing_panics_doc,
    reason = "no bytes are without an act of damage"
)]
pub fn damage() -> impl Strategy<Value = Damage> {
    // Shrinking takes bytes down to 0, and so picks to the first candidate.
    vec(any::<u8>(), DAMAGE_BYTES).prop_map(|bytes| {
        Damage::arbitrary(&mut Unstructured::new(&bytes)).expect("bytes that run out read as zeros")
    })
}

/// Whether there is room after the end, or how much.
pub fn storage() -> impl Strategy<Value = StorageLimit> {
    prop_oneof![
        Just(StorageLimit::Growing),
        (0_u32..200).prop_map(|spare| StorageLimit::Fixed { spare }),
    ]
}

fn algorithm() -> impl Strategy<Value = Algorithm> {
    prop::sample::select(vec![
        Algorithm::Planned,
        Algorithm::FirstFit,
        Algorithm::Tail,
    ])
}

/// Nothing, a power cut, or failing operations.
pub fn schedule() -> impl Strategy<Value = Schedule> {
    let crash = (0..WRITES_MAX, any::<u64>()).prop_map(|(after, kept)| Crash { after, kept });
    prop_oneof![
        2 => Just(Schedule::Quiet),
        1 => crash.prop_map(Schedule::Crash),
        1 => vec(fault(), 1..=2).prop_map(Schedule::Faults),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    let operation = prop::sample::select(vec![
        Operation::Write,
        Operation::Flush,
        Operation::SetLen,
        Operation::Read,
    ]);
    let error = prop::sample::select(vec![FaultKind::Io, FaultKind::NoSpace, FaultKind::Short]);
    let times = prop::sample::select(vec![Times::Once, Times::Twice, Times::Forever]);
    (operation, 0..WRITES_MAX, error, times).prop_map(|(operation, nth, error, times)| Fault {
        operation,
        nth,
        error,
        times,
    })
}
