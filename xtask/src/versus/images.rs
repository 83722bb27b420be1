//! The images: large, sparse, made with qemu-img and, where that would take hours, by rearranging
//! the L2 entries of an image that it made.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::ValueEnum as _;
use recount_oracle::audit::{COMPRESSED, OFFSET};

use crate::error::Result;
use crate::process::output;

const SECTOR: u64 = 512;
const SNAPSHOTS: usize = 20;

/// A kind of image that a comparison runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ImageKind {
    /// 1 TiB of 64 KiB clusters.
    Large,
    /// 16 GiB of 4 KiB clusters.
    SmallClusters,
    /// 64 GiB, 1-bit refcounts.
    NarrowRefcounts,
    /// 128 GiB of 16 KiB clusters, 64-bit refcounts.
    WideRefcounts,
    /// 512 MiB of 512-byte clusters.
    SmallestClusters,
    /// 64 GiB with 20 snapshots.
    Snapshots,
    /// a million compressed clusters
    Compressed,
    /// 64 GiB, fragmented at random
    Fragmented,
}

impl ImageKind {
    /// What it is, for people and in the help.
    pub fn describe(self) -> String {
        let value = self.to_possible_value();
        let help = value.and_then(|value| value.get_help().map(ToString::to_string));
        help.unwrap_or_default()
    }

    const fn options(self) -> (&'static str, &'static str) {
        match self {
            Self::Large => ("preallocation=metadata", "1T"),
            Self::SmallClusters => ("preallocation=metadata,cluster_size=4k", "16G"),
            Self::NarrowRefcounts => ("preallocation=metadata,refcount_bits=1", "64G"),
            Self::WideRefcounts => (
                "preallocation=metadata,cluster_size=16k,refcount_bits=64",
                "128G",
            ),
            Self::SmallestClusters => ("preallocation=metadata,cluster_size=512", "512M"),
            Self::Compressed => ("preallocation=metadata,cluster_size=4k", "4G"),
            Self::Snapshots | Self::Fragmented => ("preallocation=metadata", "64G"),
        }
    }

    pub fn make(self, directory: &Path, qemu_img: &Path, recount: &Path) -> Result<PathBuf> {
        let path = directory.join("image.qcow2");
        let (options, size) = self.options();
        output(
            Command::new(qemu_img)
                .args(["create", "-q", "-f", "qcow2", "-o", options])
                .arg(&path)
                .arg(size),
        )?;
        match self {
            Self::Snapshots => {
                for number in 0..SNAPSHOTS {
                    let name = number.to_string();
                    output(
                        Command::new(qemu_img)
                            .args(["snapshot", "-c", &name])
                            .arg(&path),
                    )?;
                }
            }
            Self::Compressed => {
                compress(&path)?;
                // The references changed; the refcounts follow. There is a message for each, and
                // nobody to read it.
                let mut repair = Command::new(recount);
                repair.args(["check", "-q", "-r", "all"]).arg(&path);
                if !repair.stderr(Stdio::null()).status()?.success() {
                    return Err("recount could not set the refcounts".into());
                }
            }
            Self::Fragmented => scatter(&path)?,
            _ => {}
        }
        Ok(path)
    }
}

/// The L2 tables of an image. They are gone through one by one: the memory of this process shows
/// in that of the programs that it starts.
pub struct L2Tables {
    file: File,
    pub cluster_bits: u32,
    pub offsets: Vec<u64>,
}

impl L2Tables {
    pub fn find(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let l1 = read_table(&file, be64(&file, 40)?, be32(&file, 36)? as usize)?;
        let offsets = l1.iter().map(|entry| entry & OFFSET);
        Ok(Self {
            cluster_bits: be32(&file, 20)?,
            offsets: offsets.filter(|offset| *offset != 0).collect(),
            file,
        })
    }

    const fn entries_per_table(&self) -> usize {
        (1 << self.cluster_bits) / 8
    }

    /// Changes the entries, table by table; `change` is told the number of the first one.
    fn change(&self, mut change: impl FnMut(u64, &mut [u64]) -> Result<()>) -> Result<()> {
        let mut first = 0;
        for offset in &self.offsets {
            let mut entries = read_table(&self.file, *offset, self.entries_per_table())?;
            change(first, &mut entries)?;
            first += entries.len() as u64;
            let bytes: Vec<u8> = entries
                .iter()
                .flat_map(|entry| entry.to_be_bytes())
                .collect();
            self.file.write_all_at(&bytes, *offset)?;
        }
        Ok(())
    }
}

/// Gives every guest cluster another one's host cluster; the refcounts stay right.
fn scatter(path: &Path) -> Result<()> {
    let tables = L2Tables::find(path)?;
    let clusters = (tables.offsets.len() * tables.entries_per_table()) as u64;
    // Kept outside of the process, as it is.
    let mut hosts = tempfile::tempfile()?;
    tables.change(|_, entries| {
        for entry in entries {
            hosts.write_all(&entry.to_be_bytes())?;
        }
        Ok(())
    })?;
    tables.change(|first, entries| {
        for (number, entry) in (first..).zip(entries) {
            let mut bytes = [0; 8];
            hosts.read_exact_at(&mut bytes, scrambled(number, clusters) * 8)?;
            *entry = u64::from_be_bytes(bytes);
        }
        Ok(())
    })
}

/// Another number below `count`, a power of two; a different one for each.
fn scrambled(number: u64, count: u64) -> u64 {
    let mask = count - 1;
    let half = count.trailing_zeros() / 2;
    // Each step can be undone: an odd factor, and the upper half added to the lower one.
    [0x9e37_79b9_7f4a_7c15_u64, 0xbf58_476d_1ce4_e5b9]
        .iter()
        .fold(number, |number, factor| {
            let product = number.wrapping_mul(*factor) & mask;
            product ^ (product >> half)
        })
}

/// Turns clusters into compressed ones, each pair sharing the host cluster of the first.
fn compress(path: &Path) -> Result<()> {
    let tables = L2Tables::find(path)?;
    let half = (1_u64 << tables.cluster_bits) / 2;
    let length_shift = 62 - (tables.cluster_bits - 8);
    tables.change(|_, entries| {
        for pair in entries.chunks_mut(2) {
            let host = pair[0] & OFFSET;
            for (position, entry) in (0..).zip(pair) {
                let sectors = half / SECTOR - 1;
                *entry = COMPRESSED | (sectors << length_shift) | (host + position * half);
            }
        }
        Ok(())
    })
}

pub fn read_table(file: &File, offset: u64, entries: usize) -> Result<Vec<u64>> {
    let mut bytes = vec![0; entries * 8];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes
        .as_chunks::<8>()
        .0
        .iter()
        .map(|bytes| u64::from_be_bytes(*bytes))
        .collect())
}

pub fn be32(file: &File, offset: u64) -> Result<u32> {
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(u32::from_be_bytes(bytes))
}

pub fn be64(file: &File, offset: u64) -> Result<u64> {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrambling_is_a_permutation() {
        let mut found: Vec<_> = (0..1 << 12)
            .map(|number| scrambled(number, 1 << 12))
            .collect();
        assert!(
            found
                .windows(2)
                .filter(|pair| pair[0] + 1 == pair[1])
                .count()
                < 16
        );
        found.sort_unstable();
        assert_eq!(found, (0..1 << 12).collect::<Vec<_>>());
    }
}
