//! What a repair would write, as `recount check --plan` prints it: as JSON by the fields of
//! [`PlanOutput`], and for people.

use std::fmt;
use std::path::Path;

use recount::plan::{PhaseKind, RepairPlan};
use recount::{Layout, RepairError, Report, Step, Storage};
use serde::Serialize;

use super::output::exit_code;

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PlanOutput {
    filename: String,
    format: &'static str,
    /// The exit code of a check now, and after the repair.
    pub exit_code: u8,
    exit_code_after: u8,
    /// What a check finds now; nothing where it gives up.
    before: Option<Counts>,
    after: Counts,
    corruptions_fixed: u64,
    leaks_fixed: u64,
    kept: Kept,
    /// Bytes of the file afterwards.
    length: u64,
    phases: Vec<Phase>,
    rebuild: Option<Rebuild>,
    released_clusters: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Counts {
    check_errors: u64,
    corruptions: u64,
    leaks: u64,
}

#[derive(Serialize)]
struct Kept {
    clusters: u64,
    damage: u64,
    examples: Vec<String>,
}

#[derive(Serialize)]
struct Phase {
    kind: &'static str,
    steps: Vec<String>,
    writes: Vec<Write>,
}

#[derive(Serialize)]
struct Write {
    offset: u64,
    bytes: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Rebuild {
    reftable_offset: u64,
    reftable_clusters: u64,
    refblocks: Vec<Refblock>,
    #[serde(skip)]
    cluster_size: u64,
}

#[derive(Serialize)]
struct Refblock {
    index: u64,
    offset: u64,
}

impl PlanOutput {
    /// `found` is what a check finds; nothing where it gives up for what a repair mends.
    pub fn new(
        file: &Path,
        found: Option<&Report>,
        plan: &RepairPlan,
        storage: &dyn Storage,
    ) -> Result<Self, RepairError> {
        let phases = plan.phases.iter().map(|phase| Phase {
            kind: name(phase.kind),
            steps: phase.steps.iter().map(Step::to_string).collect(),
            writes: Vec::new(),
        });
        let mut phases: Vec<_> = phases.collect();
        plan.for_each_write::<RepairError>(storage, &mut |number, offset, bytes| {
            phases[number].writes.push(Write {
                offset: offset.0,
                bytes: bytes.len() as u64,
            });
            Ok(())
        })?;
        let examples = plan.kept.examples.iter();
        let cluster_size = plan.counts.geometry().cluster_size();
        Ok(Self {
            filename: file.to_string_lossy().into_owned(),
            format: "qcow2",
            exit_code: found.map_or(1, exit_code),
            exit_code_after: exit_code(&plan.after),
            before: found.map(Counts::of),
            after: Counts::of(&plan.after),
            corruptions_fixed: plan.fixed.corruptions,
            leaks_fixed: plan.fixed.leaks,
            kept: Kept {
                clusters: plan.kept.clusters,
                damage: plan.kept.damage,
                examples: examples.map(ToString::to_string).collect(),
            },
            length: plan.length,
            phases,
            rebuild: plan
                .layout()
                .map(|layout| Rebuild::of(layout, cluster_size)),
            released_clusters: plan.released.count().0,
        })
    }
}

impl Counts {
    const fn of(report: &Report) -> Self {
        Self {
            check_errors: report.check_errors,
            corruptions: report.corruptions,
            leaks: report.leaks,
        }
    }
}

impl Rebuild {
    /// What a plan allocates is below 2^64.
    fn of(layout: &Layout, cluster_size: u64) -> Self {
        let refblocks = layout.refblocks.iter();
        let refblocks = refblocks.map(|(refblock, cluster)| Refblock {
            index: refblock.0,
            offset: cluster.0 * cluster_size,
        });
        Self {
            reftable_offset: layout.reftable.first.0 * cluster_size,
            reftable_clusters: layout.reftable.count.0,
            refblocks: refblocks.collect(),
            cluster_size,
        }
    }
}

/// What a phase does, as a user reads it.
const fn name(kind: PhaseKind) -> &'static str {
    match kind {
        PhaseKind::Features => "clear unknown autoclear feature bits",
        PhaseKind::Clear => "clear COPIED bits, replace entries",
        PhaseKind::Build => "write new structures into free clusters",
        PhaseKind::Reftable => "write the reftable that leads to them",
        PhaseKind::Switch => "let the header lead to them",
        PhaseKind::Raise => "raise refcounts",
        PhaseKind::Lower => "lower refcounts",
        PhaseKind::Set => "set COPIED bits",
        PhaseKind::Flags => "clear the dirty and corrupt bits",
    }
}

impl fmt::Display for PlanOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.phases.is_empty() {
            writeln!(f, "A repair would write nothing.")?;
        } else {
            writeln!(f, "A repair would, one after the other:")?;
        }
        for (number, phase) in (1..).zip(&self.phases) {
            writeln!(f, "{number:>3}. {}: {}", phase.kind, phase.extent())?;
            for step in &phase.steps {
                writeln!(f, "       {step}")?;
            }
            if let Some(rebuild) = &self.rebuild
                && phase.kind == name(PhaseKind::Build)
            {
                rebuild.fmt(f)?;
            }
        }
        if self.released_clusters > 0 {
            let clusters = plural(self.released_clusters, "cluster", "clusters");
            writeln!(
                f,
                "     Then the space of {clusters} is given back to the file system."
            )?;
        }
        let errors = self.after.corruptions + self.after.check_errors;
        if errors > 0 {
            let errors = plural(errors, "error", "errors");
            writeln!(
                f,
                "{errors} would stay, which no repair of refcounts can mend."
            )?;
        }
        if self.after.leaks > 0 {
            let why = match self.kept.clusters {
                0 => "",
                _ => ", kept for the damage",
            };
            let clusters = plural(self.after.leaks, "leaked cluster", "leaked clusters");
            writeln!(f, "{clusters} would stay{why}.")?;
        }
        if errors + self.after.leaks == 0 {
            writeln!(f, "Then nothing is wrong with the image.")?;
        }
        writeln!(f, "Nothing was written.")
    }
}

impl Phase {
    /// How much is written, and where.
    fn extent(&self) -> String {
        let bytes = self.writes.iter().map(|write| write.bytes).sum();
        let bytes = plural(bytes, "byte", "bytes");
        let first = self.writes.iter().map(|write| write.offset).min();
        let last = self.writes.iter().map(|write| write.offset).max();
        match (first, last) {
            (Some(first), Some(last)) if first == last => format!("{bytes} at offset {first:#x}"),
            (Some(first), Some(last)) => format!(
                "{bytes} in {} between offsets {first:#x} and {last:#x}",
                plural(self.writes.len() as u64, "place", "places")
            ),
            _ => bytes,
        }
    }
}

impl Rebuild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.reftable_offset;
        let clusters = plural(self.reftable_clusters, "cluster", "clusters");
        writeln!(f, "       reftable of {clusters} at offset {at:#x}")?;
        // Neighbours that lie side by side make one line.
        let follows = |a: &Refblock, b: &Refblock| {
            b.index == a.index + 1 && b.offset == a.offset + self.cluster_size
        };
        for run in self.refblocks.chunk_by(follows) {
            let (first, at) = (run[0].index, run[0].offset);
            match run {
                [_] => writeln!(f, "       refblock {first} at offset {at:#x}")?,
                [.., last] => writeln!(
                    f,
                    "       refblocks {first} to {} from offset {at:#x} on",
                    last.index
                )?,
                [] => {}
            }
        }
        Ok(())
    }
}

fn plural(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
