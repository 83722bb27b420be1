//! A toy and who plans for it as one word: `toy:first-fit:b4e2w16:#o..#:grows`. The sizes are B, E
//! and the width of a refcount in bits; then a mark for each cluster (`#` used, `o` old structure,
//! `.` free); then `grows`, or `spare3` for a device with three clusters after the end.

use std::fmt;
use std::str::FromStr;

use super::{CLUSTERS_MAX, Shape, Toy};
use crate::case::{Algorithm, Case, StorageLimit};

/// A toy and the algorithm that plans for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Word {
    /// The toy.
    pub toy: Toy,
    /// The algorithm.
    pub algorithm: Algorithm,
}

impl Word {
    /// What the words begin with.
    pub const PREFIX: &str = "toy:";

    /// The case that it stands for.
    pub fn to_case(&self) -> Case {
        self.toy.to_case(self.algorithm)
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Toy { shape, .. } = self.toy;
        write!(
            f,
            "{}{}:b{}e{}w{}:",
            Self::PREFIX,
            self.algorithm,
            shape.refcounts(),
            shape.entries(),
            1 << shape.refcount_order,
        )?;
        for cluster in 0..self.toy.clusters {
            let used = self.toy.used.contains(cluster);
            let old = self.toy.old.contains(cluster);
            f.write_str(match (used, old) {
                (true, _) => "#",
                (false, true) => "o",
                (false, false) => ".",
            })?;
        }
        match self.toy.room {
            StorageLimit::Growing => f.write_str(":grows"),
            StorageLimit::Fixed { spare } => write!(f, ":spare{spare}"),
        }
    }
}

/// A word that stands for no toy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{word}`: {what}; a toy is written like toy:planned:b4e2w16:#o..#:grows, with B, E and the \
     width in bits, a mark for each cluster (# used, o old, . free), then grows or spare3"
)]
pub struct NoToy {
    word: String,
    what: &'static str,
}

impl FromStr for Word {
    type Err = NoToy;

    fn from_str(word: &str) -> Result<Self, NoToy> {
        let no = |what| NoToy {
            word: word.to_owned(),
            what,
        };
        let fields: Vec<&str> = word.split(':').collect();
        let [_, algorithm, shape, marks, room] = fields[..] else {
            return Err(no("not five parts"));
        };
        let algorithm = algorithm.parse();
        let algorithm = algorithm.map_err(|_| no("no such algorithm"))?;
        let shape = parse_shape(shape).ok_or_else(|| no("no such sizes"))?;
        let set = |wanted| {
            let marked = (0..).zip(marks.chars()).filter(|(_, mark)| *mark == wanted);
            marked.map(|(cluster, _)| cluster).collect()
        };
        let clusters = marks.len() as u32;
        if clusters > CLUSTERS_MAX / 4 || marks.contains(|mark| !"#o.".contains(mark)) {
            return Err(no("not a line of clusters"));
        }
        let room = match room.strip_prefix("spare").map(str::parse) {
            Some(Ok(spare)) if spare <= CLUSTERS_MAX / 4 => StorageLimit::Fixed { spare },
            None if room == "grows" => StorageLimit::Growing,
            _ => return Err(no("neither grows nor spare and a number")),
        };
        let toy = Toy {
            shape,
            clusters,
            used: set('#'),
            old: set('o'),
            room,
        };
        let case = toy.to_case(algorithm);
        case.validate().map_err(|_| no("no such image"))?;
        Ok(Self { toy, algorithm })
    }
}

fn parse_shape(text: &str) -> Option<Shape> {
    let (refcounts, rest) = text.strip_prefix('b')?.split_once('e')?;
    let (entries, width) = rest.split_once('w')?;
    let logarithm = |number: &str| {
        let number: u32 = number.parse().ok()?;
        number.is_power_of_two().then(|| number.trailing_zeros())
    };
    Some(Shape {
        refblock_bits: logarithm(refcounts)?,
        reftable_entry_bits: logarithm(entries)?,
        refcount_order: logarithm(width)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_read_back_as_the_toy_that_it_stands_for() {
        for text in [
            "toy:first-fit:b4e2w16:#o..#:grows",
            "toy:planned:b2e4w64:##:spare3",
            "toy:tail:b8e2w2:#:spare0",
        ] {
            let word: Word = text.parse().expect("a toy");
            assert_eq!(word.to_string(), text);
            assert_eq!(Toy::from_case(&word.to_case()), Some(word.toy));
        }
    }

    #[test]
    fn what_is_no_toy_is_refused_with_the_form_of_one() {
        for text in [
            "toy:",
            "toy:best-fit:b4e2w16:#:grows",
            "toy:planned:b3e2w16:#:grows",
            "toy:planned:b4e2w16:#+:grows",
            "toy:planned:b4e2w16:#:spare",
            "toy:planned:b4e2w16:..:grows",
        ] {
            let error = text.parse::<Word>().expect_err(text);
            assert!(error.to_string().contains("toy:planned:b4e2"), "{error}");
        }
    }
}
