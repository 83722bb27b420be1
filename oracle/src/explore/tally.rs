//! What was found: for each algorithm and property, how often it holds, and the smallest case in
//! which it does not.

use serde::{Deserialize, Serialize};

use super::images::Named;
use crate::case::{Algorithm, Case, StorageLimit};
use crate::properties::Property;
use crate::toy::{Shape, Toy, Word};

/// A case in which a property fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counterexample {
    /// The case.
    pub case: Case,
    /// The word that stands for it: `cargo xtask replay WORD`.
    pub word: String,
    /// Why the property fails.
    pub message: String,
    /// Its place in the order of size.
    size: Size,
}

/// The order of size: the clusters of file and room after it, those that are used, and so on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Size {
    storage: u32,
    spare: u32,
    occupied: u32,
    old_clusters: u32,
    covered_by_one: u32,
    shape: u32,
    used: (u64, u64),
    old: (u64, u64),
}

impl Size {
    pub(super) fn of(toy: &Toy) -> Self {
        let Shape {
            refblock_bits,
            reftable_entry_bits,
            ..
        } = toy.shape;
        let halves = |set: u128| ((set >> 64) as u64, set as u64);
        let spare = match toy.room {
            StorageLimit::Growing => 0,
            StorageLimit::Fixed { spare } => spare,
        };
        Self {
            storage: toy.clusters + spare,
            spare,
            occupied: toy.used.count() + toy.old.count(),
            old_clusters: toy.old.count(),
            covered_by_one: refblock_bits + reftable_entry_bits,
            shape: refblock_bits,
            used: halves(toy.used.0),
            old: halves(toy.old.0),
        }
    }
}

/// A property of an algorithm.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Cases in which it holds.
    pub holds: u64,
    /// Cases in which it fails.
    pub fails: u64,
    /// The smallest of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smallest: Option<Counterexample>,
}

impl Cell {
    pub(super) fn hold(&mut self) {
        self.holds += 1;
    }

    /// Notes a failure; `message` is only asked for when it is the smallest so far.
    pub(super) fn fail(&mut self, toy: &Toy, algorithm: Algorithm, message: impl Fn() -> String) {
        self.fails += 1;
        let size = Size::of(toy);
        if self.smallest.as_ref().is_none_or(|known| size < known.size) {
            let word = Word {
                toy: *toy,
                algorithm,
            };
            self.smallest = Some(Counterexample {
                case: word.to_case(),
                word: word.to_string(),
                message: message(),
                size,
            });
        }
    }

    /// Notes a failure of a whole image, the `index`th: larger than any toy.
    pub(super) fn fail_image(&mut self, index: u32, image: &Named, message: String) {
        self.fails += 1;
        let size = Size {
            storage: u32::MAX,
            spare: index,
            ..Size::default()
        };
        if self.smallest.as_ref().is_none_or(|known| size < known.size) {
            self.smallest = Some(Counterexample {
                case: image.case.clone(),
                word: image.name.clone(),
                message,
                size,
            });
        }
    }

    fn merge(self, other: Self) -> Self {
        let smallest = match (self.smallest, other.smallest) {
            (Some(one), Some(two)) => Some(if two.size < one.size { two } else { one }),
            (one, two) => one.or(two),
        };
        Self {
            holds: self.holds + other.holds,
            fails: self.fails + other.fails,
            smallest,
        }
    }
}

/// A row of the verdict table for each algorithm and property.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    cells: Vec<Cell>,
    /// The smallest cases in which tail fails and first-fit does not, by property.
    added: Vec<Cell>,
    /// States after power cuts, and runs with faults.
    states: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            cells: vec![Cell::default(); 3 * Property::ALL.len()],
            added: vec![Cell::default(); Property::ALL.len()],
            states: 0,
        }
    }
}

impl Tally {
    /// What was found of a property of an algorithm.
    #[must_use]
    pub fn cell(&self, algorithm: Algorithm, property: Property) -> &Cell {
        &self.cells[index(algorithm, property)]
    }

    pub(super) fn cell_mut(&mut self, algorithm: Algorithm, property: Property) -> &mut Cell {
        &mut self.cells[index(algorithm, property)]
    }

    /// The cases in which `tail` fails and `first-fit`, on the same toy, does not.
    #[must_use]
    pub fn added_by_tail(&self, property: Property) -> &Cell {
        &self.added[property as usize]
    }

    pub(super) fn added_by_tail_mut(&mut self, property: Property) -> &mut Cell {
        &mut self.added[property as usize]
    }

    /// How many states after power cuts and runs with faults were looked at.
    #[must_use]
    pub const fn states(&self) -> u64 {
        self.states
    }

    pub(super) const fn note_states(&mut self, states: u64) {
        self.states += states;
    }

    /// What was found in either.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let both = |one: Vec<Cell>, two: Vec<Cell>| {
            let pairs = one.into_iter().zip(two);
            pairs.map(|(one, two)| one.merge(two)).collect()
        };
        Self {
            cells: both(self.cells, other.cells),
            added: both(self.added, other.added),
            states: self.states + other.states,
        }
    }
}

const fn index(algorithm: Algorithm, property: Property) -> usize {
    algorithm as usize * Property::ALL.len() + property as usize
}
