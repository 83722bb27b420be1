//! Which arms of the walk over an image an input reaches: each kind of finding, of referrer, of
//! entry, of refusal and of repair step is one.

use std::collections::BTreeSet;
use std::fmt::Debug;

use recount::{Action, Finding, MemoryStorage, Observer, check, repair};

use super::image::{INPUT_MAX, Way};
use crate::audit::{Unreadable, audit};

/// All arms that an image of at most [`INPUT_MAX`] bytes can reach, as [`reached`] names them.
pub const ARMS: [&str; 71] = [
    "check ends with Image",
    "check ends with Walk",
    "entry Compressed",
    "entry Data",
    "entry Preallocated",
    "entry Subclusters",
    "entry Zero",
    "finding AtHeader",
    "finding BitmapDirectory",
    "finding BitmapTableEntry",
    "finding CompressedCopied",
    "finding CompressedInDataFile",
    "finding CompressedSubclusters",
    "finding DataUnaligned",
    "finding DoubledTable",
    "finding EmptiedTables",
    "finding EmptyUnaligned",
    "finding L1Copied",
    "finding L1Reserved",
    "finding L1Unaligned",
    "finding L2Copied",
    "finding L2Reserved",
    "finding Leak",
    "finding LostTable",
    "finding NotATable",
    "finding Overflow",
    "finding Overlap",
    "finding PastEnd",
    "finding RefblockOutside",
    "finding RefblockShared",
    "finding RefblockUnaligned",
    "finding RefcountsUnreadable",
    "finding ReftableReserved",
    "finding ReftableUnusable",
    "finding SnapshotBlank",
    "finding SnapshotExtraData",
    "finding SnapshotIncomplete",
    "finding SnapshotL1TooLarge",
    "finding SnapshotL1Unaligned",
    "finding SnapshotsInDataFile",
    "finding SubclustersContradict",
    "finding SubclustersUnallocated",
    "finding TableNotWritten",
    "finding TooLow",
    "not opened for Extension",
    "not opened for Field",
    "not opened for L1TooSmall",
    "not opened for Magic",
    "not opened for Table",
    "referrer BitmapData",
    "referrer BitmapDirectory",
    "referrer BitmapTable",
    "referrer Compressed",
    "referrer Data",
    "referrer Header",
    "referrer L1",
    "referrer L2",
    "referrer LuksHeader",
    "referrer Refblock",
    "referrer Reftable",
    "referrer SnapshotTable",
    "step ClearedAutoclear",
    "step ClearedCopied",
    "step ClearedFlags",
    "step Lowered",
    "step Raised",
    "step Rebuilt",
    "step ReplacedEntries",
    "step RewroteSnapshotTable",
    "step ShortenedSnapshotTable",
    "step SetCopied",
];

/// Arms that no image of at most [`INPUT_MAX`] bytes can reach.
pub const OUT_OF_REACH: [&str; 1] = ["finding LostTablesNotSought"];

/// The arms that an input reaches.
#[must_use]
pub fn reached(input: &[u8]) -> BTreeSet<String> {
    let mut arms = Arms::default();
    if input.len() > INPUT_MAX {
        return arms.0;
    }
    let mut storage = MemoryStorage::growing(input.to_vec());
    if let Err(error) = check(&storage, &mut arms) {
        arms.add("check ends with", &error);
    }
    if let Ok(report) = repair(&mut storage, &Way::of(input).options, &mut arms) {
        for step in &report.steps {
            arms.add("step", step);
        }
        for damage in &report.kept.examples {
            arms.add("finding", damage);
        }
    }
    match audit(&input) {
        Ok(audit) => {
            for referrer in audit.references.values().flatten() {
                arms.add("referrer", referrer);
            }
            for (_, mapping) in audit.layers.iter().flat_map(|layer| &layer.map) {
                arms.add("entry", mapping);
            }
        }
        Err(Unreadable::NotOpened(refusal)) => arms.add("not opened for", &refusal),
        Err(_) => (),
    }
    arms.0
}

/// Collects names.
#[derive(Default)]
struct Arms(BTreeSet<String>);

impl Arms {
    /// The name of an enum's variant is what its debug form begins with.
    fn add(&mut self, kind: &str, what: &dyn Debug) {
        let text = format!("{what:?}");
        let end = text.find(|letter: char| !letter.is_alphanumeric());
        let name = &text[..end.unwrap_or(text.len())];
        self.0.insert(format!("{kind} {name}"));
    }
}

impl Observer for Arms {
    fn finding(&mut self, finding: &Finding, _action: Action) {
        self.add("finding", finding);
    }
}
