//! A rebuild of refcounts as many programs have one: count what the tables refer to, put new refcount
//! structures behind the end of the file, write. It is simple, and it is wrong in a few places.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// What has an image: a file, or whatever else the tests have.
pub trait Image {
    fn len(&self) -> io::Result<u64>;
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    fn sync(&mut self) -> io::Result<()>;
}

impl Image for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

fn unsupported(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("{what} not supported"))
}

fn number(image: &impl Image, offset: u64, bytes: usize) -> io::Result<u64> {
    let mut buffer = [0; 8];
    image.read_at(offset, &mut buffer[8 - bytes..])?;
    Ok(u64::from_be_bytes(buffer))
}

/// The entries of a table that lead somewhere.
fn entries(image: &impl Image, table: u64, count: u64) -> io::Result<Vec<u64>> {
    let mut entries = Vec::new();
    for index in 0..count {
        let entry = number(image, table + index * 8, 8)?;
        if entry & (1 << 62) != 0 {
            return Err(unsupported("compressed clusters are"));
        }
        let offset = entry & 0x00ff_ffff_ffff_fe00;
        if offset != 0 {
            entries.push(offset);
        }
    }
    Ok(entries)
}

/// Builds the refcounts of an image anew.
pub fn rebuild(image: &mut impl Image) -> io::Result<()> {
    if number(image, 0, 4)? != 0x5146_49fb || number(image, 4, 4)? != 3 {
        return Err(unsupported(
            "this is no qcow2 image of version 3; others are",
        ));
    }
    // Dirty and corrupt images are what it is for.
    if number(image, 72, 8)? & !3 != 0 {
        return Err(unsupported("incompatible features are"));
    }
    let size = 1 << number(image, 20, 4)?;
    let Some(width) = (number(image, 96, 4)? as u32).checked_sub(3) else {
        return Err(unsupported("refcounts of less than a byte are"));
    };
    let (width, file) = (1_u64 << width, image.len()?.div_ceil(size));

    let mut counts = vec![0_u64; file as usize];
    let mut count = |offset: u64| -> io::Result<()> {
        let cluster = counts.get_mut((offset / size) as usize);
        *cluster
            .ok_or_else(|| unsupported("an entry that leads past the end of the file is"))? += 1;
        Ok(())
    };
    count(0)?;
    let (l1, l1_entries) = (number(image, 40, 8)?, number(image, 36, 4)?);
    for cluster in 0..(l1_entries * 8).div_ceil(size) {
        count(l1 + cluster * size)?;
    }
    for l2 in entries(image, l1, l1_entries)? {
        count(l2)?;
        for data in entries(image, l2, size / 8)? {
            count(data)?;
        }
    }

    // New structures go behind the end, and count themselves.
    let covered = size / width;
    let (mut blocks, mut table) = (0, 0);
    while blocks * covered < file + blocks + table || table * (size / 8) < blocks {
        blocks = (file + blocks + table).div_ceil(covered);
        table = blocks.div_ceil(size / 8);
    }
    counts.resize((file + blocks + table) as usize, 1);
    for block in 0..blocks {
        let mut bytes = Vec::new();
        for cluster in block * covered..(block + 1) * covered {
            let count = counts.get(cluster as usize).copied().unwrap_or(0);
            bytes.extend_from_slice(&count.to_be_bytes()[8 - width as usize..]);
        }
        image.write_at((file + block) * size, &bytes)?;
    }
    let mut bytes = vec![0; (table * size) as usize];
    for (block, entry) in (0..blocks).zip(bytes.chunks_mut(8)) {
        entry.copy_from_slice(&((file + block) * size).to_be_bytes());
    }
    let reftable = (file + blocks) * size;
    image.write_at(reftable, &bytes)?;
    image.write_at(48, &reftable.to_be_bytes())?;
    image.write_at(56, &(table as u32).to_be_bytes())?;
    image.sync()
}
