//! Building the refcount structures anew.

use super::keep::{Surplus, doubtful};
use super::snapshots::NewSnapshotTable;
use super::{Kept, Repair, RepairError, RepairOptions, Step};
use crate::check::{CheckError, Report, Survey};
use crate::format::snapshot::MAX_TABLE_BYTES;
use crate::geometry::Geometry;
use crate::image::{Extent, Image};
use crate::rebuild::{self, Algorithm, Input, Layout, PlanError};
use crate::references::Region;
use crate::storage::Storage;
use crate::table::{OutOfMemory, RefcountTable, Run, RunSet};
use crate::units::{Cluster, ClusterCount, Offset};

/// What a planner needs to know of an image.
pub(super) struct Ground {
    /// The counts that the new structures will have, but for their own clusters.
    pub table: RefcountTable,
    /// See [`Input`].
    pub reserved: RunSet,
    /// How many of them are old structures, which `reuse_old` would give.
    reusable: ClusterCount,
    /// See [`Input`].
    pub doubtful: RunSet,
    /// See [`Input`].
    pub file: ClusterCount,
    /// Clusters that the file will have: more than it has once something is placed behind its end.
    end: ClusterCount,
    /// See [`Input`].
    pub capacity: Option<ClusterCount>,
    /// Regions past the end of the file that are referred to.
    pub dangling: Vec<Region>,
    /// Clusters with more references than their refcount can hold, now that the file is to grow
    /// over some of these regions.
    pub overflowed: RunSet,
    /// Clusters that the disk says are in use, and that nobody refers to or keeps.
    pub released: RunSet,
    /// What of `table` is there only because it is kept, in ascending order.
    pub kept: Vec<Surplus>,
    /// The clusters of the file that came to be inside such a region, since the file is to grow over
    /// it, with what `table` had for them before.
    said: Vec<(Cluster, u64)>,
    /// The same clusters.
    inside: RunSet,
}

impl Ground {
    /// Takes the counts out of a survey; `kept` counts on top of the references.
    pub fn of(
        image: &Image,
        storage: &dyn Storage,
        options: &RepairOptions,
        survey: &mut Survey,
        kept: Option<Vec<Surplus>>,
    ) -> Result<Self, RepairError> {
        let geometry = image.geometry();
        let file = Extent::of(storage, geometry).clusters;
        let mut ground = Self {
            table: RefcountTable::new(*geometry),
            reserved: RunSet::new(),
            reusable: ClusterCount(0),
            doubtful: RunSet::new(),
            file,
            end: file,
            // Whole clusters only: a refblock does not fit into a part of one.
            capacity: storage
                .capacity()
                .map(|bytes| ClusterCount(bytes >> geometry.cluster_bits())),
            dangling: Vec::new(),
            overflowed: RunSet::new(),
            released: RunSet::new(),
            kept: Vec::new(),
            said: Vec::new(),
            inside: RunSet::new(),
        };
        let keeps = kept.is_some();
        if let Some(kept) = kept {
            ground.doubtful = doubtful(survey, geometry, file);
            for (cluster, surplus) in &kept {
                survey
                    .references
                    .table
                    .add(Run::single(*cluster), *surplus)?;
            }
            ground.kept = kept;
        } else {
            ground.released = survey.comparison.unreferenced(&survey.references.table);
        }
        if options.algorithm == Algorithm::Planned {
            survey.old.uncount(&mut survey.references)?;
            for clusters in [&survey.old.clusters, &survey.old.claimed] {
                if !keeps {
                    ground.released.extend(clusters);
                }
                if !options.reuse_old {
                    ground.reserved.extend(clusters);
                }
            }
            ground.reusable = ground.reserved.count();
            // Also where the storage cannot grow: what lies inside the file of a table that reaches
            // past the end would be written over, and be read as that table by the next repair.
            ground.dangling = std::mem::take(&mut survey.references.dangling);
            ground.reserve_dangling(geometry);
        }
        ground.table = survey.references.take_table();
        Ok(ground)
    }

    /// Keeps the new structures out of what is referred to past the end of the file. No table is
    /// longer than [`MAX_TABLE_BYTES`], so what is has to be a damaged length of a LUKS header: of
    /// that only what lies inside the file, or the file would grow by gigabytes to its end.
    fn reserve_dangling(&mut self, geometry: &Geometry) {
        for region in &self.dangling {
            let mut run = region.clusters(geometry);
            if region.length > MAX_TABLE_BYTES {
                let inside = self.file.0.saturating_sub(run.first.0);
                run.count = run.count.min(ClusterCount(inside));
            }
            self.reserved.insert(run);
        }
    }

    /// Takes clusters for something new that is not part of the refcount structures.
    pub fn take(&mut self, place: Run) -> Result<(), OutOfMemory> {
        self.end = self.end.max(ClusterCount(place.end().0));
        self.table.add(place, 1).map(|_| ())
    }

