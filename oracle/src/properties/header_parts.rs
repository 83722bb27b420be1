//! What a byte of the header says, for messages (specification, "Header", "Header extensions").

use crate::case::damage::SparseBytes;
use crate::format::{BACKING_FORMAT, BITMAPS, DATA_FILE_NAME, FEATURE_NAMES, LUKS_HEADER};

/// Where fields of the header begin, and what they say.
const FIELDS: [(u64, &str); 16] = [
    (0, "the magic number"),
    (4, "the version"),
    (8, "the place of the backing file's name"),
    (20, "the cluster size"),
    (24, "the size of the virtual disk"),
    (32, "the encryption"),
    (36, "the place and size of the L1 table"),
    (48, "the place and size of the refcount table"),
    (60, "the number and place of the snapshots"),
    (72, "an incompatible feature bit"),
    (
        80,
        "a compatible feature bit, such as that of lazy refcounts",
    ),
    (88, "an autoclear feature bit"),
    (96, "the refcount width"),
    (100, "the header's length"),
    (104, "the compression type"),
    (105, "a field that is not known"),
];
const EXTENSIONS: [(u64, &str); 5] = [
    (BACKING_FORMAT, "the backing file's format"),
    (FEATURE_NAMES, "the names of the features"),
    (BITMAPS, "the bitmaps"),
    (LUKS_HEADER, "the place of the LUKS header"),
    (DATA_FILE_NAME, "the name of the data file"),
];

/// Bytes of a header of version 2, which has no field for its length.
const VERSION_2: u64 = 72;

/// What the byte at an offset in the header's cluster says.
pub(super) fn part(image: &SparseBytes, offset: u64) -> String {
    let length = match image.number(4, 4) {
        2 => VERSION_2,
        _ => image.number(100, 4),
    };
    if offset < length {
        let field = FIELDS.iter().rfind(|(at, _)| *at <= offset);
        return field.map_or("a field", |(_, says)| says).to_owned();
    }
    let mut at = length;
    loop {
        let (kind, length) = (image.number(at, 4), image.number(at + 4, 4));
        let end = at + 8 + length.next_multiple_of(8);
        if kind == 0 || end > 1 << image.number(20, 4).min(21) {
            return "what comes behind the header extensions".to_owned();
        }
        if offset < end {
            let mut known = EXTENSIONS.iter();
            let says = known.find(|(of, _)| *of == kind).map(|(_, says)| *says);
            let unknown = format!("an extension of the unknown type {kind:#x}");
            return says.map_or(unknown, |says| format!("the header extension for {says}"));
        }
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_a_header_has_a_name() {
        let mut image = SparseBytes::zeros(65_536);
        for (at, field) in [
            (4, 3_u32),
            (20, 16),
            (100, 112),
            (112, 0x6803_f857),
            (116, 48),
            (168, 0x1234),
            (172, 5),
        ] {
            image.put(at, &field.to_be_bytes());
        }
        for (offset, says) in [
            (7, "the version"),
            (
                83,
                "a compatible feature bit, such as that of lazy refcounts",
            ),
            (104, "the compression type"),
            (111, "a field that is not known"),
            (112, "the header extension for the names of the features"),
            (167, "the header extension for the names of the features"),
            (168, "an extension of the unknown type 0x1234"),
            (183, "an extension of the unknown type 0x1234"),
            (184, "what comes behind the header extensions"),
        ] {
            assert_eq!(part(&image, offset), says, "{offset}");
        }
        image.put(4, &2_u32.to_be_bytes());
        image.put(72, &0xe279_2aca_u32.to_be_bytes());
        assert_eq!(
            part(&image, 75),
            "the header extension for the backing file's format"
        );
        // A length that leads out of the cluster.
        image.put(76, &[0xff; 4]);
        assert_eq!(part(&image, 75), "what comes behind the header extensions");
    }
}
