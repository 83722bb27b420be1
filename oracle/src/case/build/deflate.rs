//! Compressed clusters: raw deflate streams (RFC 1951) of a chosen size that any inflater takes.

/// Most bytes of a stored block.
const STORED_MAX: usize = 0xffff;

/// A raw deflate stream of `cluster_size` bytes: the first `incompressible` of them stored as they
/// are, all others the same byte. No distance is over 1, so a 4 KiB window is enough for it.
pub(super) fn stream(label: u64, incompressible: usize, cluster_size: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    let noise: Vec<u8> = (0..incompressible).map(|at| noise(label, at)).collect();
    for block in noise.chunks(STORED_MAX) {
        bits.put(0, 3); // Not the last block; stored.
        bits.align();
        let length = u16::try_from(block.len()).expect("chunks are at most 65535 bytes");
        bits.bytes.extend_from_slice(&length.to_le_bytes());
        bits.bytes.extend_from_slice(&(!length).to_le_bytes());
        bits.bytes.extend_from_slice(block);
    }
    bits.put(0b011, 3); // The last block; fixed Huffman codes.
    let mut left = cluster_size - incompressible;
    let literal = 0x30 + (noise_byte(label) & 0x3f);
    bits.code(literal, 8);
    left -= 1;
    for (length, code, count) in [(258, 0b1100_0101, 8), (10, 0b000_1000, 7)] {
        while left >= length {
            bits.code(code, count);
            bits.code(0, 5); // Distance 1.
            left -= length;
        }
    }
    for _ in 0..left {
        bits.code(literal, 8);
    }
    bits.code(0, 7); // End of block.
    bits.align();
    bits.bytes
}

/// A byte that looks random.
fn noise(label: u64, at: usize) -> u8 {
    let mixed = (label ^ at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as u8
}

fn noise_byte(label: u64) -> u32 {
    u32::from(noise(label, usize::MAX))
}

/// Bits, filling bytes from their low end.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    /// A number, lowest bit first.
    fn put(&mut self, value: u32, count: u32) {
        for bit in 0..count {
            if self.used == 0 {
                self.bytes.push(0);
            }
            let last = self.bytes.last_mut().expect("pushed when none is begun");
            *last |= ((value >> bit & 1) as u8) << self.used;
            self.used = (self.used + 1) % 8;
        }
    }

    /// A Huffman code, highest bit first.
    fn code(&mut self, code: u32, count: u32) {
        for bit in (0..count).rev() {
            self.put(code >> bit & 1, 1);
        }
    }

    fn align(&mut self) {
        self.used = 0;
    }
}
