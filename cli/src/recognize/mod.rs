//! What a file is that does not open as a qcow2 image, and what helps: for people who have a file and
//! no check of it. It is only read, a few MiB at most.
//!
//! The first line of each text says what was seen, the others what to do.

mod overwritten;
mod signatures;
mod text;

use std::fmt;
use std::path::Path;

use recount::{CheckError, Image, ImageError, MemoryStorage, Offset, Storage};

use overwritten::Remains;
use signatures::{Kind, Signature};
pub use text::Text;

/// Bytes at the start that are looked at: up to the end of the second one of the largest clusters,
/// where the reftable of a new image is.
const WINDOW: u64 = 4 << 20;

/// "QFI\xfb" (specification, "Header").
const MAGIC: [u8; 4] = *b"QFI\xfb";

/// Bytes of the shortest header of version 2, and of version 3.
const HEADER_BYTES: [(u32, usize); 2] = [(2, 72), (3, 104)];

/// How many of the first bytes are shown where nothing is known about them.
const SHOWN_BYTES: usize = 16;

/// What a file seems to be.
pub struct Explanation {
    what: String,
    advice: Vec<String>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        let mut lines = self.advice.iter();
        lines.try_for_each(|line| write!(f, "\n    {line}"))
    }
}

impl Explanation {
    fn new(what: impl Into<String>, advice: &[&str]) -> Self {
        Self {
            what: what.into(),
            advice: advice.iter().copied().map(str::to_owned).collect(),
        }
    }

    /// Of a file that is no qcow2 image or has no whole header; `None` where the error says all.
    pub fn of(file: &Path, error: &CheckError, storage: &dyn Storage) -> Option<Self> {
        let CheckError::Image(error) = error else {
            return None;
        };
        if let ImageError::UndoFile | ImageError::Storage(_) = error {
            return None;
        }
        let mut start = vec![0; storage.len().min(WINDOW) as usize];
        storage.read_at(Offset(0), &mut start).ok()?;
        if start.is_empty() {
            return Some(empty());
        }
        if let Some(cut) = cut_header(&start) {
            return Some(cut);
        }
        match error {
            ImageError::Version(1) => Some(version_1()),
            ImageError::Magic(_) => Some(
                // What is left of a qcow2 image comes first: whatever is at the start of the file
                // now, a boot sector for instance, may be what was written over the header.
                damaged_magic(&start, error)
                    .or_else(|| overwritten(&start, storage))
                    .or_else(|| something_else(file, &start, storage))
                    .unwrap_or_else(|| unknown(&start, error)),
            ),
            _ => None,
        }
    }
}

fn empty() -> Explanation {
    Explanation::new(
        "not a qcow2 image: the file is empty",
        &["A copy or a download has probably failed: get the image again."],
    )
}

/// A file that begins as a qcow2 image and is shorter than its header.
fn cut_header(start: &[u8]) -> Option<Explanation> {
    let version = match start.get(4..8) {
        Some(bytes) => u32::from_be_bytes(bytes.try_into().ok()?),
        None => HEADER_BYTES[0].0,
    };
    let (_, needed) = HEADER_BYTES.into_iter().find(|(of, _)| *of == version)?;
    if !start.starts_with(&MAGIC) || start.len() >= needed {
        return None;
    }
    Some(Explanation::new(
        format!(
            "only the beginning of a qcow2 image: the file ends after {} bytes, and its header has \
             at least {needed}",
            start.len()
        ),
        &["A copy or a download has probably failed: get the image again."],
    ))
}

fn version_1() -> Explanation {
    Explanation::new(
        "not a qcow2 image but one of qcow, the format before it: version (bytes 4 to 7) is 1",
        &[
            "qemu-img has no check for that format, but reads it.",
            "To have the disk as a qcow2 image: `qemu-img convert -f qcow -O qcow2 FILE NEW`",
        ],
    )
}

