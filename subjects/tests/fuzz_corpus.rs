//! What the fuzz targets do holds without libFuzzer as well: every file of the corpus is judged as a
//! target judges it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use recount_oracle::disk::SECTOR;
use recount_oracle::fuzz::encoding::{NotACase, VERSION, decode};
use recount_oracle::fuzz::image::WAYS;
use recount_oracle::fuzz::{Target, Use};
use recount_subjects::{Recount, arms, seeds};

fn corpus(target: Target) -> Vec<(PathBuf, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    let folder = root.join(target.name());
    let entries =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths
        .map(|path| {
            let bytes = fs::read(&path).unwrap();
            (path, bytes)
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no seeds in {}", folder.display());
    files
}

#[test]
fn every_file_of_the_corpus_runs_and_nothing_is_wrong() {
    for target in Target::ALL {
        for (path, bytes) in corpus(target) {
            match target.judge(&Recount, &bytes) {
                Ok(Use::Judged | Use::Costly) => (),
                Ok(Use::TooMuchWork) => panic!("{} is not judged", path.display()),
                // What once went wrong may since have to be refused.
                Ok(Use::Refused) => {
                    let name = path.file_name().and_then(|name| name.to_str());
                    let finding = name.is_some_and(|name| name.starts_with("finding-"));
                    assert!(finding, "{} is refused", path.display());
                }
                Err(broken) => panic!("{}: {broken}", path.display()),
            }
        }
    }
}

#[test]
fn every_image_of_the_corpus_is_repaired_as_specified_in_every_way() {
    for (path, bytes) in corpus(Target::Image) {
        let whole = bytes.len() / SECTOR as usize * SECTOR as usize;
        for way in 0..WAYS.len() {
            let mut image = bytes[..whole].to_vec();
            image.resize(whole + way, 0);
            let judged = Target::Image.judge(&Recount, &image);
            let said = judged.as_ref().err().map(ToString::to_string);
            let shown = path.display();
            assert_ne!(judged, Ok(Use::Refused), "{shown}");
            assert_ne!(judged, Ok(Use::TooMuchWork), "{shown}");
            assert_eq!(said, None, "{shown}, way {way}");
        }
    }
}

#[test]
fn the_corpus_reaches_every_arm() {
    let images = corpus(Target::Image);
    let reached: BTreeSet<String> = images
        .iter()
        .flat_map(|(_, image)| arms::reached(image))
        .collect();
    let missing: Vec<&str> = arms::all().filter(|arm| !reached.contains(*arm)).collect();
    assert_eq!(
        missing,
        Vec::<&str>::new(),
        "reached by no image of the corpus"
    );
    let all: BTreeSet<String> = arms::all().map(str::to_owned).collect();
    let unknown: Vec<&String> = reached.difference(&all).collect();
    assert_eq!(unknown, Vec::<&String>::new(), "not in the list of arms");
}

#[test]
fn a_finding_that_the_engine_can_make_is_an_arm() {
    let source = include_str!("../../engine/src/finding.rs");
    let (_, variants) = source.split_once("pub enum Finding {").unwrap();
    let (variants, _) = variants.split_once("\n}").unwrap();
    let mut found = 0;
    for line in variants.lines() {
        let Some(line) = line
            .strip_prefix("    ")
            .filter(|line| line.starts_with(char::is_uppercase))
        else {
            continue;
        };
        let name = line.split(|c: char| !c.is_alphanumeric()).next().unwrap();
        let arm = format!("finding {name}");
        let known =
            arms::all().any(|known| known == arm) || arms::OUT_OF_REACH.contains(&arm.as_str());
        assert!(known, "{arm} is missing");
        found += 1;
    }
    assert!(found > 20, "only {found} kinds of findings");
}

#[test]
fn an_input_of_another_version_is_refused_with_that_version() {
    for target in [Target::Rebuild, Target::Crash, Target::Fault] {
        for (path, mut bytes) in corpus(target) {
            assert!(decode(target, &bytes).is_ok(), "{}", path.display());
            bytes[0] = VERSION + 1;
            let error = decode(target, &bytes).unwrap_err();
            assert_eq!(error, NotACase::Version { found: VERSION + 1 });
            assert!(error.to_string().contains("version 2"), "{error}");
            assert_eq!(target.judge(&Recount, &bytes), Ok(Use::Refused));
        }
    }
}

#[test]
fn seeds_are_the_same_every_time() {
    let target = Target::Rebuild;
    assert_eq!(seeds::generate_seeds(target), seeds::generate_seeds(target));
}
