//! The figures that a read-only `qemu-img check` prints, and its exit code.

use super::super::{Audit, Mismatch};
use super::habits;

/// What `qemu-img check --output=json` says; it leaves out those that are 0, but for the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Whether the check ends early: then qemu-img prints no figures, and the others mean nothing.
    pub gives_up: bool,
    /// Errors of the check itself.
    pub check_errors: u64,
    /// Byte position after the last cluster in use.
    pub image_end_offset: u64,
    /// What endangers data.
    pub corruptions: u64,
    /// Clusters that are counted too high.
    pub leaks: u64,
    /// Clusters of the guest's disk.
    pub total_clusters: u64,
    /// Guest clusters with a host cluster.
    pub allocated_clusters: u64,
    /// Those that do not follow the one before.
    pub fragmented_clusters: u64,
    /// Compressed ones.
    pub compressed_clusters: u64,
}

impl Counters {
    /// The exit code: 0 clean, 1 the check had errors, 2 corruptions, 3 leaks only.
    pub const fn exit_code(&self) -> i32 {
        if self.gives_up || self.check_errors > 0 {
            1
        } else if self.corruptions > 0 {
            2
        } else if self.leaks > 0 {
            3
        } else {
            0
        }
    }

    /// Under the names of the JSON.
    pub const fn named(&self) -> [(&'static str, u64); 8] {
        [
            ("check-errors", self.check_errors),
            ("image-end-offset", self.image_end_offset),
            ("corruptions", self.corruptions),
            ("leaks", self.leaks),
            ("total-clusters", self.total_clusters),
            ("allocated-clusters", self.allocated_clusters),
            ("fragmented-clusters", self.fragmented_clusters),
            ("compressed-clusters", self.compressed_clusters),
        ]
    }
}

/// The figures of an audit.
pub fn counters(audit: &Audit) -> Counters {
    let leaks = audit.mismatches.iter().filter(|wrong| wrong.is_leak());
    let low = |wrong: &&Mismatch| !wrong.is_leak();
    let low = audit.mismatches.iter().filter(low).count();
    let corruptions = audit.corruptions.len() + audit.qemu.copied.len() + low;
    let cluster_size = audit.header.cluster_size();
    Counters {
        gives_up: audit.blocked > 0,
        check_errors: audit.qemu.check_errors,
        image_end_offset: audit.qemu.end * cluster_size,
        corruptions: corruptions as u64,
        leaks: leaks.count() as u64,
        total_clusters: habits::virtual_size(&audit.header).div_ceil(cluster_size),
        allocated_clusters: audit.qemu.statistics.allocated,
        fragmented_clusters: audit.qemu.statistics.fragmented,
        compressed_clusters: audit.qemu.statistics.compressed,
    }
}