/// A file of which no more than the magic need be set right.
fn damaged_magic(start: &[u8], error: &ImageError) -> Option<Explanation> {
    let mut mended = start.to_vec();
    mended.get_mut(..MAGIC.len())?.copy_from_slice(&MAGIC);
    Image::open(&MemoryStorage::fixed(mended)).ok()?;
    Some(Explanation::new(
        format!("{error}; but the rest of the header is that of a qcow2 image"),
        &[
            "Let nothing write to the file, and make a copy of it.",
            "Put the magic into the copy: `printf 'QFI\\373' | dd of=COPY bs=4 count=1 conv=notrunc`",
            "Check the copy.",
        ],
    ))
}

fn overwritten(start: &[u8], storage: &dyn Storage) -> Option<Explanation> {
    let Remains {
        cluster_size,
        reftable,
        refblock,
    } = overwritten::find(start, storage)?;
    let header = start.iter().take(cluster_size as usize);
    let zeros = header.take_while(|byte| **byte == 0).count();
    let now = match signatures::find(start, storage) {
        Some(Signature { name, .. }) => format!("the file begins like {name}"),
        None if zeros >= MAGIC.len() => format!("its first {zeros} bytes are zeros"),
        None => format!("it begins with {}", hex(start)),
    };
    let size = with_unit(cluster_size);
    Some(Explanation {
        what: format!(
            "not a qcow2 image now, but its header seems to have been overwritten: {now}"
        ),
        advice: vec![
            format!("What was seen: a reftable at offset {reftable}, for clusters of {size};"),
            format!("it leads to a refblock at offset {refblock}, which counts the header and both."),
            "Let nothing write to the file, neither a machine nor a repair, and make a copy of it."
                .to_owned(),
            "Make a new image with the same size and options (`qemu-img create`)."
                .to_owned(),
            "If its reftable is at that offset too, its header may fit the copy:".to_owned(),
            format!("`dd if=NEW of=COPY bs={cluster_size} count=1 conv=notrunc`"),
            "Check the copy, and read its data before you repair it: a new header knows of no snapshot."
                .to_owned(),
        ],
    })
}

/// A file of another kind.
fn something_else(file: &Path, start: &[u8], storage: &dyn Storage) -> Option<Explanation> {
    if let Some(Signature { name, kind, .. }) = signatures::find(start, storage) {
        let is_named = matches!(kind, Kind::Packed { .. }) && is_qcow2_but_for_a_suffix(file);
        let inside = if is_named {
            "; by its name there is a qcow2 image inside"
        } else {
            ""
        };
        return Some(Explanation {
            what: format!("not a qcow2 image but {name}{inside}"),
            advice: kind.advice(),
        });
    }
    let Text { name, first_line } = Text::of(start)?;
    Some(Explanation::new(
        format!("not a qcow2 image but {name}; its first line is '{first_line}'"),
        &[
            "If it is from a download, that line may say why there is no image: get the image again.",
        ],
    ))
}

fn unknown(start: &[u8], error: &ImageError) -> Explanation {
    Explanation::new(
        error.to_string(),
        &[
            &format!("It begins with {}.", hex(start)),
            "If it is a raw disk image, there is nothing to check (-f raw).",
            "If it was a qcow2 image, its header has been overwritten: make a copy of the file first.",
        ],
    )
}

/// Whether the name says qcow2 once the last suffix is off, as in `disk.qcow2.gz`.
fn is_qcow2_but_for_a_suffix(file: &Path) -> bool {
    let inner = file.file_stem().map(Path::new).and_then(Path::extension);
    inner.is_some_and(|suffix| suffix.eq_ignore_ascii_case("qcow2"))
}

fn hex(start: &[u8]) -> String {
    let shown = start.iter().take(SHOWN_BYTES);
    let bytes: Vec<String> = shown.map(|byte| format!("{byte:02x}")).collect();
    format!("the bytes {}", bytes.join(" "))
}

/// A cluster size as people say it.
fn with_unit(bytes: u64) -> String {
    match bytes {
        _ if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        _ if bytes >= 1 << 10 => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} bytes"),
    }
}
