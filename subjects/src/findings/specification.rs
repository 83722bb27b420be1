//! Which parts of the qcow2 specification a failure breaks.

use recount_oracle::audit::Wrong;
use recount_oracle::audit::{self, LayerId, Referrer};
use recount_oracle::case::damage::SparseBytes;

/// A part of the specification, and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// The title of the section.
    pub name: &'static str,
    /// Its words.
    pub says: &'static str,
}

const HEADER: Section = Section {
    name: "Header",
    says: "The first cluster of a qcow2 image contains the file header: […] QCOW magic string \
           (\"QFI\\xfb\") […] Version number (valid values are 2 and 3) […] An implementation must fail \
           to open an image if an unknown bit is set.",
};
const WRITERS: Section = Section {
    name: "Header, autoclear_features and Header extensions",
    says: "An implementation may only write to an image with unknown auto-clear features if it clears \
           the respective bits from this field first. […] other: Unknown header extension, can be \
           safely ignored",
};
const REFCOUNTS: Section = Section {
    name: "Host cluster management",
    says: "qcow2 manages the allocation of host clusters by maintaining a reference count for each host \
           cluster. A refcount of 0 means that the cluster is free, 1 means that it is used, and >= 2 \
           means that it is used and any write access must perform a COW (copy on write) operation.",
};
const REFCOUNT_TABLE: Section = Section {
    name: "Host cluster management, Refcount table entry",
    says: "Bits 9-63 of the offset into the image file at which the refcount block starts. Must be \
           aligned to a cluster boundary. If this is 0, the corresponding refcount block has not yet \
           been allocated. All refcounts managed by this refcount block are 0.",
};
const MAPPING: Section = Section {
    name: "Cluster mapping",
    says: "Given an offset into the virtual disk, the offset into the image file can be obtained as \
           follows: […] l2_table = load_cluster(l1_table[l1_index]); cluster_offset = \
           l2_table[l2_index];",
};
const COPIED: Section = Section {
    name: "Cluster mapping, L1 and L2 table entry",
    says: "Bit 63: 0 for clusters that are unused, compressed or require COW. 1 for standard clusters \
           whose refcount is exactly one. This information is only accurate in L2 tables that are \
           reachable from the active L1 table.",
};
const COMPRESSED: Section = Section {
    name: "Cluster mapping, Compressed Clusters Descriptor",
    says: "Host cluster offset. This is usually _not_ aligned to a cluster or sector boundary! […] \
           Number of additional 512-byte sectors used for the compressed data […] Some of these sectors \
           may reside in the next contiguous host cluster.",
};
const SNAPSHOTS: Section = Section {
    name: "Snapshots",
    says: "When creating a snapshot, the L1 table should be copied and the refcount of all L2 tables and \
           clusters reachable from this L1 table must be increased, so that a write causes a COW and \
           isn't visible in other snapshots.",
};
const BITMAPS: Section = Section {
    name: "Bitmaps extension and Bitmaps",
    says: "Bit 0: Bitmaps extension bit. This bit indicates consistency for the bitmaps extension data.",
};

/// What the specification has about a failure of this kind, with this story, that left this image.
pub fn about(property: &str, story: &str, after: &SparseBytes) -> Vec<Section> {
    let mut sections = match property {
        "keeps-guest-data" => vec![MAPPING],
        "keeps-header-settings" if story.contains("extension") || story.contains("autoclear") => {
            vec![WRITERS]
        }
        "keeps-header-settings" => vec![HEADER],
        "ends" => Vec::new(),
        _ => vec![REFCOUNTS],
    };
    let Ok(audit) = audit::audit(after) else {
        sections.retain(|section| *section != HEADER);
        sections.insert(0, HEADER);
        return sections;
    };
    for mismatch in &audit.mismatches {
        for by in audit.uses(mismatch.cluster) {
            sections.push(REFCOUNTS);
            sections.extend(of_use(by));
        }
    }
    for corruption in audit.corruptions.iter().chain(&audit.qemu.copied) {
        sections.push(match (corruption.wrong, corruption.referrer) {
            (Wrong::Copied { .. }, _) => COPIED,
            (_, by) if by.is_structure() => REFCOUNT_TABLE,
            (_, by) => of_use(&by).unwrap_or(MAPPING),
        });
    }
    let mut known = Vec::new();
    for section in sections {
        if !known.contains(&section) {
            known.push(section);
        }
    }
    known
}

/// What it has about a use of clusters that is forgotten easily.
const fn of_use(by: &Referrer) -> Option<Section> {
    match by {
        Referrer::SnapshotTable => Some(SNAPSHOTS),
        Referrer::Compressed { .. } => Some(COMPRESSED),
        Referrer::BitmapDirectory | Referrer::BitmapTable { .. } | Referrer::BitmapData { .. } => {
            Some(BITMAPS)
        }
        _ => match by.layer() {
            Some(LayerId::Snapshot(_)) => Some(SNAPSHOTS),
            _ => None,
        },
    }
}
