//! The states that sectors pass through while a repair writes. As many sectors are followed at a
//! time as memory may be had for; the others come in further passes over the writes.

use std::collections::BTreeMap;

use super::body::Body;
use super::error::UndoError;
use super::format::{Kind, MAX_PAYLOAD, MAX_SECTORS, SECTOR, checksum};
use crate::storage::Storage;
use crate::units::Offset;

/// The most sectors followed in one pass: about 40 MB of memory.
const MAX_FOLLOWED: usize = 1 << 16;

/// The sectors followed in one pass.
pub struct Window<'a> {
    image: &'a dyn Storage,
    from: u64,
    /// The first sector that is left to the next pass.
    limit: Option<u64>,
    sectors: BTreeMap<u64, Box<States>>,
}

/// What has been written to a sector so far.
struct States {
    now: [u8; SECTOR],
    /// Checksums, each once, without that of the old state.
    after: Vec<u64>,
}

impl<'a> Window<'a> {
    /// The lowest sectors that are written, from number `from` on.
    pub fn new(image: &'a dyn Storage, from: u64) -> Self {
        Self {
            image,
            from,
            limit: None,
            sectors: BTreeMap::new(),
        }
    }

    /// The next write of the repair, which ends below 2^63.
    pub fn write(&mut self, offset: Offset, bytes: &[u8]) -> Result<(), UndoError> {
        let sector_bytes = SECTOR as u64;
        let end = offset.0 + bytes.len() as u64;
        let limit = self.limit.unwrap_or(u64::MAX);
        let first = (offset.0 / sector_bytes).max(self.from);
        for sector in first..end.div_ceil(sector_bytes).min(limit) {
            let start = sector * sector_bytes;
            let from = start.max(offset.0);
            let to = (start + sector_bytes).min(end);
            let part = &bytes[(from - offset.0) as usize..(to - offset.0) as usize];
            self.write_sector(sector, (from - start) as usize, part)?;
        }
        Ok(())
    }

    fn write_sector(&mut self, sector: u64, within: usize, part: &[u8]) -> Result<(), UndoError> {
        let start = sector * SECTOR as u64;
        if let Some(states) = self.sectors.get_mut(&sector) {
            states.write(within, part, start, self.image.len());
            return Ok(());
        }
        let mut now = [0; SECTOR];
        if part.len() < SECTOR {
            self.image.read_at(Offset(start), &mut now)?;
        }
        let after = Vec::with_capacity(1);
        let mut states = Box::new(States { now, after });
        states.write(within, part, start, self.image.len());
        self.sectors.insert(sector, states);
        if self.sectors.len() > MAX_FOLLOWED {
            self.limit = self.sectors.pop_last().map(|(sector, _)| sector);
        }
        Ok(())
    }

    /// Writes the records of the sectors followed; returns where the next pass begins.
    pub fn save(self, body: &mut Body) -> Result<Option<u64>, UndoError> {
        let mut run = Run::default();
        for (sector, states) in self.sectors {
            let encoded = states.encode();
            if SECTOR + encoded.len() > MAX_PAYLOAD {
                let offset = Offset(sector * SECTOR as u64);
                return Err(UndoError::TooManyStates { offset });
            }
            if !run.takes(sector, encoded.len()) {
                run.save(self.image, body)?;
                run = Run {
                    first: sector,
                    ..Run::default()
                };
            }
            run.count += 1;
            run.states.extend(encoded);
        }
        run.save(self.image, body)?;
        Ok(self.limit)
    }
}

impl States {
    /// Writes a part of the sector that begins at `start`, of an image `length` bytes long.
    fn write(&mut self, within: usize, part: &[u8], start: u64, length: u64) {
        self.now[within..within + part.len()].copy_from_slice(part);
        self.add(checksum(&self.now));
        // The length may become durable later than the bytes: then the sector in which the image
        // ended has new bytes up to there, and zeros.
        let present = length.saturating_sub(start) as usize;
        if (1..SECTOR).contains(&present) {
            let mut cut = self.now;
            cut[present..].fill(0);
            self.add(checksum(&cut));
        }
    }

    fn add(&mut self, sum: u64) {
        if !self.after.contains(&sum) {
            self.after.push(sum);
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = (self.after.len() as u32).to_be_bytes().to_vec();
        bytes.extend(self.after.iter().flat_map(|sum| sum.to_be_bytes()));
        bytes
    }
}

/// Sectors side by side that make one record.
#[derive(Default)]
struct Run {
    first: u64,
    count: usize,
    states: Vec<u8>,
}

impl Run {
    fn takes(&self, sector: u64, more: usize) -> bool {
        let bytes = (self.count + 1) * SECTOR + self.states.len() + more;
        self.count > 0
            && sector == self.first + self.count as u64
            && self.count < MAX_SECTORS
            && bytes <= MAX_PAYLOAD
    }

    fn save(&self, image: &dyn Storage, body: &mut Body) -> Result<(), UndoError> {
        if self.count == 0 {
            return Ok(());
        }
        let offset = self.first * SECTOR as u64;
        let mut payload = vec![0; self.count * SECTOR];
        image.read_at(Offset(offset), &mut payload)?;
        if payload.iter().all(|&byte| byte == 0) {
            return body.record(Kind::Zeros, self.count, offset, &self.states);
        }
        payload.extend(&self.states);
        body.record(Kind::Sectors, self.count, offset, &payload)
    }
}
