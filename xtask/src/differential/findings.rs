//! What the harness found out about qemu-img: cases `finding-*.toml` of the corpus with the recorded
//! verdicts of each version, and the page docs/qemu-findings.md that is made from them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use recount_oracle::case::Algorithm;
use recount_oracle::case::observed::Ended;
use recount_oracle::case::text::{CaseFile, Verdict};

use super::examine::{Depth, Findings};
use super::record;
use super::session::Session;
use super::subject::{Checker, Engine, Subject as _};
use crate::error::Result;

/// How the file names of such cases begin.
const PREFIX: &str = "finding-";
/// The page.
pub const PAGE: &str = "docs/qemu-findings.md";
/// What is recorded of a property that a repair has.
const HOLDS: &str = "holds";
/// Longest message of a property on the page, in characters.
const LONGEST: usize = 160;
/// What every such page begins with.
const HEAD: &str = "# What qemu-img does to images\n\n\
Found by `cargo xtask differential`, each followed up to its cause, each with a case in \
`corpus/cases/` and what every version did to it when it was recorded. `cargo xtask differential \
--case FILE` shows it with the qemu-img of the machine, `--qemu-img PATH` with another.\n\n\
This page is made from these cases: `cargo xtask differential --findings` writes it, \
`--record` brings the verdicts up to date first.\n";

/// The cases, by file name.
pub fn load(folder: &Path) -> Result<Vec<(PathBuf, CaseFile)>> {
    record::load_some(folder, |path| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with(PREFIX)
    })
}

/// Lets every qemu-img of the session repair the cases, and writes what came of it into them.
pub fn record(session: &Session<'_>, folder: &Path) -> Result<()> {
    for (path, mut file) in load(folder)? {
        let findings = session
            .look_again(&session.field, &file.case, Depth::full(0))?
            .findings;
        let ours = Engine::by(Algorithm::Planned).name();
        let about = file.verdicts.get(&ours);
        let about: Vec<String> =
            about.map_or_else(Vec::new, |ours| ours.properties.keys().cloned().collect());
        let theirs = session.field.theirs.iter().map(Checker::name);
        for name in theirs.chain([ours]) {
            let verdict = verdict(&name, &findings, &about);
            file.verdicts.insert(name, verdict);
        }
        record::store(&path, &file, None)?;
    }
    Ok(())
}

/// How one subject ended, and what the properties that the case is about say of its repair.
fn verdict(name: &str, findings: &Findings, about: &[String]) -> Verdict {
    let says = |what: &String| {
        let question = what.parse().ok();
        let failure = question.and_then(|question| findings.failure(name, question));
        (what.clone(), failure.map_or(HOLDS.to_owned(), first_line))
    };
    let properties = about.iter().map(says).collect();
    let ended = findings.ended.get(name);
    let verdict = ended.map(|[_, all]| record::verdict_of(*all));
    let leaks = ended.map(|[leaks, _]| leaks);
    let leaks = leaks.filter(|leaks| !matches!(leaks, Ended::Code(_)));
    Verdict {
        note: leaks.map(|other| format!("-r leaks: {other}")),
        properties,
        ..verdict.unwrap_or_default()
    }
}

fn first_line(story: &str) -> String {
    let line = story.lines().next().unwrap_or_default();
    let mut short: String = line.chars().take(LONGEST).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    short
}

/// The page.
pub fn page(found: &[(PathBuf, CaseFile)]) -> String {
    let mut page = HEAD.to_owned();
    for (number, (path, file)) in found.iter().enumerate() {
        let story = file.story.as_deref().unwrap_or_default().trim();
        let (title, rest) = story.split_once('\n').unwrap_or((story, ""));
        let title = title.trim_end_matches('.');
        let _ = write!(page, "\n## {}. {title}\n", number + 1);
        let rest = rest.trim();
        if !rest.is_empty() {
            let _ = write!(page, "\n{rest}\n");
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let command = format!("cargo xtask differential --case corpus/cases/{name}");
        let _ = write!(page, "\n```sh\n{command}\n```\n\n");
        verdicts(&mut page, &file.verdicts);
    }
    page
}

/// A table of what came of it, those alike in one line.
fn verdicts(page: &mut String, verdicts: &BTreeMap<String, Verdict>) {
    *page += "| | `-r all` | |\n| --- | --- | --- |\n";
    for (name, verdict) in verdicts {
        let mut ended = match (verdict.exit, verdict.timed_out) {
            (_, Some(true)) => "did not end".to_owned(),
            (Some(code), _) => format!("exit {code}"),
            _ => String::new(),
        };
        if let Some(note) = &verdict.note {
            let _ = write!(ended, "; {note}");
        }
        let properties = verdict.properties.iter();
        let properties =
            properties.map(|(name, says)| format!("{name}: {}", says.replace('|', "\\|")));
        let properties: Vec<String> = properties.collect();
        let _ = writeln!(page, "| {name} | {ended} | {} |", properties.join("<br>"));
    }
}

/// Writes the page.
pub fn write(folder: &Path, file: &Path) -> Result<usize> {
    let found = load(folder)?;
    std::fs::write(file, page(&found))?;
    Ok(found.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_root(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
    }

    #[test]
    fn the_page_is_what_the_cases_say() {
        let found = load(&at_root("corpus/cases")).unwrap();
        assert!(found.len() >= 3, "{} findings", found.len());
        let expected = page(&found);
        let actual = std::fs::read_to_string(at_root(PAGE)).unwrap();
        assert_eq!(
            actual, expected,
            "run `cargo xtask differential --findings`"
        );
    }

    #[test]
    fn every_finding_is_told_and_was_seen_in_some_version() {
        for (path, mut file) in load(&at_root("corpus/cases")).unwrap() {
            let name = path.display();
            assert!(file.story.is_some_and(|story| story.len() > 60), "{name}");
            let ours = file.verdicts.remove("recount").unwrap();
            let holds = |verdict: &Verdict| verdict.properties.values().all(|says| says == HOLDS);
            assert!(
                holds(&ours) && ours.note.is_none(),
                "{name}: recount does it too"
            );
            let shows = |verdict: &Verdict| !holds(verdict) || verdict.note.is_some();
            assert!(file.verdicts.values().any(shows), "{name} shows nothing");
        }
    }
}