    /// Plans the new structures. Where the file grows over a region that is referred to, that
    /// region is inside the file from then on, and counts; so a second repair finds nothing new.
    /// QEMU's algorithms know nothing of that.
    pub fn plan(&mut self, image: &Image, options: &RepairOptions) -> Result<Layout, RepairError> {
        let geometry = image.geometry();
        loop {
            let mut planned = rebuild::plan(options.algorithm, &self.input());
            if let Err(PlanError::NoSpace { reserved, .. }) = &mut planned {
                *reserved = self.reusable;
            }
            let layout = planned?;
            let end = self.end.max(ClusterCount(layout.end().0));
            let inside = if options.algorithm == Algorithm::Planned && end > self.file {
                self.dangling_before(geometry, end)
            } else {
                Vec::new()
            };
            if inside.is_empty() {
                self.end = end;
                return Ok(layout);
            }
            for region in inside {
                self.refer(region.clusters(geometry), region.times)?;
            }
        }
    }

    /// Takes out the regions that are inside a file of so many clusters.
    fn dangling_before(&mut self, geometry: &Geometry, end: ClusterCount) -> Vec<Region> {
        let grown = Extent {
            bytes: end.0 << geometry.cluster_bits(),
            clusters: end,
        };
        let is_inside = |region: &mut Region| grown.holds(geometry, region.offset, region.length);
        self.dangling.extract_if(.., is_inside).collect()
    }

    /// Counts references that came up. What was kept may have been kept for these: the count is the
    /// larger of references and old refcount, not their sum.
    fn refer(&mut self, run: Run, times: u64) -> Result<(), OutOfMemory> {
        self.note_said(run);
        let first = self
            .kept
            .partition_point(|(cluster, _)| *cluster < run.first);
        let kept = self.kept[first..].iter_mut();
        for (cluster, surplus) in kept.take_while(|(cluster, _)| run.contains(*cluster)) {
            let met = times.min(*surplus);
            let count = self.table.get(*cluster).saturating_sub(met);
            self.table.set(*cluster, count)?;
            *surplus -= met;
        }
        // Afterwards, since no count exceeds the maximum on the way.
        if self.table.add(run, times)? > 0 {
            self.overflowed.insert(run);
        }
        Ok(())
    }

    /// Remembers what the counts of a run are before it is referred to. Behind the end of the file
    /// nothing was allocated.
    fn note_said(&mut self, run: Run) {
        let count = self.file.0.saturating_sub(run.first.0);
        let run = Run::new(run.first, run.count.min(ClusterCount(count)));
        let new = RunSet::from_iter([run]).without(&self.inside);
        let clusters = new.runs().iter().flat_map(Run::iter);
        let said = clusters.map(|cluster| (cluster, self.table.get(cluster)));
        self.said.extend(said);
        self.inside.extend(&new);
    }

    /// What nobody uses any more.
    fn free(&self) -> RunSet {
        let released = self.released.runs().iter().flat_map(Run::iter);
        let free = released.filter(|cluster| self.table.get(*cluster) == 0);
        free.map(Run::single).collect()
    }

    pub const fn input(&self) -> Input<'_> {
        Input {
            references: &self.table,
            reserved: &self.reserved,
            doubtful: &self.doubtful,
            file: self.file,
            capacity: self.capacity,
        }
    }
}

