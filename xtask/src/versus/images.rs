//! The images: large, sparse, made with qemu-img and, where that would take hours, by rearranging
//! the L2 entries of an image that it made.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
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
    /// A million compressed clusters, two to a host cluster.
    Compressed,
    /// 64 GiB, each cluster at a random place.
    Fragmented,
}

impl ImageKind {
    /// What it is, for people.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Large => "1 TiB of 64 KiB clusters",
            Self::SmallClusters => "16 GiB of 4 KiB clusters",
            Self::NarrowRefcounts => "64 GiB, 1-bit refcounts",
            Self::WideRefcounts => "128 GiB of 16 KiB clusters, 64-bit refcounts",
            Self::SmallestClusters => "512 MiB of 512-byte clusters",
            Self::Snapshots => "64 GiB with 20 snapshots",
            Self::Compressed => "a million compressed clusters",
            Self::Fragmented => "64 GiB, fragmented at random",
        }
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
            Self::Snapshots => ("preallocation=metadata", "64G"),
            Self::Compressed => ("preallocation=metadata,cluster_size=4k", "4G"),
            Self::Fragmented => ("preallocation=metadata", "64G"),
        }
    }

    /// Makes it.
    pub fn make(self, directory: &Path, qemu_img: &Path, recount: &Path) -> io::Result<PathBuf> {
        let path = directory.join("image.qcow2");
        let (options, size) = self.options();
        run(Command::new(qemu_img)
            .args(["create", "-q", "-f", "qcow2", "-o", options])
            .arg(&path)
            .arg(size))?;
        match self {
            Self::Snapshots => {
                for number in 0..SNAPSHOTS {
                    let name = number.to_string();
                    run(Command::new(qemu_img)
                        .args(["snapshot", "-c", &name])
                        .arg(&path))?;
                }
            }
            Self::Compressed => {
                compress(&path)?;
                // The references changed; the refcounts follow.
                run(Command::new(recount)
                    .args(["check", "-q", "-r", "all"])
                    .arg(&path))?;
            }
            Self::Fragmented => scatter(&path)?,
            _ => {}
        }
        Ok(path)
    }
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.output().map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("{}: {error}", command.get_program().display()),
        )
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap_or_default();
    Err(io::Error::other(format!(
        "{command:?}: {}: {last}",
        output.status
    )))
}

/// The L2 tables of an image and their entries.
pub struct L2Tables {
    file: File,
    pub cluster_bits: u32,
    pub offsets: Vec<u64>,
    entries: Vec<u64>,
}

impl L2Tables {
    /// Reads them all.
    fn read(path: &Path) -> io::Result<Self> {
        let mut tables = Self::places(path)?;
        for offset in &tables.offsets {
            let entries = read_table(&tables.file, *offset, (1 << tables.cluster_bits) / 8)?;
            tables.entries.extend(entries);
        }
        Ok(tables)
    }

    /// Where they are, without any entry.
    pub fn places(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut header = [0; 48];
        file.read_exact_at(&mut header, 0)?;
        let cluster_bits = be32(&header, 20);
        let l1 = read_table(&file, be64(&header, 40), be32(&header, 36) as usize)?;
        let offsets = l1
            .iter()
            .map(|entry| entry & OFFSET_MASK)
            .filter(|offset| *offset != 0)
            .collect();
        Ok(Self {
            file,
            cluster_bits,
            offsets,
            entries: Vec::new(),
        })
    }

    fn write(&self) -> io::Result<()> {
        let tables = self.entries.chunks((1 << self.cluster_bits) / 8);
        for (offset, entries) in self.offsets.iter().zip(tables) {
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
fn scatter(path: &Path) -> io::Result<()> {
    let mut tables = L2Tables::read(path)?;
    tables.entries.shuffle(&mut ChaCha8Rng::seed_from_u64(0));
    tables.write()
}

/// Turns clusters into compressed ones, each pair sharing the host cluster of the first.
fn compress(path: &Path) -> io::Result<()> {
    let mut tables = L2Tables::read(path)?;
    let cluster_size = 1_u64 << tables.cluster_bits;
    let half = cluster_size / 2;
    let length_shift = 62 - (tables.cluster_bits - 8);
    for pair in tables.entries.chunks_mut(2) {
        let host = pair[0] & OFFSET_MASK;
        for (position, entry) in (0..).zip(pair) {
            let sectors = half / SECTOR - 1;
            *entry = COMPRESSED | (sectors << length_shift) | (host + position * half);
        }
    }
    tables.write()
}

pub fn read_table(file: &File, offset: u64, entries: usize) -> io::Result<Vec<u64>> {
    let mut bytes = vec![0; entries * 8];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes
        .as_chunks::<8>()
        .0
        .iter()
        .map(|bytes| u64::from_be_bytes(*bytes))
        .collect())
}

pub fn be32(bytes: &[u8], position: usize) -> u32 {
    (0..4).fold(0, |number, index| {
        number << 8 | u32::from(bytes[position + index])
    })
}

pub fn be64(bytes: &[u8], position: usize) -> u64 {
    (0..8).fold(0, |number, index| {
        number << 8 | u64::from(bytes[position + index])
    })
}
