//! Small whole images, each damaged in one way, repaired from end to end: for what toys cannot
//! show, as they have no tables to follow and nothing to check.

use itertools::Itertools as _;
use serde::Deserialize;

use crate::case::damage::Damage;
use crate::case::synthetic::Synthetic;
use crate::case::{Algorithm, Case, Image, Schedule, StorageLimit};
use crate::crash::Limits;
use crate::run;

/// Crash states and faults of one repair: a sample.
pub const BOUNDS: run::Bounds = run::Bounds {
    crashes: Limits {
        exhaustive_bits: 4,
        samples: 4,
        seed: 1,
    },
    faults_of_a_kind: 2,
    pairs: 2,
};

/// An image with a name that stands for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// `image:planned:snapshots:l1-entry-past-end:grows`.
    pub name: String,
    /// The case.
    pub case: Case,
}

impl Named {
    /// What the names begin with.
    pub const PREFIX: &str = "image:";
}

/// What the file beside this one lists.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lists {
    damages: Vec<(String, Vec<Damage>)>,
    images: Vec<NamedImage>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedImage {
    name: String,
    image: Synthetic,
}

/// All of them: each image with each damage, on a file and on a device, by each algorithm.
///
/// # Panics
///
/// If the list is no such list, which a test would show.
pub fn all(algorithms: &[Algorithm]) -> Vec<Named> {
    let lists: Lists = toml::from_str(include_str!("images.toml")).expect("images and damages");
    let of_images = lists.images.iter();
    let of_damages = of_images.cartesian_product(&lists.damages);
    let of_rooms = of_damages.cartesian_product(ROOMS);
    let all = of_rooms.cartesian_product(algorithms);
    all.map(
        |(((image, (damaged, damage)), (room, storage)), &algorithm)| Named {
            name: format!(
                "{}{algorithm}:{}:{damaged}:{room}",
                Named::PREFIX,
                image.name,
            ),
            case: Case {
                image: Image::Synthetic(image.image.clone()),
                damage: damage.clone(),
                storage,
                algorithm,
                schedule: Schedule::Quiet,
            },
        },
    )
    .collect()
}

const ROOMS: [(&str, StorageLimit); 2] = [
    ("grows", StorageLimit::Growing),
    ("spare4", StorageLimit::Fixed { spare: 4 }),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_stands_for_one_image_that_can_be_built() {
        let cases = all(&[Algorithm::Planned, Algorithm::Tail]);
        let names: std::collections::BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
        assert_eq!(names.len(), cases.len());
        for Named { name, case } in &cases {
            assert_eq!(case.validate(), Ok(()), "{name}");
        }
    }
}
