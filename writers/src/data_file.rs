//! Images whose guest's data is in another file (specification, "External data file").

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use recount_oracle::case::Image;
use recount_oracle::case::build;
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::synthetic::Synthetic;

use crate::operation::bytes;
use crate::sectors::DATA_FILE_RAW;
use crate::settings::Settings;
use crate::start::{Start, among, slack};

/// The name of an external data file, which is in the folder of the image.
pub const DATA_FILE: &str = "data.raw";
/// Incompatible feature bit 2: there is a data file.
const EXTERNAL_DATA: u64 = 4;
/// The fields of the header for features (specification, "Header").
const INCOMPATIBLE_AT: u64 = 72;
const AUTOCLEAR_AT: u64 = 88;
/// Where the builder puts the first header extension, and the type of the one that names the data file
/// (specification, "Header extensions").
const EXTENSION_AT: u64 = 112;
const DATA_FILE_NAME: u32 = 0x4441_5441;
/// What is in the data file where the image has no data yet.
const SEED: u64 = 1 << 62;

/// A random image without data.
pub(crate) fn random(settings: &Settings, rng: &mut ChaCha8Rng) -> Result<Start, String> {
    let cluster_bits = among(&settings.cluster_bits, rng).unwrap_or(16);
    let image = Synthetic {
        cluster_bits,
        refcount_order: among(&settings.refcount_orders, rng).unwrap_or(4),
        slack_sectors: slack(cluster_bits, rng),
        ..Synthetic::default()
    };
    let size = image.virtual_size();
    let built = build::image(&Image::Synthetic(image));
    let mut built = built.map_err(|why| why.to_string())?;
    let is_raw = rng.random();
    refer(&mut built, is_raw);
    let mut data_file = SparseBytes::zeros(size);
    // A raw one reads as the disk does. What another one has there nobody may see.
    if !is_raw {
        data_file.put(0, &bytes(Some(SEED), size));
    }
    Start::with_data_file(built, data_file)
}

/// Has the header of an image that has no header extension refer to a data file.
fn refer(image: &mut SparseBytes, is_raw: bool) {
    let raw = if is_raw { DATA_FILE_RAW } else { 0 };
    image.put(INCOMPATIBLE_AT, &EXTERNAL_DATA.to_be_bytes());
    image.put(AUTOCLEAR_AT, &raw.to_be_bytes());
    let (kind, length) = (DATA_FILE_NAME, DATA_FILE.len() as u32);
    let extension = [kind.to_be_bytes(), length.to_be_bytes()].concat();
    // The zeros behind it are the extension that ends them.
    image.put(EXTENSION_AT, &[&extension, DATA_FILE.as_bytes()].concat());
}

#[cfg(test)]
mod tests {
    use recount_oracle::audit;

    use super::*;
    use crate::feature::Feature;
    use crate::sectors::{self, Beside};
    use crate::{SharedDisk, start, writes};

    fn raw() -> (Start, Beside) {
        let mut starts = (0..).map(|number| {
            let mut rng = start::numbers(&writes(), number);
            random(&writes(), &mut rng).unwrap()
        });
        let is_raw = |start: &Start| start.bytes.number(AUTOCLEAR_AT, 8) == DATA_FILE_RAW;
        let start = starts.find(is_raw).unwrap();
        let beside = start.read_with();
        (start, beside)
    }

    #[test]
    fn what_a_data_file_has_is_not_seen_as_long_as_nothing_is_written() {
        for number in 0..20 {
            let mut rng = start::numbers(&writes(), number);
            let start = random(&writes(), &mut rng).unwrap();
            assert!(start.features.contains(&Feature::DataFile));
            assert!(
                start
                    .view
                    .active
                    .iter()
                    .all(|read| *read == *sectors::ZEROS)
            );
        }
    }

    #[test]
    fn a_raw_data_file_that_does_not_read_as_the_guest_does_is_told() {
        let (start, mut beside) = raw();
        let audit = audit::audit(&start.bytes).unwrap();
        assert_eq!(sectors::differs(&audit, &beside, &start.view), None);
        beside.data_file.as_mut().unwrap().put(1024, &[1]);
        let told = sectors::differs(&audit, &beside, &start.view).unwrap();
        assert!(told.contains("0x400"), "{told}");
    }

    #[test]
    fn a_data_file_is_stored_and_loaded_beside_its_image() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.qcow2");
        let disk: SharedDisk = raw().0.disk();
        disk.store(&path).unwrap();
        let file = folder.path().join(DATA_FILE);
        std::fs::write(&file, [7; 512]).unwrap();
        disk.load(&path).unwrap();
        let bytes = disk.data_file().unwrap().bytes();
        assert_eq!(bytes.bytes(0, 512), [7; 512]);
    }
}
