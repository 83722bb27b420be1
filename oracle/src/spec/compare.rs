//! Whether a repair left what had to come of it.

use crate::case::damage::SparseBytes;
use crate::case::damage::bytes::PAGE;

use super::Repaired;

/// The first difference between what had to come of a repair and what did.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// The file has another length.
    #[error("the file has {found} bytes after the repair; it should have {expected}")]
    Length {
        /// What it should have.
        expected: u64,
        /// What it has.
        found: u64,
    },
    /// A byte is another.
    #[error(
        "byte {offset:#x}, in cluster {cluster}, is {found:#04x} after the repair; it should be \
         {expected:#04x} and was {before:#04x}"
    )]
    Byte {
        /// Where.
        offset: u64,
        /// The cluster that it is in.
        cluster: u64,
        /// What it was.
        before: u8,
        /// What it should be.
        expected: u8,
        /// What it is.
        found: u8,
    },
}

impl Repaired {
    /// Compares with the image as a repair left it. What is in free clusters is no matter.
    pub fn compare(&self, before: &SparseBytes, after: &SparseBytes) -> Result<(), Difference> {
        let found = after.len();
        if found != self.length {
            let expected = self.length;
            return Err(Difference::Length { expected, found });
        }
        let changed = self.changed.keys().flat_map(|&cluster| {
            let start = cluster * self.cluster_size;
            (start / PAGE as u64 * PAGE as u64..start + self.cluster_size).step_by(PAGE)
        });
        let pages = before.pages().chain(after.pages()).map(|(at, _)| at);
        let mut pages: Vec<u64> = pages.chain(changed).collect();
        pages.sort_unstable();
        pages.dedup();
        for page in pages {
            self.compare_page(page, before, after)?;
        }
        Ok(())
    }

    fn compare_page(
        &self,
        page: u64,
        before: &SparseBytes,
        after: &SparseBytes,
    ) -> Result<(), Difference> {
        let old = before.bytes(page, PAGE);
        let found = after.bytes(page, PAGE);
        for (index, (&before, &found)) in old.iter().zip(&found).enumerate() {
            let offset = page + index as u64;
            let cluster = offset / self.cluster_size;
            let changed = self.changed.get(&cluster);
            let within = (offset % self.cluster_size) as usize;
            let expected = changed.map_or(before, |changed| changed[within]);
            if expected != found && offset < self.length && !self.free.contains(&cluster) {
                return Err(Difference::Byte {
                    offset,
                    cluster,
                    before,
                    expected,
                    found,
                });
            }
        }
        Ok(())
    }
}
