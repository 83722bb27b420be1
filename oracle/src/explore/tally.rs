//! What was found: for each algorithm and property, how often it holds, and the smallest case in
//! which it does not.

use serde::{Deserialize, Serialize};

use super::images::Named;
use crate::case::{Algorithm, Case, StorageLimit};
use crate::properties::{Failure, Property, Verdict};
use crate::toy::{Toy, Word};

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
type Size = [u64; 10];

/// What a property was asked of.
#[derive(Clone, Copy)]
pub(super) enum Subject<'a> {
    /// A toy, as an algorithm repairs it.
    Toy(&'a Toy, Algorithm),
    /// A whole image, the so-many-th.
    Image(usize, &'a Named),
}

impl Subject<'_> {
    const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Toy(_, algorithm) => *algorithm,
            Self::Image(_, image) => image.case.algorithm,
        }
    }

    /// An image is larger than any toy.
    fn size(&self) -> Size {
        let toy = match *self {
            Self::Toy(toy, _) => toy,
            Self::Image(index, _) => return [u64::MAX, index as u64, 0, 0, 0, 0, 0, 0, 0, 0],
        };
        let spare = match toy.room {
            StorageLimit::Growing => 0,
            StorageLimit::Fixed { spare } => spare,
        };
        let (used, old, refblock_bits) = (toy.used, toy.old, toy.shape.refblock_bits);
        let small = [
            toy.clusters + spare,
            spare,
            used.count() + old.count(),
            old.count(),
            refblock_bits + toy.shape.reftable_entry_bits,
            refblock_bits,
        ];
        let [storage, spare, occupied, of_old, covered_by_one, shape] = small.map(u64::from);
        let [used, old] = [used, old].map(|set| [(set.0 >> 64) as u64, set.0 as u64]);
        [
            storage,
            spare,
            occupied,
            of_old,
            covered_by_one,
            shape,
            used[0],
            used[1],
            old[0],
            old[1],
        ]
    }

    fn counterexample(&self, failure: Failure) -> Counterexample {
        let (case, word) = match *self {
            Self::Toy(&toy, algorithm) => {
                let word = Word { toy, algorithm };
                (word.to_case(), word.to_string())
            }
            Self::Image(_, image) => (image.case.clone(), image.name.clone()),
        };
        Counterexample {
            case,
            word,
            message: failure.message,
            size: self.size(),
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
    /// Counts a verdict.
    pub(super) fn note(&mut self, subject: Subject<'_>, verdict: Verdict) {
        match verdict {
            Verdict::Holds => self.holds += 1,
            Verdict::NotApplicable => (),
            Verdict::Fails(failure) => {
                self.fails += 1;
                let size = subject.size();
                if self.smallest.as_ref().is_none_or(|known| size < known.size) {
                    self.smallest = Some(subject.counterexample(failure));
                }
            }
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

    /// Counts what a property says.
    pub(super) fn note(&mut self, subject: Subject<'_>, property: Property, verdict: Verdict) {
        let index = index(subject.algorithm(), property);
        self.cells[index].note(subject, verdict);
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
