//! `--record`: writes what qemu-img says into the corpus. Cases that are there already get the
//! verdict of this version; a run of the seed then adds those that show something new.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use recount_oracle::case::text::{CaseFile, Verdict};
use recount_oracle::case::{Case, Image};
use recount_subjects::packed;
use serde_json::Value;

use super::cases::CaseId;
use super::examine::examine_recorded;
use super::exhibit::{Exhibit, Whole, bench};
use super::observe::observe;
use super::record;
use super::session::Session;
use super::subject::Subject as _;
use crate::error::Result;

/// Images that take up more than this, compressed, are not recorded.
const LARGEST_IMAGE: usize = 6 << 10;

/// Records into `folder`.
pub fn record(session: &Session<'_>, folder: &Path, seed: u64) -> Result<ExitCode> {
    let mut shown = BTreeSet::new();
    let old = record::load_all(folder)?;
    let before = old.len();
    for (path, mut record) in old {
        traits(&record.case, &mut shown);
        let Image::Real(recipe) = &record.case.image else {
            continue;
        };
        let directory = session.folder()?;
        session.maker.companions(recipe, directory.path())?;
        let bench = bench(&record.case, directory.path());
        let exhibit = Exhibit::new(bench, record::load_image(&path)?);
        if note(session, &mut record, &exhibit)? {
            record::store(&path, &record, None)?;
        }
    }
    let mut added = 0;
    for index in 0..session.args.cases {
        let id = CaseId {
            seed,
            index,
            synthetic: false,
        };
        let case = id.case();
        let mut all = shown.clone();
        traits(&case, &mut all);
        // The key material of an encrypted image would fill the repository.
        let is_luks = bench(&case, folder).encrypted;
        if !is_luks && all.len() > shown.len() && add(session, folder, id, case)? {
            shown = all;
            added += 1;
        }
    }
    println!(
        "{before} cases recorded again, {added} new ones, in {}",
        folder.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Records one case of a seed, whatever it shows: one that once told of a mistake.
pub fn record_one(session: &Session<'_>, folder: &Path, id: CaseId) -> Result<ExitCode> {
    let place = folder.display();
    if add(session, folder, id, id.case())? {
        println!("recorded in {place}");
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "not recorded in {place}: its damage changes nothing, its image is large, or without \
         qemu-img's messages a version's verdict could not be compared with"
    );
    Ok(ExitCode::FAILURE)
}

/// Records a case with its image, unless the damage did nothing or the image is large.
fn add(session: &Session<'_>, folder: &Path, id: CaseId, case: Case) -> Result<bool> {
    let directory = session.folder()?;
    let whole = Whole::make(&case, &session.maker, directory.path())?;
    let exhibit = whole.damage(&case.damage);
    let packed = packed::pack(&exhibit.damaged)?;
    let idle = exhibit.acts.iter().any(|(_, applied)| applied.is_nothing());
    if idle || packed.len() > LARGEST_IMAGE {
        return Ok(false);
    }
    let path = folder.join(format!("real-{}-{}.toml", id.seed, id.index));
    let mut record = CaseFile::from(case);
    record.story = Some(format!("Case {id} of `cargo xtask differential`."));
    let noted = note(session, &mut record, &exhibit)?;
    if noted {
        record::store(&path, &record, Some(&packed))?;
    }
    Ok(noted)
}

/// Adds the verdict of every qemu-img, in place of an older one of the same version, unless one of
/// them cannot be compared with once qemu-img's messages, and what it could say of our repair, are
/// gone.
fn note(session: &Session<'_>, record: &mut CaseFile, exhibit: &Exhibit<'_>) -> Result<bool> {
    for qemu in &session.field.theirs {
        let (observed, _) = observe(qemu, exhibit.bench, &exhibit.damaged)?;
        let findings = examine_recorded(&session.field, exhibit, &observed.as_recorded())?;
        if findings.all.iter().any(|one| one.failure().is_some()) {
            return Ok(false);
        }
        let ended = observed.all.ended;
        let verdict = Verdict {
            repaired_clean: Some(observed.settled.is_clean()),
            observed: Some(observed),
            ..record::verdict_of(ended)
        };
        record.verdicts.insert(qemu.name(), verdict);
    }
    Ok(true)
}

/// Adds what a case shows: every kind of image, step and damage by name, without their numbers.
fn traits(case: &Case, shown: &mut BTreeSet<String>) {
    let Ok(Value::Object(fields)) = serde_json::to_value(case) else {
        return;
    };
    for part in ["image", "damage"] {
        if let Some(value) = fields.get(part) {
            names(part, value, shown);
        }
    }
}

fn names(path: &str, value: &Value, shown: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                // Geometry is shown in each of its sizes.
                let path = match (name.as_str(), value.as_u64()) {
                    ("cluster_bits" | "refcount_order", Some(size)) => {
                        format!("{path}.{name}={size}")
                    }
                    _ => format!("{path}.{name}"),
                };
                names(&path, value, shown);
            }
        }
        Value::Array(items) => {
            for item in items {
                names(path, item, shown);
            }
        }
        Value::String(name) => {
            shown.insert(format!("{path}.{name}"));
        }
        Value::Bool(false) => {}
        _ => {
            shown.insert(path.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use recount_needs::needs;

    use super::super::subject::{Checker, Maker};
    use super::*;

    /// Every so many recorded cases are recorded again.
    const SAMPLE: usize = 6;

    #[needs(qemu)]
    #[test]
    fn a_sample_recorded_again_is_as_recorded() {
        let theirs = Checker::find(Path::new("qemu-img")).unwrap();
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/cases");
        let recorded = record::load_all(&corpus).unwrap();
        let name = theirs.name();
        let of_version = recorded.into_iter().filter_map(|(path, mut file)| {
            let expected = file.verdicts.remove(&name)?.observed?;
            Some((path, file.case, expected))
        });
        let mut compared = 0;
        for (path, case, expected) in of_version.step_by(SAMPLE) {
            let folder = tempfile::tempdir().unwrap();
            let Image::Real(recipe) = &case.image else {
                panic!("{} is not of a real image", path.display());
            };
            let maker = Maker::new("qemu-img".into(), "qemu-io".into());
            maker.companions(recipe, folder.path()).unwrap();
            let image = record::load_image(&path).unwrap();
            let bench = bench(&case, folder.path());
            let (seen, _) = observe(&theirs, bench, &image).unwrap();
            assert_eq!(seen.as_recorded(), expected, "{}", path.display());
            compared += 1;
        }
        println!("{compared} cases of {name}");
        let versions = [
            "qemu-img 5.2",
            "qemu-img 7.2",
            "qemu-img 10.0",
            "qemu-img 11.1",
        ];
        assert!(compared > 5 || !versions.contains(&&*name), "{compared}");
    }
}
