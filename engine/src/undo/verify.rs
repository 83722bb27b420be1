//! Checking an undo file as a whole, and an image against it.

use std::path::PathBuf;
use std::time::SystemTime;

use super::error::UndoError;
use super::format::{BODY_AT, MAX_SECTORS, SECTOR, Status, checksum, nanoseconds};
use super::read::{Record, Sectors, UndoFile};
use crate::storage::Storage;
use crate::units::Offset;

/// What has been seen of the records, which come in one order only.
#[derive(Default)]
struct Seen {
    image: Option<PathBuf>,
    has_samples: bool,
    sectors_end: u64,
    records: u64,
    has_end: bool,
}

impl Seen {
    /// Whether a record may come next.
    fn accepts(&mut self, record: &Record<'_>, limit: u64) -> bool {
        let follows = match record {
            Record::Path(_) => self.image.is_none() && self.records == 0,
            Record::Samples(_) => self.records == 1,
            Record::Sectors(sectors) => {
                self.has_samples
                    && self.sectors_end <= sectors.first.0
                    && sectors.end() <= limit
                    && !self.has_end
            }
            Record::End(records) => self.has_samples && !self.has_end && *records == self.records,
        };
        match record {
            Record::Path(path) => self.image = Some((*path).to_owned()),
            Record::Samples(_) => self.has_samples = true,
            Record::Sectors(sectors) => self.sectors_end = sectors.end(),
            Record::End(_) => self.has_end = true,
        }
        self.records += 1;
        follows
    }
}

impl UndoFile {
    /// Looks at every record; returns the path of the image.
    pub(super) fn check(&self) -> Result<PathBuf, UndoError> {
        let sector = SECTOR as u64;
        let limit = self.header.new_length.div_ceil(sector) * sector;
        let mut seen = Seen::default();
        let mut records = self.records();
        loop {
            let at = records.at();
            let Some(record) = records.next_record()? else {
                break;
            };
            if !seen.accepts(&record, limit) {
                return Err(self.damaged(at));
            }
        }
        match seen.image {
            Some(image) if seen.has_end && records.sum() == self.header.body_checksum => Ok(image),
            _ => Err(self.damaged(BODY_AT)),
        }
    }

    /// Whether `image` is what the repair left of its image, wherever the repair or a restoration
    /// ended, and nobody has written to it since.
    pub(super) fn require_image(
        &self,
        image: &dyn Storage,
        modified: Option<SystemTime>,
    ) -> Result<(), UndoError> {
        self.require_length(image)?;
        self.require_states(image)?;
        match (self.status()?, modified.map(nanoseconds)) {
            (Status::Applied, _) => Err(UndoError::Applied {
                path: self.path().to_owned(),
            }),
            (Status::Sealed(sealed), Some(modified)) if sealed != modified => {
                Err(UndoError::ModifiedSince)
            }
            _ => Ok(()),
        }
    }

    fn require_length(&self, image: &dyn Storage) -> Result<(), UndoError> {
        let (old, new) = (self.header.old_length, self.header.new_length);
        let length = image.len();
        // What cannot grow has not grown.
        let most = image.capacity().map_or(new, |_| old);
        if (old..=most).contains(&length) {
            return Ok(());
        }
        Err(UndoError::ImageLength { length, old, new })
    }

    fn require_states(&self, image: &dyn Storage) -> Result<(), UndoError> {
        let mut buffer = vec![0; MAX_SECTORS * SECTOR];
        let sector = SECTOR as u64;
        // Past the old end there is nothing but what the repair writes.
        let mut zeros_from = self.header.old_length.div_ceil(sector) * sector;
        let mut records = self.records();
        while let Some(record) = records.next_record()? {
            match record {
                Record::Samples(samples) => {
                    for (offset, sum) in samples.iter() {
                        image.read_at(offset, &mut buffer[..SECTOR])?;
                        if checksum(&buffer[..SECTOR]) != sum {
                            return Err(UndoError::OtherImage { offset });
                        }
                    }
                }
                Record::Sectors(sectors) => {
                    require_zeros(image, zeros_from, sectors.first.0, &mut buffer)?;
                    zeros_from = zeros_from.max(sectors.end());
                    let now = &mut buffer[..sectors.count * SECTOR];
                    image.read_at(sectors.first, now)?;
                    require_known(&sectors, now)?;
                }
                Record::Path(_) | Record::End(_) => {}
            }
        }
        require_zeros(image, zeros_from, image.len(), &mut buffer)
    }
}

/// Whether the image has nothing but zeros from `from` up to `end`.
fn require_zeros(
    image: &dyn Storage,
    mut from: u64,
    end: u64,
    buffer: &mut [u8],
) -> Result<(), UndoError> {
    while from < end {
        from = match image.next_data(Offset(from)) {
            Some(data) if data.0 < end => data.0,
            _ => return Ok(()),
        };
        let part = (end - from).min(buffer.len() as u64) as usize;
        let part = &mut buffer[..part];
        image.read_at(Offset(from), part)?;
        if let Some(at) = part.iter().position(|&byte| byte != 0) {
            let at = from + at as u64;
            let offset = Offset(at - at % SECTOR as u64);
            return Err(UndoError::OtherImage { offset });
        }
        from += part.len() as u64;
    }
    Ok(())
}

/// Whether each sector is in one of its states.
fn require_known(sectors: &Sectors<'_>, now: &[u8]) -> Result<(), UndoError> {
    let each = now.chunks_exact(SECTOR).zip(sectors.states());
    for (index, (now, mut states)) in each.enumerate() {
        if now == sectors.old(index) {
            continue;
        }
        let sum = checksum(now);
        if !states.any(|state| state == sum) {
            let offset = Offset(sectors.first.0 + (index * SECTOR) as u64);
            return Err(UndoError::Changed { offset });
        }
    }
    Ok(())
}
