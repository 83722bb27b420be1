//! What the images have that not every writer supports.

use std::collections::BTreeSet;

use recount_oracle::audit::{Audit, Mapping};

/// What not every writer supports. Images also differ by the sizes of clusters and refcounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, strum::Display)]
pub enum Feature {
    /// Compressed clusters, several of them in one cluster of the file.
    #[strum(to_string = "compressed clusters")]
    Compressed,
    /// Extended L2 entries.
    #[strum(to_string = "subclusters")]
    Subclusters,
    /// A raw backing file, which may be shorter than the disk: [`BACKING`](crate::BACKING).
    #[strum(to_string = "a backing file")]
    Backing,
    /// An internal snapshot, which a writer has to leave as it is.
    #[strum(to_string = "a snapshot")]
    Snapshot,
    /// Compressed clusters, if there are any, are zstd instead of zlib.
    #[strum(to_string = "the compression type zstd")]
    Zstd,
    /// The guest's data is in another file: [`DATA_FILE`](crate::DATA_FILE).
    #[strum(to_string = "an external data file")]
    DataFile,
    /// LUKS. Of random images nobody has the key: they must be declined.
    #[strum(to_string = "encryption")]
    Encrypted,
    /// Other refcounts than those of 16 bits.
    #[strum(to_string = "other refcounts than of 16 bits")]
    RefcountWidth,
    /// Other clusters than those of 64 KiB.
    #[strum(to_string = "other clusters than of 64 KiB")]
    ClusterSize,
}

/// What an image has.
pub(crate) fn of(audit: &Audit, has_backing: bool) -> BTreeSet<Feature> {
    let header = &audit.header;
    let mut mappings = audit.layers.iter().flat_map(|layer| layer.map.values());
    let is_compressed = |mapping: &Mapping| matches!(mapping, Mapping::Compressed { .. });
    let features = [
        (Feature::Compressed, mappings.any(is_compressed)),
        (Feature::Subclusters, header.extended_l2()),
        (Feature::Backing, has_backing),
        (Feature::Snapshot, header.snapshots > 0),
        (Feature::Zstd, header.zstd()),
        (Feature::DataFile, header.external_data()),
        (Feature::Encrypted, header.crypt_method != 0),
        (Feature::RefcountWidth, header.refcount_bits() != 16),
        (Feature::ClusterSize, header.cluster_bits != 16),
    ];
    let features = features.into_iter().filter(|(_, has)| *has);
    features.map(|(feature, _)| feature).collect()
}