impl Repair<'_> {
    /// Plans, writes and switches to new structures, and to a new snapshot table where that is
    /// due; the counts as they are on disk afterwards.
    pub(super) fn rebuild(
        &mut self,
        image: &Image,
        survey: &mut Survey,
        report: &mut Report,
    ) -> Result<RefcountTable, RepairError> {
        let keep = self.keeps(survey);
        let kept = keep.then(|| self.note_kept(survey));
        let mut own = own_clusters(image, survey);
        let mut ground = Ground::of(image, self.storage, self.options, survey, kept)?;
        let table = &survey.references.snapshots;
        let snapshots = NewSnapshotTable::prepare(image, self.storage, table, &mut ground)?;
        let algorithm = self.options.algorithm;
        let layout = ground.plan(image, self.options)?;
        if algorithm == Algorithm::Planned {
            survey.references.dangling = std::mem::take(&mut ground.dangling);
            survey.references.overflowed.extend(&ground.overflowed);
        }
        self.surplus = std::mem::take(&mut ground.kept);
        self.has_outgrown |= keep && ground.end > ground.file;
        self.remember(std::mem::take(&mut ground.said));
        own.extend(&layout.abandoned);
        self.write_structures(image, &layout, &ground.table, snapshots.as_ref())?;
        if snapshots.is_some() {
            self.outcome.fixed.corruptions += survey.references.snapshots.corruptions;
        }
        self.count_fixed(survey, report, keep);
        if algorithm != Algorithm::Planned || snapshots.is_some() {
            // What QEMU's algorithms counted of the old structures and gave up is leaked now, and
            // so is the old snapshot table.
            let again = Image::open(self.storage).map_err(CheckError::from)?;
            return self.release_left_over(&again, &own, keep, survey);
        }
        for run in layout.allocated().runs() {
            ground.table.add(*run, 1)?;
        }
        self.discard(image, &ground.free(), &survey.references)?;
        Ok(ground.table)
    }

    /// Writes the new structures, and the new snapshot table, and lets the header lead to them.
    fn write_structures(
        &mut self,
        image: &Image,
        layout: &Layout,
        table: &RefcountTable,
        snapshots: Option<&NewSnapshotTable>,
    ) -> Result<(), RepairError> {
        let algorithm = self.options.algorithm;
        if let Some(snapshots) = snapshots {
            snapshots.write(image, self.storage)?;
        }
        rebuild::commit(algorithm, layout, table, self.storage)?;
        self.step(Step::Rebuilt {
            algorithm,
            reftable: Offset(layout.reftable.first.0 << image.geometry().cluster_bits()),
            reftable_clusters: layout.reftable.count,
            refblocks: layout.refblocks.len() as u64,
        });
        if let Some(snapshots) = snapshots {
            snapshots.switch(self.storage)?;
            self.step(Step::RewroteSnapshotTable {
                snapshots: snapshots.count,
            });
        }
        Ok(())
    }

    /// Releases what the rebuild itself left behind, which is in `own`; with `keep` nothing else,
    /// unless what led nowhere is replaced here and all that QEMU's algorithms do is done.
    /// `before` learns what leads past the end of the file now, and what else has more references
    /// than its refcount can hold: an entry may lead to what QEMU's algorithms have placed behind
    /// the end of the file. And it learns how far the counts that are returned speak of the disk.
    fn release_left_over(
        &mut self,
        image: &Image,
        own: &RunSet,
        keep: bool,
        before: &mut Survey,
    ) -> Result<RefcountTable, RepairError> {
        let mut survey = Survey::take(image, self.storage, true, &mut ())?;
        let (old, now) = (&mut before.references, &survey.references);
        old.overflowed.clone_from(&now.overflowed);
        old.dangling.clone_from(&now.dangling);
        before.comparison.compared = survey.comparison.compared;
        if keep && self.options.algorithm != Algorithm::Planned && !self.keeps(&survey) {
            self.surplus.clear();
            self.outcome.kept = Kept::default();
        } else if keep {
            // As if what is kept were referred to.
            self.surplus = self.surplus_now(&survey);
            // Of what was its own nothing is kept, whatever the disk said before.
            self.surplus.retain(|(cluster, _)| !own.contains(*cluster));
            for (cluster, surplus) in &self.surplus {
                let run = Run::single(*cluster);
                survey.references.table.add(run, *surplus)?;
            }
        }
        // What this survey does not count since a repair mends it, and what could not be mended
        // before: the old structures lay over it, or the file ended inside of it.
        self.replace_unaligned_empty(image, &survey)?;
        self.shorten_snapshot_table(&survey)?;
        self.lower_refcounts(image, &survey, false)?;
        self.as_on_disk(&mut survey)
    }

    /// The references, but where the disk says less, that. QEMU's algorithms raise nothing by
    /// references that came up when the file grew.
    fn as_on_disk(&mut self, survey: &mut Survey) -> Result<RefcountTable, RepairError> {
        let differences = survey.comparison.differences(&survey.references.table);
        let low = differences.filter(|(_, refcount, references)| refcount < references);
        let low: Vec<_> = low.collect();
        let missing = |&(cluster, refcount, references)| (cluster, references - refcount);
        self.unraised = low.iter().map(missing).collect();
        let mut table = survey.references.take_table();
        for (cluster, refcount, _) in low {
            table.set(cluster, refcount)?;
        }
        Ok(table)
    }

    /// Counts what was repaired as qemu does: what was found before and is not any more. Only what
    /// the walk itself met can remain; COPIED bits come on top.
    const fn count_fixed(&mut self, survey: &Survey, report: &mut Report, keep: bool) {
        let remaining = survey.references.corruptions;
        self.outcome.fixed.corruptions += report.corruptions.saturating_sub(remaining);
        report.corruptions = remaining;
        report.check_errors = 0;
        if !keep {
            self.outcome.fixed.leaks += report.leaks;
            report.leaks = 0;
        }
    }
}

/// The clusters that are known to hold nothing but what a rebuild replaces: the present structures
/// (not a reftable that reaches past the end of the file: it is said to be longer than it is), and
/// as much of a snapshot table to be written anew as the disk does not say was allocated. A
/// header that names too many snapshots makes the table appear longer than it ever was.
fn own_clusters(image: &Image, survey: &Survey) -> RunSet {
    let mut own = survey.old.clusters.clone();
    let snapshots = &survey.references.snapshots;
    if snapshots.is_rewritten() {
        let table = Region {
            offset: snapshots.offset,
            length: snapshots.length,
            times: 1,
        };
        let table = table.clusters(image.geometry());
        let differences = survey.comparison.differences(&survey.references.table);
        let never =
            differences.filter(|(cluster, refcount, _)| *refcount == 0 && table.contains(*cluster));
        own.extend(&never.map(|(cluster, _, _)| Run::single(cluster)).collect());
    }
    own
}
