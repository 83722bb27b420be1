//! How much is asked of a writer, and what.

use recount_oracle::crash::Limits;

use crate::draw::Mix;
use crate::feature::Feature;
use crate::start::Start;

/// What is asked of a writer. The same settings ask the same of it each time.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the random numbers begin.
    pub seed: u64,
    /// How many images are written to.
    pub runs: u32,
    /// Operations on each of them.
    pub operations: u32,
    /// How often each kind of operation comes up.
    pub mix: Mix,
    /// Binary logarithms of the cluster sizes of the images, one of which each run draws.
    pub cluster_bits: Vec<u32>,
    /// The same of the refcount widths in bits.
    pub refcount_orders: Vec<u32>,
    /// What some of the random images have. A writer may decline to open those.
    pub features: Vec<Feature>,
    /// Images to begin with, one after the other, in the place of random ones.
    pub images: Vec<Start>,
    /// How many states of a power cut are looked at between two flushes of the disk; `None` for no power
    /// cuts.
    pub power_cuts: Option<Limits>,
    /// Whether a sector that was written and not flushed may read as anything after a power cut: a writer
    /// that does not flush new data before the entry that leads to it shows what was there before.
    pub stale_is_allowed: bool,
    /// Whether clusters that a closed image leaks are a failure. They are counted anyway.
    pub leaks_fail: bool,
    /// How many shorter sequences of operations are tried for each kind of failure.
    pub tries: u32,
}

impl Default for Settings {
    /// All kinds of operations on a few small images, with power cuts.
    fn default() -> Self {
        Self {
            seed: 1,
            runs: 12,
            operations: 40,
            mix: Mix::default(),
            // The largest are for tests without power cuts: a state has millions of sectors.
            cluster_bits: vec![9, 9, 9, 10, 12, 14, 16],
            refcount_orders: vec![4, 4, 0, 1, 2, 3, 5, 6],
            features: vec![
                Feature::Compressed,
                Feature::Subclusters,
                Feature::Backing,
                Feature::Snapshot,
                Feature::DataFile,
                Feature::Encrypted,
            ],
            images: Vec::new(),
            power_cuts: Some(Limits {
                exhaustive_bits: 3,
                samples: 2,
                seed: 1,
            }),
            stale_is_allowed: false,
            leaks_fail: false,
            tries: 300,
        }
    }
}

/// Settings of the test of that name: writes, and nothing that not every writer supports.
pub fn writes() -> Settings {
    without_power_cuts(Mix {
        discard: 0,
        snapshot: 0,
        delete_snapshot: 0,
        ..Mix::default()
    })
}

/// Settings of the test of that name: many discards.
pub fn discards() -> Settings {
    without_power_cuts(Mix {
        discard: 8,
        snapshot: 0,
        delete_snapshot: 0,
        ..Mix::default()
    })
}

/// Settings of the test of that name: many snapshots.
pub fn snapshots() -> Settings {
    without_power_cuts(Mix {
        snapshot: 4,
        delete_snapshot: 3,
        ..Mix::default()
    })
}

/// Settings of the test of that name: the image is closed and opened all the time.
pub fn reopening() -> Settings {
    without_power_cuts(Mix {
        reopen: 8,
        ..Mix::default()
    })
}

/// Settings of the test of that name: everything, with power cuts.
pub fn power_cuts() -> Settings {
    Settings::default()
}

/// Settings of the test of that name: the disk fails now and then, and the writer is killed.
pub fn failing_operations() -> Settings {
    let mix = Mix {
        reopen: 4,
        kill: 2,
        fail: 4,
        ..Mix::default()
    };
    Settings {
        runs: 40,
        mix,
        power_cuts: Some(Limits {
            exhaustive_bits: 1,
            samples: 1,
            seed: 1,
        }),
        ..Settings::default()
    }
}

fn without_power_cuts(mix: Mix) -> Settings {
    Settings {
        runs: 20,
        operations: 60,
        mix,
        cluster_bits: vec![9, 9, 10, 12, 14, 16, 21],
        power_cuts: None,
        ..Settings::default()
    }
}
