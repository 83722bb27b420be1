//! What was found: for each algorithm and property, how often it holds, and the smallest case in
//! which it does not.

use super::images::Named;
use crate::case::{Algorithm, Case};
use crate::properties::{Failure, Property, Verdict};
use crate::toy::{Toy, Word};

/// A case in which a property fails.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// The order of size. An image, of which the number counts, is larger than any toy. Of a toy: the
/// clusters of file and room after it, those that are used, and so on.
type Size = (Option<usize>, [u32; 6], [u128; 2]);

/// What a property was asked of.
#[derive(Clone, Copy)]
pub(super) enum Sample<'a> {
    /// A toy, as an algorithm repairs it.
    Toy(&'a Toy, Algorithm),
    /// A whole image, the so-many-th.
    Image(usize, &'a Named),
}

impl Sample<'_> {
    const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Toy(_, algorithm) => *algorithm,
            Self::Image(_, image) => image.case.algorithm,
        }
    }

    fn size(&self) -> Size {
        let toy = match *self {
            Self::Toy(toy, _) => toy,
            Self::Image(index, _) => return (Some(index), [0; 6], [0; 2]),
        };
        let (used, old, shape) = (toy.used, toy.old, toy.shape);
        let storage = toy.capacity().unwrap_or(toy.clusters);
        let small = [
            storage,
            storage - toy.clusters,
            used.count() + old.count(),
            old.count(),
            shape.refblock_bits + shape.reftable_entry_bits,
            shape.refblock_bits,
        ];
        (None, small, [used.0, old.0])
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
#[derive(Clone, Debug, Default)]
pub struct Cell {
    /// Cases in which it holds.
    pub holds: u64,
    /// Cases in which it fails.
    pub fails: u64,
    /// The smallest of these.
    pub smallest: Option<Counterexample>,
}

impl Cell {
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
#[derive(Clone, Debug)]
pub struct Tally {
    cells: Vec<Cell>,
    /// Planner runs.
    pub runs: u64,
    /// States after power cuts, and runs with faults.
    pub states: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            cells: vec![Cell::default(); 3 * Property::ALL.len()],
            runs: 0,
            states: 0,
        }
    }
}

impl Tally {
    /// What was found of a property of an algorithm.
    pub fn cell(&self, algorithm: Algorithm, property: Property) -> &Cell {
        &self.cells[index(algorithm, property)]
    }

    /// Counts what a property says.
    pub(super) fn note(&mut self, sample: Sample<'_>, property: Property, verdict: Verdict) {
        let cell = &mut self.cells[index(sample.algorithm(), property)];
        match verdict {
            Verdict::Holds => cell.holds += 1,
            Verdict::NotApplicable => (),
            Verdict::Fails(failure) => {
                cell.fails += 1;
                let size = sample.size();
                if cell.smallest.as_ref().is_none_or(|known| size < known.size) {
                    cell.smallest = Some(sample.counterexample(failure));
                }
            }
        }
    }

    /// What was found in either.
    pub fn merge(self, other: Self) -> Self {
        let pairs = self.cells.into_iter().zip(other.cells);
        Self {
            cells: pairs.map(|(one, two)| one.merge(two)).collect(),
            runs: self.runs + other.runs,
            states: self.states + other.states,
        }
    }
}

const fn index(algorithm: Algorithm, property: Property) -> usize {
    algorithm as usize * Property::ALL.len() + property as usize
}
