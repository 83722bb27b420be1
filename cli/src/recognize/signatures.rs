//! The bytes by which other kinds of files are told, and what each kind needs.
//!
//! A table of our own, since what matters of a kind here is its name in qemu-img and a command.
//! Of the crates that tell kinds of files, `infer` 0.22 tells no disk image but qcow2, and
//! `file-format` 0.29 no QED, Parallels, VHD or LUKS, no VDI of qemu's, and no partition table.

use recount::{Offset, Storage};

/// A kind of file and the bytes that tell it.
pub struct Signature {
    /// What it is, as it stands in "not a qcow2 image but ...".
    pub name: &'static str,
    pub kind: Kind,
    /// Any of them is enough.
    marks: &'static [(Place, &'static [u8])],
}

#[derive(Clone, Copy)]
enum Place {
    /// So many bytes from the start.
    Start(usize),
    /// So many bytes before the end.
    End(u64),
}

use Place::{End, Start};

/// What can be done with a file.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Something is inside; the command brings it out.
    Packed { command: &'static str },
    /// A disk image in another format, by its name in qemu-img, which has a check for it or not.
    DiskImage {
        format: &'static str,
        is_checked: bool,
    },
    /// An encrypted disk without an image format around it.
    Luks,
    /// A raw image of a CD or DVD, which nobody wants as a qcow2 image.
    Disc,
    /// A raw image of a whole disk.
    Disk,
}

impl Kind {
    /// What to do next, line by line.
    pub fn advice(self) -> Vec<String> {
        const NOTHING_TO_CHECK: &str =
            "It has no refcounts, so there is nothing to check (-f raw says so).";
        match self {
            Self::Packed { command } => {
                vec![format!("Unpack it and check what is inside: `{command}`")]
            }
            Self::DiskImage { format, is_checked } => {
                let convert = format!("`qemu-img convert -f {format} -O qcow2 FILE NEW`");
                let check = if is_checked {
                    format!("To check it: `qemu-img check -f {format} FILE`")
                } else {
                    "qemu-img has no check for that format.".to_owned()
                };
                vec![
                    format!("recount checks qcow2 images only. {check}"),
                    format!("To have the disk as a qcow2 image: {convert}"),
                ]
            }
            Self::Luks => vec![
                NOTHING_TO_CHECK.to_owned(),
                "What its header says: `cryptsetup luksDump FILE`".to_owned(),
            ],
            Self::Disc => vec![NOTHING_TO_CHECK.to_owned()],
            Self::Disk => vec![
                NOTHING_TO_CHECK.to_owned(),
                "To have the disk as a qcow2 image: `qemu-img convert -f raw -O qcow2 FILE NEW`"
                    .to_owned(),
                "If it was a qcow2 image, its header has been overwritten: make a copy of the file \
                 first."
                    .to_owned(),
            ],
        }
    }
}

const fn packed(command: &'static str) -> Kind {
    Kind::Packed { command }
}

const fn checked(format: &'static str) -> Kind {
    Kind::DiskImage {
        format,
        is_checked: true,
    }
}

