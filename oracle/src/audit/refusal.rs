//! Why an image cannot be audited, and why qemu-img does not complete its check of one.

/// Why there is no audit.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The storage fails.
    #[error("reading the image: {0}")]
    Io(#[from] std::io::Error),
    /// Not a qcow2 image, or one that cannot be opened.
    #[error("the image cannot be opened: {0}")]
    NotOpened(Refusal),
    /// Its tables lead to far more than is in the file.
    #[error("the tables refer to themselves so often that an audit does not end in useful time")]
    TooMuchWork,
}

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The first four bytes are not "QFI\xfb".
    #[error("it does not begin with the magic number of qcow2")]
    Magic,
    /// A header field outside its range.
    #[error("header field {field} is {value}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// What it is.
        value: u64,
    },
    /// A table that is too large, not aligned or past 2^63: cannot be read.
    #[error("the {table} at offset {offset} is too large, not cluster aligned or past 2^63")]
    Table {
        /// Which table.
        table: &'static str,
        /// Where the header says it is.
        offset: u64,
    },
    /// An L1 table that is too small for the virtual disk.
    #[error("the L1 table has {entries} entries; the virtual disk needs {needed}")]
    L1TooSmall {
        /// Entries that it has.
        entries: u64,
        /// Entries that are needed.
        needed: u64,
    },
    /// A header extension that does not fit or says nonsense.
    #[error("the header extension of type {kind:#x} at offset {offset} is malformed or missing")]
    Extension {
        /// Its type.
        kind: u64,
        /// Where it is.
        offset: u64,
    },
    /// A snapshot table entry that cannot be read past.
    #[error("snapshot {snapshot} is malformed")]
    Snapshot {
        /// Which, from 0.
        snapshot: u64,
    },
    /// A bitmap directory or a bitmap table that cannot be read.
    #[error("bitmap {bitmap} is malformed")]
    Bitmap {
        /// Which, from 0.
        bitmap: u64,
    },
    /// The LUKS header is not one: no program opens the image.
    #[error("the LUKS header at offset {offset} does not begin as one")]
    Luks {
        /// Where it should be.
        offset: u64,
    },
}
