//! Damage to the header's fields besides the reftable pointer (specification, "Header").

use std::io;

use arbitrary::Arbitrary;
use serde::{Deserialize, Serialize};

use super::find::{be32, be64};
use super::{Pen, PointerDamage};

/// What becomes of a header field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Arbitrary, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeaderDamage {
    /// Incompatible feature bit 0, dirty, is set; nothing in version 2.
    Dirty,
    /// Incompatible feature bit 1, corrupt, is set; nothing in version 2.
    Corrupt,
    /// A feature bit flips; nothing in version 2.
    Feature {
        /// Which of the three fields, modulo 3: incompatible, compatible, autoclear.
        field: u8,
        /// Which bit, modulo 64.
        bit: u8,
    },
    /// The active L1 table's offset, as any other pointer.
    L1Offset(PointerDamage),
    /// The active L1 table's entries.
    L1Entries(u32),
    /// A bit of the first 104 bytes flips.
    Bit {
        /// Which, modulo 832.
        bit: u16,
    },
}

pub(super) fn header(pen: &mut Pen<'_>, how: HeaderDamage) -> io::Result<()> {
    let field = |pen: &mut Pen<'_>, at: u64, flip: u64, set: u64| {
        if pen.found.version < 3 {
            return Ok(());
        }
        let value = be64(pen.image, at)?;
        pen.write_be64(at, (value | set) ^ flip)
    };
    match how {
        HeaderDamage::Dirty => field(pen, 72, 0, 1),
        HeaderDamage::Corrupt => field(pen, 72, 0, 2),
        HeaderDamage::Feature { field: which, bit } => {
            field(pen, 72 + 8 * u64::from(which % 3), 1 << (bit % 64), 0)
        }
        HeaderDamage::L1Offset(becomes) => {
            let offset = be64(pen.image, 40)?;
            pen.write_be64(40, becomes.of(offset, pen.found))
        }
        HeaderDamage::L1Entries(entries) => pen.write_be32(36, entries),
        HeaderDamage::Bit { bit } => {
            let bit = u32::from(bit % 832);
            let at = u64::from(bit / 32 * 4);
            let value = be32(pen.image, at)?;
            pen.write_be32(at, value ^ (1 << (bit % 32)))
        }
    }
}
