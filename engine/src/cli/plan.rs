//! `recount check --plan`: what a repair would write, for people and as JSON.

use std::fmt;

use recount::plan::{PhaseKind, RepairPlan};
use recount::{Cluster, Geometry, Layout, RefblockIndex, RepairError, Report, Step, Survey};
use serde::Serialize;

use super::args::{CheckArguments, OutputFormat, RepairWhat};
use super::check::{failed, lost_where, open_read_only, options, print, say_what_is_kept};
use super::failure::Failure;
use super::output::{Counters, pretty};
use super::terminal::Terminal;

/// Plans a repair and prints the plan; writes nothing. The exit code is that of a check.
pub fn plan(arguments: &CheckArguments, terminal: &mut Terminal) -> Result<u8, Failure> {
    let storage = open_read_only(arguments)?;
    let survey = Survey::take(&storage, terminal).map_err(|error| failed(arguments, error))?;
    let found = survey.report(&storage, terminal);
    let options = options(arguments, arguments.repair.unwrap_or(RepairWhat::All));
    let planned = (|| {
        let mut plan = RepairPlan::of(&storage, survey, &options, &mut ())?;
        if options.verify {
            plan.preflight(&storage, &options)?;
        }
        let phases = Phases::of(&plan, &storage)?;
        Ok((plan, phases))
    })();
    let (plan, phases) = planned.map_err(|error| {
        let file = arguments.file.clone();
        Failure::Plan { file, error }
    })?;
    // Where a check gives up for what a repair mends, its exit code is 1.
    let found = found.ok();
    let text = match arguments.output {
        OutputFormat::Human => Human {
            plan: &plan,
            phases: &phases,
        }
        .to_string(),
        OutputFormat::Json => pretty(&Json::of(arguments, found.as_ref(), &plan, phases))? + "\n",
    };
    let lost = lost_where(plan.kept.damage > 0, &storage);
    say_what_is_kept(&plan.kept, &lost, terminal);
    print(arguments, &text, terminal)?;
    Ok(found.as_ref().map_or(1, exit_code))
}

/// The exit code of a check with this report.
fn exit_code(report: &Report) -> u8 {
    let counters = Counters {
        report: report.clone(),
        ..Counters::default()
    };
    counters.exit_code()
}

/// The writes of a plan, phase by phase.
struct Phases(Vec<JsonPhase>);

impl Phases {
    fn of(plan: &RepairPlan, storage: &dyn recount::Storage) -> Result<Self, RepairError> {
        let described = plan.phases.iter().map(|phase| JsonPhase {
            kind: name(phase.kind),
            steps: phase.steps.iter().map(Step::to_string).collect(),
            writes: Vec::new(),
        });
        let mut phases: Vec<_> = described.collect();
        plan.for_each_write::<RepairError>(storage, &mut |number, offset, bytes| {
            phases[number].writes.push(JsonWrite {
                offset: offset.0,
                bytes: bytes.len() as u64,
            });
            Ok(())
        })?;
        Ok(Self(phases))
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

struct Human<'a> {
    plan: &'a RepairPlan,
    phases: &'a Phases,
}

impl fmt::Display for Human<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.plan;
        if plan.is_empty() {
            writeln!(f, "A repair would write nothing.")?;
        } else {
            writeln!(f, "A repair would, one after the other:")?;
        }
        for (number, phase) in (1..).zip(&self.phases.0) {
            writeln!(f, "{number:>3}. {}: {}", phase.kind, phase.extent())?;
            for step in &phase.steps {
                writeln!(f, "       {step}")?;
            }
            if let Some(layout) = plan
                .layout()
                .filter(|_| phase.kind == name(PhaseKind::Build))
            {
                fmt_layout(layout, plan.counts.geometry(), f)?;
            }
        }
        let released = plan.released.count().0;
        if released > 0 {
            let clusters = plural(released, "cluster", "clusters");
            writeln!(
                f,
                "     Then the space of {clusters} is given back to the file system."
            )?;
        }
        self.fmt_after(f)?;
        writeln!(f, "Nothing was written.")
    }
}

impl Human<'_> {
    fn fmt_after(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = &self.plan.after;
        let errors = after.corruptions + after.check_errors;
        if errors > 0 {
            let errors = plural(errors, "error", "errors");
            writeln!(
                f,
                "{errors} would stay, which no repair of refcounts can mend."
            )?;
        }
        if after.leaks > 0 {
            let kept = self.plan.kept.clusters;
            let why = if kept > 0 {
                ", kept for the damage"
            } else {
                ""
            };
            let clusters = plural(after.leaks, "leaked cluster", "leaked clusters");
            writeln!(f, "{clusters} would stay{why}.")?;
        }
        if errors + after.leaks == 0 {
            writeln!(f, "Then nothing is wrong with the image.")?;
        }
        Ok(())
    }
}

