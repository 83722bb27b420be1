//! What a repair would write, as `recount check --plan` prints it, as JSON and for people.

use std::fmt;
use std::path::Path;

use recount::plan::{PhaseKind, RepairPlan};
use recount::step::of;
use recount::{Cluster, Layout, Offset, RefblockIndex, RepairError, Report, Scope, Step, Storage};
use serde_json::{Value, json};

use crate::output::exit_code;

pub struct PlanOutput {
    pub json: Value,
    /// That of a check now.
    pub exit_code: u8,
    pub plan: RepairPlan,
    scope: Scope,
    /// Where each phase writes, and how many bytes.
    writes: Vec<Vec<(Offset, u64)>>,
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
        let mut writes: Vec<Vec<(Offset, u64)>> = plan.phases.iter().map(|_| Vec::new()).collect();
        plan.for_each_write::<RepairError>(storage, &mut |number, offset, bytes| {
            writes[number].push((offset, bytes.len() as u64));
            Ok(())
        })?;
        let write = |(offset, bytes): &(Offset, u64)| json!({"offset": offset.0, "bytes": bytes});
        let phases = plan.phases.iter().zip(&writes).map(|(phase, writes)| {
            let steps = phase.steps.iter().map(Step::to_string);
            json!({
                "kind": phase.kind.to_string(),
                "steps": steps.collect::<Vec<_>>(),
                "writes": writes.iter().map(write).collect::<Vec<_>>(),
            })
        });
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
        let exit_code_now = found.map_or(1, exit_code);
        let json = json!({
            "filename": file.to_string_lossy(),
            "format": "qcow2",
            "exit-code": exit_code_now,
            "exit-code-after": exit_code(&plan.after),
            // Nothing where a check gives up.
            "before": found.map(counts),
            "after": counts(&plan.after),
            "corruptions-fixed": plan.fixed.corruptions,
            "leaks-fixed": plan.fixed.leaks,
            "kept": {
                "clusters": plan.kept.clusters,
                "damage": plan.kept.damage,
                "examples": examples.collect::<Vec<_>>(),
            },
            // Bytes of the file afterwards.
            "length": plan.length,
            "phases": phases.collect::<Vec<_>>(),
            "rebuild": plan.layout.as_ref().map(rebuild),
            "released-clusters": plan.released.count().0,
        });
        Ok(Self {
            json,
            exit_code: exit_code_now,
            plan,
            scope,
            writes,
        })
    }

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
        for (number, (phase, writes)) in (1..).zip(plan.phases.iter().zip(&self.writes)) {
            writeln!(f, "{number:>3}. {}: {}", phase.kind, extent(writes))?;
            for step in &phase.steps {
                writeln!(f, "       {step}")?;
            }
            if let Some(layout) = &plan.layout
                && phase.kind == PhaseKind::Build
            {
                self.fmt_layout(layout, f)?;
            }
        }
        if !plan.released.is_empty() {
            let space = of(plan.released.count().0, "cluster");
            let line = format!("Then the space of {space} is given back to the file system.");
            writeln!(f, "     {line}")?;
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

/// How much is written, and where.
fn extent(writes: &[(Offset, u64)]) -> String {
    let bytes = of(writes.iter().map(|(_, bytes)| bytes).sum(), "byte");
    let offsets = || writes.iter().map(|(offset, _)| *offset);
    match (offsets().min(), offsets().max()) {
        (Some(first), Some(last)) if first < last => {
            let places = of(writes.len() as u64, "place");
            format!("{bytes} in {places} between offsets {first} and {last}")
        }
        (Some(only), _) => format!("{bytes} at offset {only}"),
        _ => bytes,
    }
}
