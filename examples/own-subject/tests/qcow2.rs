use std::io;

use own_subject::{Image, rebuild};
use recount_oracle::disk::Disk;
use recount_oracle::subject::{Done, Outcome, Repair, Stopped, Undo};

/// The disk of the tests, as this repair takes it.
struct OnDisk<'a>(&'a mut dyn Disk);

impl Image for OnDisk<'_> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, buffer)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

struct Rebuild;

impl Repair for Rebuild {
    fn repair(&self, disk: &mut dyn Disk) -> Outcome {
        let repaired = rebuild(&mut OnDisk(disk));
        repaired
            .map(|()| Done::default())
            .map_err(|error| Stopped::unknown(&error))
    }

    fn undo(&self) -> Option<&dyn Undo> {
        None
    }
}

recount_oracle::subject_tests!(Rebuild);
