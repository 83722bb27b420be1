//! Writers that do nothing of what they are asked for, and what is said of them.

use recount_oracle::disk::Disk as _;
use recount_writers::{Feature, Guest, Kind, Mix, Settings, SharedDisk, Writer};
use recount_writers::{check_writer, power_cuts, replay};

/// What it does instead of writing.
#[derive(Clone, Copy)]
enum Lazy {
    Nothing,
    Panics,
    Fails,
    /// It writes over the header.
    Scribbles,
}

struct Open(Lazy, SharedDisk);

impl Writer for Lazy {
    fn name(&self) -> &'static str {
        "lazy"
    }

    fn open(&self, disk: SharedDisk) -> Result<Box<dyn Guest + '_>, String> {
        Ok(Box::new(Open(*self, disk)))
    }
}

impl Guest for Open {
    fn write(&mut self, _: u64, bytes: &[u8]) -> Result<(), String> {
        match self.0 {
            Lazy::Nothing => Ok(()),
            Lazy::Panics => panic!("on purpose"),
            Lazy::Fails => Err("no".to_owned()),
            Lazy::Scribbles => self.1.write_at(0, bytes).map_err(|error| error.to_string()),
        }
    }

    fn flush(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<(), String> {
        Ok(())
    }
}

/// What is asked in the test of that name, of images that every writer has to open or may decline: it is
/// a failure to open an encrypted one.
fn writes() -> Settings {
    open(recount_writers::writes())
}

fn open(mut settings: Settings) -> Settings {
    let rare = [Feature::Encrypted, Feature::DataFile];
    settings.features.retain(|feature| !rare.contains(feature));
    settings
}

#[track_caller]
fn said(writer: Lazy, kind: Kind) -> String {
    let report = check_writer(&writer, &writes());
    let kinds: Vec<Kind> = report.failed().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [kind], "{report}");
    report.to_string()
}

#[test]
fn what_is_not_written_reads_wrong() {
    let said = said(Lazy::Nothing, Kind::ReadsWrong);
    assert!(said.contains("reads-wrong: 20 images"), "{said}");
    assert!(said.contains("of the active layer reads as"), "{said}");
}

#[test]
fn a_panic_and_an_error_are_failures_of_the_operation() {
    let panics = said(Lazy::Panics, Kind::OperationFails);
    assert!(panics.contains("it panics: on purpose"), "{panics}");
    let fails = said(Lazy::Fails, Kind::OperationFails);
    assert!(fails.contains("fails: no"), "{fails}");
}

#[test]
fn an_image_without_a_header_is_unreadable() {
    said(Lazy::Scribbles, Kind::Unreadable);
}

#[test]
#[should_panic(expected = "0 of 133 discards supported")]
fn what_is_never_supported_is_not_judged_and_fails() {
    let settings = Settings {
        mix: Mix {
            write: 0,
            ..power_cuts().mix
        },
        ..open(power_cuts())
    };
    check_writer(&Lazy::Nothing, &settings).check();
}

/// It opens nothing.
struct Declines;

impl Writer for Declines {
    fn name(&self) -> &'static str {
        "declines"
    }

    fn open(&self, _: SharedDisk) -> Result<Box<dyn Guest + '_>, String> {
        Err("not today".to_owned())
    }
}

#[test]
fn an_image_with_a_feature_may_be_declined_and_a_plain_one_not() {
    let report = check_writer(&Declines, &writes());
    let declined: u32 = report.declined().map(|(_, count, _)| count).sum();
    assert!(declined > 10, "{report}");
    assert!(report.to_string().contains("declined: "), "{report}");
    let plain = Settings {
        cluster_bits: vec![16],
        refcount_orders: vec![4],
        features: Vec::new(),
        ..writes()
    };
    let report = check_writer(&Declines, &plain);
    let kinds: Vec<Kind> = report.failed().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [Kind::OperationFails], "{report}");
}

#[test]
#[should_panic(expected = "declined: 20 images")]
fn a_writer_that_declines_everything_is_not_judged_and_fails() {
    let settings = Settings {
        cluster_bits: vec![9],
        ..writes()
    };
    check_writer(&Declines, &settings).check();
}

#[test]
fn what_is_told_fails_again_when_it_is_replayed() {
    let report = check_writer(&Lazy::Nothing, &writes());
    let told = report.to_string();
    let again = told.split_once("replay(&writer, &settings, ").unwrap().1;
    let (run, operations) = again.split_once(", \"").unwrap();
    let (operations, _) = operations.split_once('"').unwrap();
    let again = replay(&Lazy::Nothing, &writes(), run.parse().unwrap(), operations);
    let again: Vec<(Kind, usize)> = again.unwrap().failed().collect();
    assert_eq!(again, report.failed().collect::<Vec<_>>(), "{told}");
    // One write, one look.
    assert_eq!(again, [(Kind::ReadsWrong, 2)], "{told}");
    let length = operations.split_whitespace().nth(1);
    assert_eq!(length, Some("512"), "{told}");
    assert_eq!(told, check_writer(&Lazy::Nothing, &writes()).to_string());
}

#[test]
fn a_replay_of_what_is_no_operation_says_which() {
    let again = replay(&Lazy::Nothing, &writes(), 0, "flush; write nothing");
    assert!(again.unwrap_err().contains("write nothing"));
}
