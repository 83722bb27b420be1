//! Sectors that the repair does not write, by which its image is told from others: those at the
//! start of the file, where the tables of most images are, and others evenly over the rest.

use super::body::Body;
use super::error::UndoError;
use super::format::{Kind, SECTOR, checksum};
use crate::storage::Storage;
use crate::units::Offset;

/// Sectors from the start.
const FIRST: u64 = 1024;

/// Sectors over the whole length.
const SPREAD: u64 = 1024;

/// The sectors looked at, by number and in ascending order, and whether the repair writes them.
pub struct Samples {
    sectors: Vec<(u64, bool)>,
}

impl Samples {
    /// Chooses them, of a hole its end.
    pub fn choose(image: &dyn Storage) -> Self {
        let sector = SECTOR as u64;
        let length = image.len();
        let step = (length / SPREAD).max(sector);
        let mut sectors: Vec<u64> = (0..length.div_ceil(sector).min(FIRST)).collect();
        sectors.extend((0..SPREAD).map_while(|index| {
            let at = step * index;
            let data = image.next_data(Offset(at)).map_or(at, |data| data.0);
            (at < length).then_some(if data < at + step { data } else { at } / sector)
        }));
        sectors.sort_unstable();
        sectors.dedup();
        let sectors = sectors.into_iter().map(|sector| (sector, false)).collect();
        Self { sectors }
    }

    /// Leaves out the sectors from `first` up to `last`, itself included, which the repair writes.
    pub fn leave_out(&mut self, first: u64, last: u64) {
        let from = self.sectors.partition_point(|(sector, _)| *sector < first);
        let written = self.sectors[from..].iter_mut();
        for (_, is_written) in written.take_while(|(sector, _)| *sector <= last) {
            *is_written = true;
        }
    }

    /// Writes the record of them.
    pub fn save(&self, image: &dyn Storage, body: &mut Body) -> Result<(), UndoError> {
        let mut payload = Vec::new();
        let mut buffer = [0; SECTOR];
        let mut count = 0;
        for (sector, _) in self.sectors.iter().filter(|(_, is_written)| !is_written) {
            let at = sector * SECTOR as u64;
            image.read_at(Offset(at), &mut buffer)?;
            payload.extend(at.to_be_bytes());
            payload.extend(checksum(&buffer).to_be_bytes());
            count += 1;
        }
        body.record(Kind::Samples, count, 0, &payload)
    }
}
