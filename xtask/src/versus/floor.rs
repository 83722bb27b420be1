//! The floor: reading the metadata that a check has to read, in whole tables, and nothing else.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Instant;

use super::images::{L2Tables, be32, be64, read_table};
use super::measure::median;

/// The median time of reading every L2 table and refblock once, one after the other.
pub fn seconds(image: &Path, runs: usize) -> io::Result<f64> {
    let tables = L2Tables::read(image)?;
    let file = File::open(image)?;
    let mut header = [0; 64];
    file.read_exact_at(&mut header, 0)?;
    let reftable_entries = (be32(&header, 56) as usize) << (tables.cluster_bits - 3);
    let mut offsets = tables.offsets;
    let refblocks = read_table(&file, be64(&header, 48), reftable_entries)?;
    offsets.extend(refblocks.into_iter().filter(|offset| *offset != 0));
    let mut buffer = vec![0; 1 << tables.cluster_bits];
    let mut times = Vec::new();
    for _ in 0..=runs {
        let started = Instant::now();
        for offset in &offsets {
            file.read_exact_at(&mut buffer, *offset)?;
        }
        times.push(started.elapsed().as_secs_f64());
    }
    // The first one warms the cache.
    Ok(median(&mut times[1..]))
}
