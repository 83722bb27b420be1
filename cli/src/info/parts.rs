//! The parts of what is shown that have names in them: features, other files, snapshots, bitmaps.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use recount::info::{FEATURES, Info};
use recount::storage::shown;
use recount::{Image, Offset, Region, Storage, StorageError};

use crate::name;

/// As much of a name as is read, in bytes: the longest that the format has.
const NAME_MAX: u64 = 1023;

/// A feature whose bit is set.
pub struct Feature {
    /// What programs do that do not know it.
    pub kind: &'static str,
    pub bit: u32,
    /// Nothing where this program does not know it.
    pub name: Option<&'static str>,
}

impl Feature {
    /// The features of an image.
    pub fn all(image: &Image) -> Vec<Self> {
        let header = &image.header;
        let fields = [
            ("incompatible", header.incompatible_features),
            ("compatible", header.compatible_features),
            ("autoclear", header.autoclear_features),
        ];
        let mut all = Vec::new();
        for ((kind, bits), number) in fields.into_iter().zip(0..) {
            for bit in (0..u64::BITS).filter(|bit| bits >> bit & 1 == 1) {
                let known = FEATURES.iter().find(|one| (one.0, one.1) == (number, bit));
                let name = known.map(|(.., name)| *name);
                all.push(Self { kind, bit, name });
            }
        }
        all
    }
}

/// Another file that belongs to an image.
pub struct OtherFile {
    /// Its name, as it is stored.
    pub name: PathBuf,
    /// What keeps it from being used.
    pub problem: Option<String>,
}

impl OtherFile {
    /// The backing file.
    pub fn backing(image: &Image, folder: &Path, storage: &dyn Storage) -> Option<Self> {
        let header = &image.header;
        let (offset, length) = (header.backing_file_offset, header.backing_file_size.into());
        Self::named(Region { offset, length }, folder, storage)
    }

    /// The external data file.
    pub fn data(image: &Image, folder: &Path, storage: &dyn Storage) -> Option<Self> {
        Self::named(image.extensions.data_file, folder, storage)
    }

    fn named(region: Region, folder: &Path, storage: &dyn Storage) -> Option<Self> {
        if region.offset == Offset(0) {
            return None;
        }
        Some(match read(region, storage) {
            Ok(bytes) => {
                let name = PathBuf::from(OsStr::from_bytes(&bytes));
                let problem = problem(&name, folder);
                Self { name, problem }
            }
            Err(error) => Self {
                name: PathBuf::new(),
                problem: Some(format!("its name cannot be read: {error}")),
            },
        })
    }
}

/// Why a file that an image names cannot be used, as far as looking for it shows that. A name without
/// a folder is looked for beside the image.
fn problem(name: &Path, folder: &Path) -> Option<String> {
    let path = match name::resolve(name, false) {
        Ok(named) => folder.join(named.path),
        Err(_) => return Some("not looked for: it is no file of this machine".to_owned()),
    };
    match path.try_exists() {
        Ok(true) => None,
        Ok(false) => Some(format!("it is not there: {}", shown(&path))),
        Err(error) => Some(format!("it cannot be looked for: {error}")),
    }
}

/// The format that an image has for its backing file.
pub fn backing_format(image: &Image, storage: &dyn Storage) -> Option<String> {
    let region = image.extensions.backing_format;
    let bytes = (region.offset != Offset(0)).then(|| read(region, storage));
    Some(text(&bytes?.ok()?))
}

/// What there is many of, as far as it can be read.
pub struct Part<T> {
    pub list: Vec<T>,
    /// Why there is not all of it.
    pub problem: Option<String>,
}

/// A snapshot. Sizes are in bytes.
pub struct Snapshot {
    pub id: String,
    pub name: String,
    /// When it was made, in seconds since 1970.
    pub date: u32,
    /// Nothing where the snapshot does not say it.
    pub disk_size: Option<u64>,
    pub vm_state_size: u64,
    pub l1_table: Offset,
    pub l1_entries: u32,
}

/// A bitmap.
pub struct Bitmap {
    pub name: String,
    /// Bytes that a bit stands for.
    pub granularity: u64,
    pub enabled: bool,
    pub in_use: bool,
}

impl Part<Snapshot> {
    /// All snapshots but blank entries of their table, which stand for none.
    pub fn snapshots(info: &Info, storage: &dyn Storage) -> Self {
        let table = match &info.snapshots {
            None => return Self::of(Ok(Vec::new()), 0, None),
            Some(Err(error)) => return Self::of(Ok(Vec::new()), 0, Some(error.to_string())),
            Some(Ok(table)) => table,
        };
        let entries = table.entries.iter().filter(|entry| !entry.is_blank);
        let snapshots = entries.map(|entry| {
            let [extra_data, id, name] = entry.parts();
            let extra_data = read(extra_data, storage)?;
            let (vm_state_size, disk_size) = entry.sizes(&extra_data);
            Ok(Snapshot {
                id: text(&read(id, storage)?),
                name: text(&read(name, storage)?),
                date: entry.date,
                disk_size,
                vm_state_size,
                l1_table: entry.l1_table_offset,
                l1_entries: entry.l1_size,
            })
        });
        let refusal = table.refusal.map(|refusal| refusal.to_string());
        let count = info.image.header.nb_snapshots;
        Self::of(snapshots.collect(), count, refusal)
    }
}

impl Part<Bitmap> {
    /// All bitmaps.
    pub fn bitmaps(info: &Info, storage: &dyn Storage) -> Self {
        let entries = match &info.bitmaps {
            None => return Self::of(Ok(Vec::new()), 0, None),
            Some(Err(error)) => return Self::of(Ok(Vec::new()), 0, Some(error.to_string())),
            Some(Ok(entries)) => entries,
        };
        let bitmaps = entries.iter().map(|entry| {
            Ok(Bitmap {
                name: text(&read(entry.name, storage)?),
                granularity: 1 << entry.granularity_bits,
                enabled: entry.enabled,
                in_use: entry.in_use,
            })
        });
        let count = info.image.extensions.claimed_bitmaps;
        let stale = info.image.extensions.bitmaps.is_none();
        let stale = stale.then(|| {
            "they are not to be believed: a program that does not know bitmaps has written to the \
             image"
                .to_owned()
        });
        let count = count.map_or(0, |bitmaps| bitmaps.count);
        Self::of(bitmaps.collect(), count, stale)
    }
}

impl<T> Part<T> {
    fn of(list: Result<Vec<T>, StorageError>, count: u32, problem: Option<String>) -> Self {
        let (list, problem) = match list {
            Ok(list) => (list, problem),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        let missing = u64::from(count).saturating_sub(list.len() as u64);
        let missing = (missing > 0).then(|| format!("{missing} more cannot be read"));
        let problem = problem.or(missing);
        Self { list, problem }
    }
}

/// So many bytes, as far as a name can be as long.
fn read(region: Region, storage: &dyn Storage) -> Result<Vec<u8>, StorageError> {
    let mut bytes = vec![0; region.length.min(NAME_MAX) as usize];
    storage.read_at(region.offset, &mut bytes)?;
    Ok(bytes)
}

/// In one line.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).escape_debug().to_string()
}
