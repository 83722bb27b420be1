//! What is shown of a cluster: its use, and what is wrong with it. Each has a letter, a name and colours.

use console::Color;
use recount::map::{Stretch, Use, Wrong};

/// A thing that is shown of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Use(Use),
    Leaked,
    /// Something leads there, and the file ends before it.
    PastEnd,
    Wrong(Wrong),
}

/// What is never said of the same cluster, each of the others.
pub const USES: [Mark; 11] = [
    Mark::Use(Use::Header),
    Mark::Use(Use::LuksHeader),
    Mark::Use(Use::Reftable),
    Mark::Use(Use::Refblock),
    Mark::Use(Use::L1Table),
    Mark::Use(Use::L2Table),
    Mark::Use(Use::SnapshotTable),
    Mark::Use(Use::Bitmap),
    Mark::Use(Use::Compressed),
    Mark::Use(Use::Data),
    Mark::Use(Use::Free),
];

/// What is wrong, the worst first.
pub const PROBLEMS: [Mark; 6] = [
    Mark::Wrong(Wrong::Overlap),
    Mark::Wrong(Wrong::TooLow),
    Mark::Wrong(Wrong::Unreadable),
    Mark::Wrong(Wrong::TooHigh),
    Mark::PastEnd,
    Mark::Leaked,
];

impl Mark {
    pub const fn is_problem(self) -> bool {
        !matches!(self, Self::Use(_))
    }

    /// Letters of uses are small, those of problems large or no letters.
    pub const fn letter(self) -> char {
        match self {
            Self::Use(Use::Free) => '.',
            Self::Use(Use::Data) => 'd',
            Self::Use(Use::Compressed) => 'c',
            Self::Use(Use::Bitmap) => 'b',
            Self::Use(Use::SnapshotTable) => 's',
            Self::Use(Use::L2Table) => '2',
            Self::Use(Use::L1Table) => '1',
            Self::Use(Use::Refblock) => 'r',
            Self::Use(Use::Reftable) => 't',
            Self::Use(Use::LuksHeader) => 'k',
            Self::Use(Use::Header) => 'h',
            Self::Leaked | Self::Use(Use::Leaked) => 'L',
            Self::PastEnd => '>',
            Self::Wrong(Wrong::TooHigh) => '+',
            Self::Wrong(Wrong::Unreadable) => '?',
            Self::Wrong(Wrong::TooLow) => '!',
            Self::Wrong(Wrong::Overlap) => 'X',
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Use(Use::Free) => "free",
            Self::Use(Use::Data) => "data",
            Self::Use(Use::Compressed) => "compressed data",
            Self::Use(Use::Bitmap) => "bitmap",
            Self::Use(Use::SnapshotTable) => "snapshot table",
            Self::Use(Use::L2Table) => "L2 table",
            Self::Use(Use::L1Table) => "L1 table",
            Self::Use(Use::Refblock) => "refblock",
            Self::Use(Use::Reftable) => "reftable",
            Self::Use(Use::LuksHeader) => "LUKS header",
            Self::Use(Use::Header) => "header",
            Self::Leaked | Self::Use(Use::Leaked) => "leaked",
            Self::PastEnd => "past the end",
            Self::Wrong(Wrong::TooHigh) => "refcount too high",
            Self::Wrong(Wrong::Unreadable) => "refcount unreadable",
            Self::Wrong(Wrong::TooLow) => "refcount too low",
            Self::Wrong(Wrong::Overlap) => "used twice",
        }
    }

    /// Its background on a terminal; nothing where most of it is nothing.
    pub const fn background(self) -> Option<Color> {
        match self {
            Self::Use(Use::Free) => None,
            Self::Use(Use::Data) => Some(Color::Blue),
            Self::Use(Use::Compressed) => Some(Color::Cyan),
            Self::Use(Use::Bitmap | Use::SnapshotTable) => Some(Color::Magenta),
            Self::Use(Use::L2Table | Use::L1Table) => Some(Color::Green),
            Self::Use(Use::Refblock | Use::Reftable) => Some(Color::Yellow),
            Self::Use(Use::LuksHeader | Use::Header) => Some(Color::White),
            _ => Some(Color::Red),
        }
    }

    /// Its colour in a picture.
    pub const fn fill(self) -> &'static str {
        match self {
            Self::Use(Use::Free) => "var(--free)",
            Self::Use(Use::Data) => "#5b8fd9",
            Self::Use(Use::Compressed) => "#3fb5c4",
            Self::Use(Use::Bitmap) => "#c48fdb",
            Self::Use(Use::SnapshotTable) => "#8a5cc2",
            Self::Use(Use::L2Table) => "#7bbf5e",
            Self::Use(Use::L1Table) => "#3d8b37",
            Self::Use(Use::Refblock) => "#e3c14d",
            Self::Use(Use::Reftable) => "#b8901f",
            Self::Use(Use::LuksHeader) => "#a1887f",
            Self::Use(Use::Header) => "#6d5a52",
            Self::Leaked | Self::Use(Use::Leaked) => "#f28c28",
            Self::PastEnd => "#b0005e",
            Self::Wrong(Wrong::TooHigh) => "#ff7a59",
            Self::Wrong(Wrong::Unreadable) => "#c2185b",
            Self::Wrong(Wrong::TooLow) => "#e5182d",
            Self::Wrong(Wrong::Overlap) => "#7f0013",
        }
    }

    /// Its bit in a set.
    const fn bit(self) -> u32 {
        match self {
            Self::Use(holds) => 1 << holds as u32,
            Self::Leaked => 1 << 16,
            Self::PastEnd => 1 << 17,
            Self::Wrong(wrong) => 1 << (18 + wrong as u32),
        }
    }
}

/// What is shown of some clusters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks(u32);

impl Marks {
    pub const PAST_END: Self = Self(Mark::PastEnd.bit());

    pub fn of(stretch: &Stretch) -> Self {
        let holds = match stretch.holds {
            Use::Leaked => Mark::Leaked,
            holds => Mark::Use(holds),
        };
        let wrong = stretch.wrong.map_or(0, |wrong| Mark::Wrong(wrong).bit());
        Self(holds.bit() | wrong)
    }

    pub const fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub const fn has(self, mark: Mark) -> bool {
        self.0 & mark.bit() != 0
    }

    /// All of them, the worst first, then the uses in the order of the legend.
    pub fn iter(self) -> impl Iterator<Item = Mark> {
        let all = PROBLEMS.into_iter().chain(USES);
        all.filter(move |mark| self.has(*mark))
    }

    /// The one that is worst.
    pub fn worst_problem(self) -> Option<Mark> {
        self.iter().next().filter(|mark| mark.is_problem())
    }
}