fn plural(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn fmt_layout(layout: &Layout, geometry: &Geometry, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let at = offset(geometry, layout.reftable.first);
    let clusters = plural(layout.reftable.count.0, "cluster", "clusters");
    writeln!(f, "       reftable of {clusters} at offset {at:#x}")?;
    // Neighbours that lie side by side make one line.
    let follows = |a: &(RefblockIndex, Cluster), b: &(RefblockIndex, Cluster)| {
        b.0.0 == a.0.0 + 1 && b.1.0 == a.1.0 + 1
    };
    for run in layout.refblocks.chunk_by(follows) {
        let ((first, cluster), last) = (run[0], run[run.len() - 1].0);
        let at = offset(geometry, cluster);
        if run.len() == 1 {
            writeln!(f, "       refblock {first} at offset {at:#x}")?;
        } else {
            writeln!(
                f,
                "       refblocks {first} to {last} from offset {at:#x} on"
            )?;
        }
    }
    Ok(())
}

/// The first byte of a cluster that a plan allocates, which is below 2^64.
const fn offset(geometry: &Geometry, cluster: Cluster) -> u64 {
    cluster.0 << geometry.cluster_bits()
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Json {
    filename: String,
    format: &'static str,
    /// The exit code of a check now, and after the repair.
    exit_code: u8,
    exit_code_after: u8,
    /// What a check finds now; nothing where it gives up.
    before: Option<JsonReport>,
    after: JsonReport,
    corruptions_fixed: u64,
    leaks_fixed: u64,
    kept: JsonKept,
    /// Bytes of the file afterwards.
    length: u64,
    phases: Vec<JsonPhase>,
    rebuild: Option<JsonRebuild>,
    released_clusters: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct JsonReport {
    check_errors: u64,
    corruptions: u64,
    leaks: u64,
}

impl JsonReport {
    const fn of(report: &Report) -> Self {
        Self {
            check_errors: report.check_errors,
            corruptions: report.corruptions,
            leaks: report.leaks,
        }
    }
}

#[derive(Serialize)]
struct JsonKept {
    clusters: u64,
    damage: u64,
    examples: Vec<String>,
}

#[derive(Serialize)]
struct JsonPhase {
    kind: &'static str,
    steps: Vec<String>,
    writes: Vec<JsonWrite>,
}

#[derive(Serialize)]
struct JsonWrite {
    offset: u64,
    bytes: u64,
}

impl JsonPhase {
    /// How much is written, and where.
    fn extent(&self) -> String {
        let bytes: u64 = self.writes.iter().map(|write| write.bytes).sum();
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

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct JsonRebuild {
    reftable_offset: u64,
    reftable_clusters: u64,
    refblocks: Vec<JsonRefblock>,
}

#[derive(Serialize)]
struct JsonRefblock {
    index: u64,
    offset: u64,
}

impl JsonRebuild {
    fn of(layout: &Layout, geometry: &Geometry) -> Self {
        let refblocks = layout.refblocks.iter();
        let refblocks = refblocks.map(|(refblock, cluster)| JsonRefblock {
            index: refblock.0,
            offset: offset(geometry, *cluster),
        });
        Self {
            reftable_offset: offset(geometry, layout.reftable.first),
            reftable_clusters: layout.reftable.count.0,
            refblocks: refblocks.collect(),
        }
    }
}

impl Json {
    fn of(
        arguments: &CheckArguments,
        found: Option<&Report>,
        plan: &RepairPlan,
        phases: Phases,
    ) -> Self {
        let geometry = plan.counts.geometry();
        let examples = plan.kept.examples.iter();
        Self {
            filename: arguments.file.to_string_lossy().into_owned(),
            format: "qcow2",
            exit_code: found.map_or(1, exit_code),
            exit_code_after: exit_code(&plan.after),
            before: found.map(JsonReport::of),
            after: JsonReport::of(&plan.after),
            corruptions_fixed: plan.fixed.corruptions,
            leaks_fixed: plan.fixed.leaks,
            kept: JsonKept {
                clusters: plan.kept.clusters,
                damage: plan.kept.damage,
                examples: examples.map(ToString::to_string).collect(),
            },
            length: plan.length,
            phases: phases.0,
            rebuild: plan
                .layout()
                .map(|layout| JsonRebuild::of(layout, geometry)),
            released_clusters: plan.released.count().0,
        }
    }
}