/// The first one that fits counts. So what may begin like another kind comes first: ISO 9660 images
/// that boot from a USB stick, and VHD images of fixed size, begin with a partition table.
/// The bytes are those of the formats' specifications, and what qemu-img 10.0 writes.
static SIGNATURES: [Signature; 17] = [
    Signature {
        name: "a file compressed by gzip",
        kind: packed("gunzip -c FILE > NEW"),
        marks: &[(Start(0), b"\x1f\x8b\x08")],
    },
    Signature {
        name: "a file compressed by xz",
        kind: packed("xz -dc FILE > NEW"),
        marks: &[(Start(0), b"\xfd7zXZ\0")],
    },
    Signature {
        name: "a file compressed by zstd",
        kind: packed("zstd -dc FILE > NEW"),
        marks: &[(Start(0), b"\x28\xb5\x2f\xfd")],
    },
    Signature {
        name: "a file compressed by bzip2",
        kind: packed("bzip2 -dc FILE > NEW"),
        // The mark of the first block: the "BZh" before it is rather short to go by.
        marks: &[(Start(4), b"1AY&SY")],
    },
    Signature {
        name: "a zip archive",
        kind: packed("unzip FILE"),
        marks: &[(Start(0), b"PK\x03\x04")],
    },
    Signature {
        name: "a tar archive",
        kind: packed("tar -xf FILE"),
        marks: &[(Start(257), b"ustar")],
    },
    Signature {
        name: "a VMDK image (VMware)",
        kind: checked("vmdk"),
        marks: &[(Start(0), b"KDMV"), (Start(0), b"COWD")],
    },
    Signature {
        name: "the descriptor of a VMDK image (VMware), a text that names the files with the data",
        kind: checked("vmdk"),
        marks: &[(Start(0), b"# Disk DescriptorFile")],
    },
    Signature {
        name: "a VDI image (VirtualBox)",
        kind: checked("vdi"),
        // The text before it is another one from each program that writes the format.
        marks: &[(Start(64), b"\x7f\x10\xda\xbe")],
    },
    Signature {
        name: "a VHDX image (Hyper-V)",
        kind: checked("vhdx"),
        marks: &[(Start(0), b"vhdxfile")],
    },
    Signature {
        name: "a QED image (QEMU)",
        kind: checked("qed"),
        marks: &[(Start(0), b"QED\0")],
    },
    Signature {
        name: "a Parallels image",
        kind: checked("parallels"),
        marks: &[
            (Start(0), b"WithoutFreeSpace"),
            (Start(0), b"WithouFreSpacExt"),
        ],
    },
    Signature {
        name: "a VHD image (Virtual PC, Hyper-V)",
        kind: Kind::DiskImage {
            format: "vpc",
            is_checked: false,
        },
        // The footer; one of fixed size has it at the end alone, and old ones are a byte shorter.
        marks: &[
            (Start(0), b"conectix"),
            (End(512), b"conectix"),
            (End(511), b"conectix"),
        ],
    },
    Signature {
        name: "a LUKS container, an encrypted raw disk",
        kind: Kind::Luks,
        marks: &[(Start(0), b"LUKS\xba\xbe")],
    },
    Signature {
        name: "an ISO 9660 image, of a CD or DVD",
        kind: Kind::Disc,
        marks: &[(Start(32_769), b"CD001")],
    },
    Signature {
        name: "a raw disk image with a partition table (GPT)",
        kind: Kind::Disk,
        // Sectors of 512 and of 4096 bytes.
        marks: &[(Start(512), b"EFI PART"), (Start(4096), b"EFI PART")],
    },
    Signature {
        name: "a raw disk image with a partition table (MBR)",
        kind: Kind::Disk,
        // What a FAT volume has as well: the entries have to make sense too.
        marks: &[(Start(MBR_MARK), b"\x55\xaa")],
    },
];

/// Where the mark of a boot sector is, right behind the four entries of a partition table.
const MBR_MARK: usize = 510;
const MBR_ENTRIES: usize = 446;
const MBR_ENTRY_BYTES: usize = 16;

/// The kind of a file, by its first bytes and its last ones.
pub fn find(start: &[u8], storage: &dyn Storage) -> Option<&'static Signature> {
    let fits = |(place, bytes): &(Place, &[u8])| match *place {
        Start(MBR_MARK) => is_at(start, MBR_MARK, bytes) && has_partitions(start),
        Start(position) => is_at(start, position, bytes),
        End(distance) => is_before_end(storage, distance, bytes),
    };
    SIGNATURES.iter().find(|kind| kind.marks.iter().any(fits))
}

fn is_at(start: &[u8], position: usize, bytes: &[u8]) -> bool {
    let there = start.get(position..).unwrap_or_default();
    there.starts_with(bytes)
}

fn is_before_end(storage: &dyn Storage, distance: u64, bytes: &[u8]) -> bool {
    let Some(offset) = storage.len().checked_sub(distance) else {
        return false;
    };
    let mut there = vec![0; bytes.len()];
    // A device that cannot be read there is not told by what is there.
    storage.read_at(Offset(offset), &mut there).is_ok() && there == bytes
}

/// Whether a boot sector has partitions: each entry active or not, and used ones neither empty nor
/// at the boot sector itself.
fn has_partitions(start: &[u8]) -> bool {
    let Some(table) = start.get(MBR_ENTRIES..MBR_MARK) else {
        return false;
    };
    let is_used = |entry: &&[u8]| entry[4] != 0;
    let makes_sense = |entry: &[u8]| {
        let has_start = entry[8..12] != [0; 4];
        let has_size = entry[12..] != [0; 4];
        matches!(entry[0], 0 | 0x80) && (!is_used(&entry) || has_start && has_size)
    };
    let mut entries = table.chunks_exact(MBR_ENTRY_BYTES);
    entries.clone().all(makes_sense) && entries.any(|entry| is_used(&entry))
}
