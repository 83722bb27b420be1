//! The floor: reading the metadata that a check has to read, in whole tables, and nothing else;
//! and for a rebuild writing as many refblocks, with the three flushes that make it atomic.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Instant;

use super::images::{L2Tables, be32, be64, read_table};
use super::measure::{Task, median};
use crate::error::Result;

/// Flushes of a rebuild: behind the refblocks, behind the reftable, and behind the switch to it.
const FLUSHES: usize = 3;

/// The median time of reading every L2 table and refblock once, one after the other; for a rebuild
/// of writing back the refblocks and flushing as well.
pub fn seconds(task: Task, image: &Path, runs: usize) -> Result<f64> {
    let tables = L2Tables::find(image)?;
    let file = OpenOptions::new().read(true).write(true).open(image)?;
    let refblocks = refblocks(&file, tables.cluster_bits)?;
    let mut buffer = vec![0; 1 << tables.cluster_bits];
    let mut times = Vec::new();
    for _ in 0..=runs {
        let started = Instant::now();
        for offset in &tables.offsets {
            file.read_exact_at(&mut buffer, *offset)?;
        }
        for offset in &refblocks {
            file.read_exact_at(&mut buffer, *offset)?;
            if task == Task::Rebuild {
                file.write_all_at(&buffer, *offset)?;
            }
        }
        if task == Task::Rebuild {
            for _ in 0..FLUSHES {
                file.sync_data()?;
            }
        }
        times.push(started.elapsed().as_secs_f64());
    }
    // The first one warms the cache.
    Ok(median(times.split_off(1)))
}

/// Where the refblocks are.
fn refblocks(file: &File, cluster_bits: u32) -> Result<Vec<u64>> {
    let entries = (be32(file, 56)? as usize) << (cluster_bits - 3);
    let mut offsets = read_table(file, be64(file, 48)?, entries)?;
    offsets.retain(|offset| *offset != 0);
    Ok(offsets)
}
