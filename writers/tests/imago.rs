//! The crate imago on the disk itself, so that its writes may fail and the power may be cut. It takes no
//! snapshots. What it does wrong is in docs/findings-elsewhere.md.

mod kinds;
mod made;

use std::io;
use std::path::Path;

use imago::qcow2::Qcow2;
use imago::raw::Raw;
use imago::{DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder as _};
use recount_imago_disk::ImagoDisk;
use recount_needs::needs;
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::synthetic::{Bitmap, Synthetic};
use recount_oracle::case::{Image, build};
use recount_writers::{
    Done, Feature, Guest, Kind, Mix, Report, Settings, SharedDisk, Start, Writer,
};
use recount_writers::{check_writer, discards, failing_operations, power_cuts, reopening, writes};

struct Imago;

impl Writer for Imago {
    fn name(&self) -> &'static str {
        "imago"
    }

    fn open(&self, disk: SharedDisk) -> Result<Box<dyn Guest + '_>, String> {
        let backing = disk.backing().map(|bytes| {
            let bytes = SharedDisk::new(SparseBytes::clone(&bytes));
            Raw::open_image(ImagoDisk::new(bytes), false)
        });
        let backing = backing.transpose().map_err(text)?;
        let data_file = disk.data_file();
        let mut builder = Qcow2::builder(ImagoDisk::new(disk))
            .write(true)
            .backing(backing.map(FormatAccess::new));
        // It must not be told of the data file of an image that has none.
        if data_file.is_some() {
            builder = builder.data_file(data_file.clone().map(ImagoDisk::new));
        }
        let opened = builder.open(DenyImplicitOpenGate::default());
        Ok(Box::new(Open(FormatAccess::new(opened.map_err(text)?))))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to `map_err`")]
fn text(error: io::Error) -> String {
    error.to_string()
}

struct Open(FormatAccess<ImagoDisk<SharedDisk>>);

impl Guest for Open {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), String> {
        self.0.write(bytes, offset).map_err(text)
    }

    fn discard(&mut self, offset: u64, length: u64) -> Result<Done, String> {
        let discarded = self.0.discard_to_zero(offset, length);
        discarded.map(|()| Done::Done).map_err(text)
    }

    fn flush(&mut self) -> Result<(), String> {
        self.0.flush().and_then(|()| self.0.sync()).map_err(text)
    }

    fn close(mut self: Box<Self>) -> Result<(), String> {
        self.flush()
    }
}

/// Everything that imago does: it takes no snapshots, and finding 6 hides everything else that it does to
/// an encrypted image.
fn what_it_does(settings: Settings) -> Settings {
    let mix = Mix {
        snapshot: 0,
        delete_snapshot: 0,
        ..settings.mix
    };
    let mut features = settings.features;
    features.retain(|&feature| feature != Feature::Encrypted);
    Settings {
        mix,
        features,
        ..settings
    }
}

#[track_caller]
fn report(test: &str, settings: Settings) -> Report {
    let mut report = check_writer(&Imago, &what_it_does(settings));
    report.store(Path::new(env!("CARGO_TARGET_TMPDIR")), test);
    println!("{report}");
    report
}

fn failed(report: &Report) -> Vec<Kind> {
    report.failed().map(|(kind, _)| kind).collect()
}

#[test]
fn imago_keeps_what_a_guest_writes_and_declines_subclusters_only() {
    for (test, settings) in [
        ("writes", writes()),
        ("discards", discards()),
        ("reopening", reopening()),
    ] {
        let settings = Settings {
            leaks_fail: true,
            ..settings
        };
        let report = report(test, settings);
        report.check();
        let declined: Vec<_> = report.declined().collect();
        let [(why, count, features)] = declined[..] else {
            panic!("{report}");
        };
        assert!(why.contains("Unrecognized incompatible feature"), "{why}");
        assert!(
            count < 15 && features.contains(&Feature::Subclusters),
            "{report}"
        );
    }
}

/// Finding 4 of docs/findings-elsewhere.md is still there, and there is no other.
#[test]
fn an_l2_table_whose_refcount_could_not_be_written_is_used() {
    let settings = Settings {
        power_cuts: None,
        ..failing_operations()
    };
    let report = report("failing_operations", settings);
    assert!(report.failures_of_the_disk() > 50, "{report}");
    assert_eq!(failed(&report), [Kind::RefcountTooLow], "{report}");
    let said = report.to_string();
    assert!(
        said.contains("has refcount 0 and is used by L1 entry"),
        "{said}"
    );
}

/// Finding 5 of docs/findings-elsewhere.md is still there.
#[test]
fn a_power_cut_leaves_entries_of_clusters_without_their_refcounts() {
    let report = report("power_cuts", power_cuts());
    let found = failed(&report);
    assert!(found.contains(&Kind::RefcountTooLow), "{report}");
    assert!(found.contains(&Kind::Unreadable), "{report}");
    // What was flushed, and is in no cluster that is used twice, reads as it was.
    assert!(!found.contains(&Kind::LostAfterFlush), "{report}");
}

/// Finding 6 of docs/findings-elsewhere.md is still there.
#[test]
fn an_encrypted_image_is_opened_and_written_to_without_its_key() {
    let settings = Settings {
        runs: 12,
        features: vec![Feature::Encrypted],
        power_cuts: None,
        ..writes()
    };
    let report = check_writer(&Imago, &settings);
    println!("{report}");
    assert_eq!(failed(&report), [Kind::OpensWithoutKey], "{report}");
}

#[needs(qemu)]
#[test]
fn of_the_images_that_qemu_img_makes_imago_declines_zstd_and_subclusters() {
    let images = kinds::all();
    let settings = Settings {
        runs: images.len() as u32,
        images,
        leaks_fail: true,
        ..discards()
    };
    let report = report("made", settings);
    report.check();
    let declined: Vec<_> = report.declined().collect();
    let [(zstd, 1, of_zstd), (subclusters, 2, of_subclusters)] = declined[..] else {
        panic!("{report}");
    };
    assert!(zstd.contains("incompatible feature(s) 3"), "{zstd}");
    assert!(of_zstd.contains(&Feature::Zstd), "{report}");
    assert!(
        subclusters.contains("incompatible feature(s) 4"),
        "{subclusters}"
    );
    assert!(of_subclusters.contains(&Feature::Subclusters), "{report}");
}

/// Finding 9 of docs/findings-elsewhere.md is still there.
#[test]
fn an_image_that_is_declined_loses_its_autoclear_bits() {
    let image = Synthetic {
        extended_l2: true,
        slack_sectors: 1024,
        bitmaps: vec![Bitmap {
            granularity_bits: 16,
            clusters: 1,
            all_ones: 0,
        }],
        ..Synthetic::default()
    };
    let image = build::image(&Image::Synthetic(image)).unwrap();
    let settings = Settings {
        runs: 1,
        images: vec![Start::new(image, None).unwrap()],
        ..writes()
    };
    let report = check_writer(&Imago, &settings);
    println!("{report}");
    assert_eq!(failed(&report), [Kind::OperationFails], "{report}");
    let said = report.to_string();
    assert!(
        said.contains("the image is changed, and not opened: Unrecognized incompatible feature"),
        "{said}"
    );
}
