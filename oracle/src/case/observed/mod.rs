//! What a qemu-img said about a damaged image and did to it: the part of a recorded verdict that
//! `cargo xtask differential` compares with.

mod layout;
mod said;

use serde::{Deserialize, Serialize};

pub use layout::Layout;
pub use said::{Counters, Ended, Said};

/// Everything that a comparison needs to know of one qemu-img.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is something that was seen or not"
)]
pub struct Observed {
    /// Its version: major, minor.
    pub qemu: (u32, u32),
    /// Whether `-r all` rebuilt.
    pub rebuilds: bool,
    /// Whether `-r all` left none of the snapshots that there were.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub loses_snapshots: bool,
    /// Whether its overlap check stopped `-r all` from writing over a structure.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped_by_overlap: bool,
    /// Whether it was built without zstd, and opens no image of that compression type.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lacks_zstd: bool,
    /// A check without repair.
    pub check: Said,
    /// `-r leaks`.
    pub leaks: Said,
    /// `-r all`.
    pub all: Said,
    /// A check after `-r all`.
    pub settled: Said,
    /// The refcount structure after `-r all`, where that rebuilt.
    pub layout: Option<Layout>,
}

impl Observed {
    /// As it comes back from text: without the programs' messages.
    pub fn as_recorded(&self) -> Self {
        let mut recorded = self.clone();
        recorded.check.stderr.clear();
        recorded.leaks.stderr.clear();
        recorded.all.stderr.clear();
        recorded.settled.stderr.clear();
        recorded
    }
}
