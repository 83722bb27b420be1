//! `--record`: writes what qemu-img says into the corpus. Cases that are there already get the
//! verdict of this version; a run of the seed then adds those that show something new.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use recount_oracle::case::Case;
use recount_oracle::case::observed::{Ended, Observed};
use recount_oracle::case::real::Kind;
use recount_oracle::case::text::{CaseFile, Verdict};
use serde_json::Value;

use super::cases::CaseId;
use super::examine::{Exhibit, examine_recorded};
use super::exhibit::Whole;
use super::guest::GuestData;
use super::observe::observe;
use super::record;
use super::run::RunError;
use super::session::{Session, recipe};
use super::subject::Checker;

/// Images that take up more than this, compressed, are not recorded.
const LARGEST_IMAGE: usize = 6 << 10;

/// Records into `folder`.
pub fn record(session: &Session<'_>, folder: &Path, seed: u64) -> Result<ExitCode, RunError> {
    let mut shown = BTreeSet::new();
    let old = record::load_all(folder)?;
    let before = old.len();
    for (path, mut record) in old {
        traits(&record.case, &mut shown);
        let image = record::load_image(&path)?;
        let directory = session.folder()?;
        let Some(recipe) = recipe(&record.case) else {
            continue;
        };
        session.maker().companions(recipe, directory.path())?;
        let whole = GuestData::default();
        let exhibit = Exhibit {
            directory: directory.path(),
            encrypted: recipe.kind == Kind::Luks,
            damaged: &image,
            acts: &[],
            whole: &whole,
        };
        if note(session, &mut record, &exhibit)? {
            record::store(&path, &record, None)?;
        }
    }
    let added = add_new(session, folder, seed, &mut shown)?;
    println!(
        "{before} cases recorded again, {added} new ones, in {}",
        folder.display()
    );
    Ok(ExitCode::SUCCESS)
}

fn add_new(
    session: &Session<'_>,
    folder: &Path,
    seed: u64,
    shown: &mut BTreeSet<String>,
) -> Result<usize, RunError> {
    let mut added = 0;
    for index in 0..session.wanted() {
        let id = CaseId {
            seed,
            index,
            synthetic: false,
        };
        let case = id.case();
        let mut all = shown.clone();
        traits(&case, &mut all);
        let is_luks = recipe(&case).is_some_and(|recipe| recipe.kind == Kind::Luks);
        // The key material of an encrypted image would fill the repository.
        if is_luks || all.len() == shown.len() {
            continue;
        }
        if add(session, folder, id, case)? {
            *shown = all;
            added += 1;
        }
    }
    Ok(added)
}

/// Records one case of a seed, whatever it shows: one that once told of a mistake.
pub fn record_one(session: &Session<'_>, folder: &Path, id: CaseId) -> Result<ExitCode, RunError> {
    let added = add(session, folder, id, id.case())?;
    let place = folder.display();
    if added {
        println!("recorded in {place}");
    } else {
        println!(
            "not recorded in {place}: its damage changes nothing, its image is large, or without \
             qemu-img's messages a version's verdict could not be compared with"
        );
    }
    Ok(if added {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Records a case with its image, unless the damage did nothing or the image is large.
fn add(session: &Session<'_>, folder: &Path, id: CaseId, case: Case) -> Result<bool, RunError> {
    let directory = session.folder()?;
    let whole = Whole::make(&case, session.maker(), directory.path())?;
    let damaged = whole.damage(&case.damage);
    let packed = record::pack(&damaged.image)?;
    let idle = damaged.acts.iter().any(|(_, applied)| applied.is_nothing());
    if idle || packed.len() > LARGEST_IMAGE {
        return Ok(false);
    }
    let path = folder.join(format!("real-{}-{}.toml", id.seed, id.index));
    let mut record = CaseFile::from(case);
    record.story = Some(format!("Case {id} of `cargo xtask differential`."));
    let exhibit = whole.exhibit(directory.path(), &damaged);
    let noted = note(session, &mut record, &exhibit)?;
    if noted {
        record::store(&path, &record, Some(&packed))?;
    }
    Ok(noted)
}

/// Adds the verdict of every qemu-img, unless one of them cannot be compared with once qemu-img's
/// messages, and what it could say of our repair, are gone.
fn note(
    session: &Session<'_>,
    record: &mut CaseFile,
    exhibit: &Exhibit<'_>,
) -> Result<bool, RunError> {
    let field = session.field();
    for qemu in &field.theirs {
        let sight = observe(qemu, exhibit.bench(), exhibit.damaged)?;
        let recorded = sight.observed.as_recorded();
        let findings = examine_recorded(field, exhibit, &recorded)?;
        if findings.failures().next().is_some() {
            return Ok(false);
        }
        put(record, qemu, sight.observed);
    }
    Ok(true)
}

/// Adds a verdict, in place of an older one of the same version.
fn put(record: &mut CaseFile, theirs: &Checker, observed: Observed) {
    let verdict = Verdict {
        exit: match observed.all.ended {
            Ended::Code(code) => Some(code),
            _ => None,
        },
        timed_out: (observed.all.ended == Ended::TimedOut).then_some(true),
        repaired_clean: Some(observed.settled.is_clean()),
        observed: Some(observed),
        ..Verdict::default()
    };
    record.verdicts.insert(theirs.describe(), verdict);
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
                let number = value
                    .as_u64()
                    .filter(|_| matches!(name.as_str(), "cluster_bits" | "refcount_order"));
                let number = number
                    .map(|number| format!("={number}"))
                    .unwrap_or_default();
                names(&format!("{path}.{name}{number}"), value, shown);
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

    use super::super::make::Maker;
    use super::super::subject::Bench;
    use super::*;

    /// Every so many recorded cases are recorded again.
    const SAMPLE: usize = 6;

    #[needs(qemu)]
    #[test]
    fn a_sample_recorded_again_is_as_recorded() {
        let theirs = Checker::find(Path::new("qemu-img")).unwrap();
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/cases");
        let recorded = record::load_all(&corpus).unwrap();
        let name = theirs.describe();
        let of_version = recorded
            .into_iter()
            .filter_map(|(path, mut file)| Some((path, file.verdicts.remove(&name)?.observed?)));
        let mut compared = 0;
        for (path, expected) in of_version.step_by(SAMPLE) {
            let folder = tempfile::tempdir().unwrap();
            let bench = Bench {
                directory: folder.path(),
                encrypted: false,
            };
            let case = record::load(&path).unwrap().case;
            let recipe = recipe(&case).unwrap();
            let maker = Maker::new("qemu-img".into(), "qemu-io".into());
            maker.companions(recipe, folder.path()).unwrap();
            let image = record::load_image(&path).unwrap();
            let seen = observe(&theirs, bench, &image).unwrap();
            let seen = seen.observed.as_recorded();
            assert_eq!(seen, expected, "{}", path.display());
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
