//! What a repair would write, as `recount check --plan` prints it: as JSON by the fields of
//! [`PlanOutput`], and for people.

use std::fmt;
use std::path::Path;

use recount::plan::{PhaseKind, RepairPlan};
use recount::step::of;
use recount::{Cluster, Layout, Offset, RefblockIndex, RepairError, Report, Scope, Step, Storage};
use serde::Serialize;
use serde_json::{Value, json};

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
    before: Option<Value>,
    after: Value,
    corruptions_fixed: u64,
    leaks_fixed: u64,
    kept: Value,
    /// Bytes of the file afterwards.
    length: u64,
    phases: Vec<Phase>,
    rebuild: Option<Value>,
    released_clusters: u64,
    #[serde(skip)]
    pub plan: RepairPlan,
    #[serde(skip)]
    scope: Scope,
}

#[derive(Serialize)]
struct Phase {
    kind: String,
    steps: Vec<String>,
    writes: Vec<Write>,
}

#[derive(Serialize)]
struct Write {
    offset: u64,
    bytes: u64,
}

impl PlanOutput {
    /// `found` is what a check finds; nothing where it gives up for what a repair mends.
    pub fn new(
        file: &Path,
        found: Option<&Report>,
        plan: RepairPlan,
        scope: Scope,
        storage: &dyn Storage,
    ) -> Result<Self, RepairError> {
        let phases = plan.phases.iter().map(|phase| Phase {
            kind: phase.kind.to_string(),
            steps: phase.steps.iter().map(Step::to_string).collect(),
            writes: Vec::new(),
        });
        let mut phases: Vec<_> = phases.collect();
        plan.for_each_write::<RepairError>(storage, &mut |number, offset, bytes| {
            let (offset, bytes) = (offset.0, bytes.len() as u64);
            phases[number].writes.push(Write { offset, bytes });
            Ok(())
        })?;
        let counts = |report: &Report| {
            json!({
                "check-errors": report.check_errors,
                "corruptions": report.corruptions,
                "leaks": report.leaks,
            })
        };
        let examples = plan.kept.examples.iter().map(ToString::to_string);
        // What a plan allocates is below 2^64.
        let cluster_size = plan.counts.geometry().cluster_size();
        let rebuild = |layout: &Layout| {
            let refblocks = layout.refblocks.iter().map(|(refblock, cluster)| {
                json!({"index": refblock.0, "offset": cluster.0 * cluster_size})
            });
            json!({
                "reftable-offset": layout.reftable.first.0 * cluster_size,
                "reftable-clusters": layout.reftable.count.0,
                "refblocks": refblocks.collect::<Vec<_>>(),
            })
        };
        Ok(Self {
            filename: file.to_string_lossy().into_owned(),
            format: "qcow2",
            exit_code: found.map_or(1, exit_code),
            exit_code_after: exit_code(&plan.after),
            before: found.map(counts),
            after: counts(&plan.after),
            corruptions_fixed: plan.fixed.corruptions,
            leaks_fixed: plan.fixed.leaks,
            kept: json!({
                "clusters": plan.kept.clusters,
                "damage": plan.kept.damage,
                "examples": examples.collect::<Vec<_>>(),
            }),
            length: plan.length,
            phases,
            rebuild: plan.layout.as_ref().map(rebuild),
            released_clusters: plan.released.count().0,
            plan,
            scope,
        })
    }
}

impl fmt::Display for PlanOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (plan, after) = (&self.plan, &self.plan.after);
        let then = if plan.is_empty() {
            writeln!(f, "A repair would write nothing.")?;
            "Nothing"
        } else {
            writeln!(f, "A repair would, one after the other:")?;
            "Then nothing"
        };
        for (number, (phase, planned)) in (1..).zip(self.phases.iter().zip(&plan.phases)) {
            writeln!(f, "{number:>3}. {}: {}", phase.kind, phase.extent())?;
            for step in &phase.steps {
                writeln!(f, "       {step}")?;
            }
            if let Some(layout) = &plan.layout
                && planned.kind == PhaseKind::Build
            {
                self.fmt_layout(layout, f)?;
            }
        }
        if self.released_clusters > 0 {
            let space = of(self.released_clusters, "cluster");
            writeln!(
                f,
                "     Then the space of {space} is given back to the file system."
            )?;
        }
        let errors = after.corruptions + after.check_errors;
        if errors > 0 {
            let why = match self.scope {
                Scope::All => "which no repair of refcounts can mend",
                Scope::Leaks => "which `-r leaks` does not mend",
            };
            writeln!(f, "{} would stay, {why}.", of(errors, "error"))?;
        }
        if after.leaks > 0 {
            let clusters = of(after.leaks, "leaked cluster");
            let is_kept = plan.kept.clusters > 0;
            let why = if is_kept { ", kept for the damage" } else { "" };
            writeln!(f, "{clusters} would stay{why}.")?;
        }
        if after.is_clean() {
            writeln!(f, "{then} is wrong with the image.")?;
        }
        writeln!(f, "Nothing was written.")
    }
}

impl PlanOutput {
    /// Where new structures go.
    fn fmt_layout(&self, layout: &Layout, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cluster_size = self.plan.counts.geometry().cluster_size();
        let clusters = of(layout.reftable.count.0, "cluster");
        let at = Offset(layout.reftable.first.0 * cluster_size);
        writeln!(f, "       reftable of {clusters} at offset {at}")?;
        // Neighbours that lie side by side make one line.
        let follows = |(a, at): &(RefblockIndex, Cluster), b: &(RefblockIndex, Cluster)| {
            (a.0 + 1, at.0 + 1) == (b.0.0, b.1.0)
        };
        for run in layout.refblocks.chunk_by(follows) {
            let (RefblockIndex(first), at) = (run[0].0, Offset(run[0].1.0 * cluster_size));
            match first + run.len() as u64 - 1 {
                last if last == first => writeln!(f, "       refblock {first} at offset {at}")?,
                last => writeln!(f, "       refblocks {first} to {last} from offset {at} on")?,
            }
        }
        Ok(())
    }
}

impl Phase {
    /// How much is written, and where.
    fn extent(&self) -> String {
        let bytes = self.writes.iter().map(|write| write.bytes).sum();
        let bytes = of(bytes, "byte");
        let offsets = || self.writes.iter().map(|write| Offset(write.offset));
        match (offsets().min(), offsets().max()) {
            (Some(first), Some(last)) if first < last => {
                let places = of(self.writes.len() as u64, "place");
                format!("{bytes} in {places} between offsets {first} and {last}")
            }
            (Some(only), _) => format!("{bytes} at offset {only}"),
            _ => bytes,
        }
    }
}
