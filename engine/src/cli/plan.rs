//! `recount check --plan`: what a repair would write, for people and as JSON.

use std::fmt;

use recount::repair::RepairPlan;
use recount::{Cluster, Geometry, Image, Layout, RefblockIndex};
use serde::Serialize;

use super::args::{CheckArguments, OutputFormat, RepairWhat};
use super::check::{failed, open_read_only, options, print};
use super::failure::Failure;
use super::output::pretty;
use super::terminal::Terminal;

/// Plans a repair and prints the plan; writes nothing.
pub fn plan(arguments: &CheckArguments, terminal: &mut Terminal) -> Result<u8, Failure> {
    let storage = open_read_only(arguments)?;
    let image = Image::open(&storage).map_err(|error| failed(arguments, error.into()))?;
    let options = options(arguments, arguments.repair.unwrap_or(RepairWhat::All));
    let plan = recount::repair::plan(&storage, &options, terminal).map_err(|error| {
        let file = arguments.file.clone();
        Failure::Plan { file, error }
    })?;
    let text = match arguments.output {
        OutputFormat::Human => Human {
            plan: &plan,
            geometry: image.geometry(),
        }
        .to_string(),
        OutputFormat::Json => pretty(&Json::of(arguments, &plan, image.geometry()))? + "\n",
    };
    print(arguments, &text, terminal)?;
    Ok(0)
}

/// The first byte of a cluster that a plan allocates, which is below 2^64.
const fn offset(geometry: &Geometry, cluster: Cluster) -> u64 {
    cluster.0 << geometry.cluster_bits()
}

struct Human<'a> {
    plan: &'a RepairPlan,
    geometry: &'a Geometry,
}

impl fmt::Display for Human<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.plan;
        if *plan == RepairPlan::default() {
            writeln!(f, "No refcount and no table entry would be written.")?;
        } else {
            writeln!(f, "A repair would:")?;
        }
        if plan.replaced_entries > 0 {
            let entries = plan.replaced_entries;
            writeln!(
                f,
                "  - replace {entries} L2 entries without data that lead nowhere"
            )?;
        }
        if let Some(layout) = &plan.rebuild {
            self.fmt_layout(layout, f)?;
        }
        if plan.raised > 0 {
            writeln!(
                f,
                "  - raise the refcounts of {} clusters in place",
                plan.raised
            )?;
        }
        if plan.lowered > 0 {
            writeln!(f, "  - lower the refcounts of {} clusters", plan.lowered)?;
        }
        if plan.kept > 0 {
            writeln!(
                f,
                "  - keep {} clusters that nothing refers to, because a damaged table may have",
                plan.kept
            )?;
        }
        if let Some(snapshots) = plan.snapshot_table {
            writeln!(
                f,
                "  - write the snapshot table anew, with {snapshots} snapshots"
            )?;
        }
        if let Some(snapshots) = plan.snapshots_named {
            writeln!(f, "  - set the number of snapshots to {snapshots}")?;
        }
        writeln!(
            f,
            "COPIED, dirty and corrupt bits are set right at the end, where they are wrong.\n\
             Nothing was written."
        )
    }
}

impl Human<'_> {
    fn fmt_layout(&self, layout: &Layout, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  - rebuild the refcount structures: {} refblocks and a reftable of {} clusters",
            layout.refblocks.len(),
            layout.reftable.count
        )?;
        let at = offset(self.geometry, layout.reftable.first);
        writeln!(f, "      reftable at offset {at:#x}")?;
        // Neighbours that lie side by side make one line.
        let follows = |a: &(RefblockIndex, Cluster), b: &(RefblockIndex, Cluster)| {
            b.0.0 == a.0.0 + 1 && b.1.0 == a.1.0 + 1
        };
        for run in layout.refblocks.chunk_by(follows) {
            let ((first, cluster), last) = (run[0], run[run.len() - 1].0);
            let at = offset(self.geometry, cluster);
            if run.len() == 1 {
                writeln!(f, "      refblock {first} at offset {at:#x}")?;
            } else {
                writeln!(
                    f,
                    "      refblocks {first} to {last} from offset {at:#x} on"
                )?;
            }
        }
        Ok(())
    }
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Json {
    filename: String,
    format: &'static str,
    rebuild: Option<JsonRebuild>,
    refcounts_raised: u64,
    refcounts_lowered: u64,
    clusters_kept: u64,
    entries_replaced: u64,
    snapshot_table_entries: Option<u32>,
    snapshots_named: Option<u32>,
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

impl Json {
    fn of(arguments: &CheckArguments, plan: &RepairPlan, geometry: &Geometry) -> Self {
        Self {
            filename: arguments.file.to_string_lossy().into_owned(),
            format: "qcow2",
            rebuild: plan.rebuild.as_ref().map(|layout| JsonRebuild {
                reftable_offset: offset(geometry, layout.reftable.first),
                reftable_clusters: layout.reftable.count.0,
                refblocks: layout
                    .refblocks
                    .iter()
                    .map(|(refblock, cluster)| JsonRefblock {
                        index: refblock.0,
                        offset: offset(geometry, *cluster),
                    })
                    .collect(),
            }),
            refcounts_raised: plan.raised,
            refcounts_lowered: plan.lowered,
            clusters_kept: plan.kept,
            entries_replaced: plan.replaced_entries,
            snapshot_table_entries: plan.snapshot_table,
            snapshots_named: plan.snapshots_named,
        }
    }
}
