//! What a run says while it goes on, and what it keeps.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use indicatif::{ProgressDrawTarget, ProgressState, ProgressStyle};
use recount_oracle::case::Case;
use recount_subjects::findings::{Finding, Origin};

use super::super::cases::CaseName;
use super::super::exhibit::Whole;
use super::super::in_use;
use super::super::question::Question;
use super::super::shrink::as_file;
use super::super::subject::{Command, Subject};
use super::super::tally::Failed;
use super::{Cases, Seen, Session};
use crate::columns;
use crate::error::Result;

/// How often what was found so far is saved.
const SAVE_EVERY: Duration = Duration::from_secs(20);

impl Session<'_> {
    /// Who takes part and the cases, in a line.
    pub fn describe(&self, cases: &Cases) -> String {
        let names: Vec<_> = self.field.all().map(Subject::name).collect();
        let names = names.join(", ");
        match cases {
            Cases::Seed => format!("{names}; seed {}", self.seed),
            Cases::Named(cases) if cases.iter().any(CaseName::is_recorded) => {
                let count = cases.len();
                format!("{names}, and the recorded verdicts of qemu-img on {count} cases")
            }
            Cases::Named(_) => names,
        }
    }

    /// Where smaller cases of failures go.
    pub(super) fn found_folder(&self) -> PathBuf {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
        let beside = self.args.report.clone().map(|report| report.join("cases"));
        beside.unwrap_or_else(|| target.join("differential"))
    }

    /// Writes a folder about a failure of a user's program; its name, or `None` without a report.
    pub(super) fn tell(
        &self,
        failed: &Failed,
        name: &CaseName,
        case: &Case,
        seen: &Seen,
    ) -> Result<Option<String>> {
        let (subject, question) = (&failed.subject, failed.question);
        let mut commands = self.field.commands.iter();
        let command = commands.find(|one| one.name() == *subject).cloned();
        let command = match question {
            Question::ChecksRightly => command.map(Command::checker),
            _ => command,
        };
        let repaired = seen.findings.work_of(subject, question);
        let story = seen.findings.failure(subject, question);
        let known = (&self.args.report, command, repaired, story);
        let (Some(report), Some(command), Some(repaired), Some(story)) = known else {
            return Ok(None);
        };
        // qemu-img decides some bytes anew each time; and qemu-io needs what is beside the image.
        let temporary = self.folder()?;
        let again = Whole::make(case, &self.maker, temporary.path())?;
        let qemu_io = &self.field.qemu_io;
        let consequence = in_use::consequence(again.bench, qemu_io, &repaired.image)?;
        let (property, case_name) = (question.to_string(), name.to_string());
        let file = case_name.rsplit('/').next().unwrap_or_default();
        let finding = Finding {
            subject,
            property: &property,
            case: file,
            command: &command,
            origin: Origin {
                image: &case.image,
                whole: &seen.whole,
                again: Some(&again.image),
                damaged: &seen.damaged,
            },
            story,
            repaired,
            consequence: consequence.as_ref(),
        };
        let folder = as_file(&format!("{subject}-{property}-{file}"));
        finding.write(report, &folder)?;
        Ok(Some(folder))
    }

    pub(super) fn save_sometimes(&self) -> Result<()> {
        let Some(folder) = &self.args.report else {
            return Ok(());
        };
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        if saved.elapsed() < SAVE_EVERY {
            return Ok(());
        }
        *saved = Instant::now();
        let report = self.tally().report().clone();
        report.save_json(folder)
    }

    /// How to run a case again, of the programs only the one concerned.
    pub(super) fn rerun(&self, case: &CaseName, concerned: &str) -> String {
        let mut command = format!("cargo xtask differential {}", case.option());
        let named = |path: &&PathBuf| *path != Path::new("qemu-img");
        for path in self.args.qemu_img.iter().filter(named) {
            command.extend([" --qemu-img ", &path.to_string_lossy()]);
        }
        let commands = self.field.commands.iter();
        let concerned = commands.filter(|one| one.name() == concerned);
        for (option, line) in concerned.flat_map(Command::options) {
            let quoted = shlex::try_quote(&line).unwrap_or_default();
            command.extend([" ", option, " ", &quoted]);
        }
        if let Some(recount) = &self.args.recount {
            command.extend([" --recount ", &recount.to_string_lossy()]);
        }
        command
    }

    /// Draws on standard error, and only when that is a terminal.
    pub(super) fn show_progress(&self, cases: &Cases) {
        let length = match cases {
            Cases::Seed if self.args.time.is_some() => None,
            Cases::Seed => Some(self.args.cases / self.args.shard.of),
            Cases::Named(names) => Some(names.len() as u64),
        };
        let begin = match length {
            None => "{spinner} {elapsed} {pos}",
            Some(_) => "{bar:40} {pos}/{len}",
        };
        let template = format!("{begin} cases, {{rate}}, {{msg}}");
        let style = ProgressStyle::with_template(&template);
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        let rate = |state: &ProgressState, line: &mut dyn Write| {
            let _ = write!(line, "{} a second", columns::two_digits(state.per_sec()));
        };
        self.bar.set_style(style.with_key("rate", rate));
        if let Some(length) = length {
            self.bar.set_length(length);
        }
        self.bar.set_draw_target(ProgressDrawTarget::stderr());
        self.bar.enable_steady_tick(Duration::from_millis(200));
    }
}
