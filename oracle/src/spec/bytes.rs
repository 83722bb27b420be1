//! The image with changes on top, cluster by cluster.

use std::collections::BTreeMap;
use std::io;

use crate::audit::Bytes;

/// Bytes of an image of which some are changed.
pub(super) struct Patched<'a> {
    image: &'a dyn Bytes,
    cluster_size: u64,
    changed: BTreeMap<u64, Vec<u8>>,
    end: u64,
}

impl<'a> Patched<'a> {
    pub fn new(image: &'a dyn Bytes, cluster_size: u64) -> Self {
        Self {
            image,
            cluster_size,
            changed: BTreeMap::new(),
            end: 0,
        }
    }

    /// `count` bytes at `offset`, as they are now.
    pub fn read(&self, offset: u64, count: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count as usize];
        self.image.read(offset, &mut bytes)?;
        for (&cluster, changed) in &self.changed {
            let start = cluster * self.cluster_size;
            for (at, &byte) in (start..).zip(changed) {
                if let Some(target) = at.checked_sub(offset).filter(|&at| at < count) {
                    bytes[target as usize] = byte;
                }
            }
        }
        Ok(bytes)
    }

    /// Changes bytes; what stays as it is is no change.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        for (at, &byte) in (offset..).zip(bytes) {
            let cluster = at / self.cluster_size;
            if !self.changed.contains_key(&cluster) {
                let mut before = vec![0; self.cluster_size as usize];
                self.image.read(cluster * self.cluster_size, &mut before)?;
                self.changed.insert(cluster, before);
            }
            if let Some(changed) = self.changed.get_mut(&cluster) {
                changed[(at % self.cluster_size) as usize] = byte;
            }
        }
        if !bytes.is_empty() {
            self.end = self.end.max(offset + bytes.len() as u64);
        }
        Ok(())
    }

    /// Changes those of some bytes that are others.
    pub fn change(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let before = self.read(offset, bytes.len() as u64)?;
        let differs = |(before, after): (&u8, &u8)| before != after;
        let first = before.iter().zip(bytes).position(differs);
        let last = before.iter().zip(bytes).rposition(differs);
        match (first, last) {
            (Some(first), Some(last)) => self.write(offset + first as u64, &bytes[first..=last]),
            _ => Ok(()),
        }
    }

    /// Whether something in a cluster was changed.
    pub fn has(&self, cluster: u64) -> bool {
        self.changed.contains_key(&cluster)
    }

    /// Whether nothing was.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty()
    }

    /// One after the last byte that was changed.
    pub const fn end(&self) -> u64 {
        self.end
    }

    pub fn into_changed(self) -> BTreeMap<u64, Vec<u8>> {
        self.changed
    }
}
