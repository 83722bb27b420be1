//! A refcount in the bytes of an image: fields below a byte fill it from its low bits up, wider ones
//! are big-endian (specification, "Refcount block").

use super::damage::SparseBytes;

/// The largest refcount of 2^`order` bits.
pub const fn largest(order: u32) -> u64 {
    u64::MAX >> (64 - (1 << order))
}

/// Where a refcount is.
#[derive(Clone, Copy)]
pub(crate) struct Refcount {
    /// Byte position of the field, or of the byte that it is a part of.
    pub(crate) at: u64,
    bytes: usize,
    shift: u64,
    mask: u64,
}

impl Refcount {
    /// The `index`th of the refblock at byte `refblock`; each has 2^`order` bits.
    pub(crate) fn new(order: u32, refblock: u64, index: u64) -> Self {
        let bits = 1 << order;
        Self {
            at: refblock + index * bits / 8,
            bytes: bits.div_ceil(8) as usize,
            shift: index * bits % 8,
            mask: largest(order),
        }
    }

    pub(crate) fn read(self, image: &SparseBytes) -> u64 {
        image.number(self.at, self.bytes) >> self.shift & self.mask
    }

    /// What the bytes there become with this value, cut to the width.
    pub(crate) fn with(self, image: &SparseBytes, value: u64) -> Vec<u8> {
        let others = image.number(self.at, self.bytes) & !(self.mask << self.shift);
        let number = others | (value & self.mask) << self.shift;
        number.to_be_bytes()[8 - self.bytes..].to_vec()
    }

    /// Adds a value, no more than the width holds, to one of 0 in the bytes of a refblock.
    pub(crate) fn add(self, refblock: &mut [u8], value: u64) {
        let place = &mut refblock[self.at as usize..][..self.bytes];
        let number = (value << self.shift).to_be_bytes();
        for (byte, new) in place.iter_mut().zip(&number[8 - self.bytes..]) {
            *byte |= new;
        }
    }

    /// Sets it to this value, cut to the width.
    pub(crate) fn write(self, image: &mut SparseBytes, value: u64) {
        let bytes = self.with(image, value);
        image.put(self.at, &bytes);
    }
}
