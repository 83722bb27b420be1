//! What a repair broke, the same causes together.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::attempt::Tried;
use crate::case::damage::SparseBytes;
use crate::properties::Verdict;
use crate::requirements::{Requirement, Requirements, cause};

/// What was said of all repairs.
#[derive(Debug, Default)]
pub struct Report {
    images: usize,
    declined: usize,
    /// By what is not met, and why: the message without its numbers.
    findings: BTreeMap<(Requirement, String), Finding>,
    is_over: bool,
}

/// The first of all failures for one cause.
#[derive(Debug)]
struct Finding {
    /// How many there are.
    count: usize,
    image: String,
    message: String,
    before: SparseBytes,
    after: SparseBytes,
    /// Where the two are stored.
    folder: Option<PathBuf>,
}

impl Report {
    pub(super) fn add(&mut self, name: &str, image: &Requirements, tried: Tried) {
        self.images += 1;
        self.is_over |= tried.endless;
        let declined = image.is_declined(&tried.run, &tried.ended);
        self.declined += usize::from(declined);
        for (requirement, verdict) in tried.verdicts {
            let Verdict::Fails(failure) = verdict else {
                continue;
            };
            // It need not repair what it declines; all else is asked, where operations fail as well.
            if declined && requirement == Requirement::Repairs {
                continue;
            }
            let cause = cause(&failure.message);
            let finding = self.findings.entry((requirement, cause));
            let finding = finding.or_insert_with(|| Finding {
                count: 0,
                image: name.to_owned(),
                message: failure.message,
                before: image.before().bytes.clone(),
                after: tried.run.after.clone(),
                folder: None,
            });
            finding.count += 1;
        }
    }

    /// What was not met, once for each cause.
    pub fn failed(&self) -> impl Iterator<Item = Requirement> {
        self.findings.keys().map(|(requirement, _)| *requirement)
    }

    /// Whether a repair is still running.
    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Stores the first image of each kind of failure, before and after the repair, in a folder of this
    /// test in `folder`, in the place of what an earlier run has stored there. What cannot be stored is
    /// left out.
    pub fn store(&mut self, folder: &Path, test: &str) {
        let folder = folder.join(test);
        let _ = std::fs::remove_dir_all(&folder);
        for (number, ((requirement, _), finding)) in (1..).zip(&mut self.findings) {
            let folder = folder.join(format!("{number}-{requirement}"));
            let images = [("before", &finding.before), ("after", &finding.after)];
            let mut images = images.iter();
            let stored = std::fs::create_dir_all(&folder).and_then(|()| {
                images.try_for_each(|(name, image)| {
                    image.store(&folder.join(format!("{name}.qcow2")))
                })
            });
            finding.folder = stored.is_ok().then_some(folder);
        }
    }

    /// # Panics
    ///
    /// With the report, if something is wrong, or if every image was declined: then nothing was asked.
    pub fn check(&self) {
        assert!(
            self.declined < self.images,
            "all {} images were declined, so that nothing was judged",
            self.images
        );
        self.check_failures();
    }

    pub(super) fn check_failures(&self) {
        assert!(self.findings.is_empty(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            images, declined, ..
        } = self;
        writeln!(f, "of {images} images {declined} were declined")?;
        for ((requirement, _), finding) in &self.findings {
            let Finding {
                count,
                image,
                message,
                ..
            } = finding;
            let times = if *count == 1 { "once" } else { "times" };
            let count = if *count == 1 {
                String::new()
            } else {
                format!("{count} ")
            };
            writeln!(
                f,
                "\n{requirement}: {count}{times}, first of {image}\n  {message}"
            )?;
            if let Some(folder) = &finding.folder {
                writeln!(f, "  images: {}", folder.display())?;
            }
        }
        Ok(())
    }
}
