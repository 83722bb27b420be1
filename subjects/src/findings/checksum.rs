//! The checksum that `cksum` prints (POSIX): a shell has it wherever it has `dd`.

use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::damage::bytes::PAGE;

/// The generating polynomial of CRC-32, the highest power first.
const POLYNOMIAL: u32 = 0x04c1_1db7;

/// What `cksum` prints of standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// The checksum.
    pub crc: u32,
    /// Bytes.
    pub length: u64,
}

/// That of an image.
pub fn of(image: &SparseBytes) -> Sum {
    let table = table();
    let length = image.len();
    let mut crc = 0;
    let mut at = 0;
    while at < length {
        let part = ((length - at) as usize).min(16 * PAGE);
        for byte in image.bytes(at, part) {
            crc = step(&table, crc, byte);
        }
        at += part as u64;
    }
    // The length without leading zeros, the lowest byte first.
    let mut left = length;
    while left > 0 {
        crc = step(&table, crc, left as u8);
        left >>= 8;
    }
    Sum { crc: !crc, length }
}

const fn step(table: &[u32; 256], crc: u32, byte: u8) -> u32 {
    crc << 8 ^ table[((crc >> 24) as u8 ^ byte) as usize]
}

fn table() -> [u32; 256] {
    std::array::from_fn(|index| {
        let mut rest = (index as u32) << 24;
        for _ in 0..8 {
            let carry = rest >> 31;
            rest = (rest << 1) ^ (POLYNOMIAL * carry);
        }
        rest
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard_program() {
        let mut image = SparseBytes::default();
        image.put(0, b"123456789");
        let expected = Sum {
            crc: 930_766_865,
            length: 9,
        };
        assert_eq!(of(&image), expected);
        assert_eq!(of(&SparseBytes::default()).crc, u32::MAX);
    }
}
