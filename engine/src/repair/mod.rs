//! Repairing an image: everything that a check can find and that has one right answer.
//!
//! The order, each step durable before the next begins: entries without data that point astray are
//! replaced; the refcount structures are built anew, or refcounts are raised; refcounts are
//! lowered; COPIED bits; the snapshot table; and when a second check finds no corruption, the dirty
//! and corrupt bits are cleared. A power cut between any two leaves an image no worse than before.
//!
//! # Keeping
//!
//! While a table that refers to clusters cannot be followed, clusters without a reference may be
//! referred to from behind it. Then nothing that is allocated is released, discarded or written
//! over: mending the table later brings everything back. qemu-img frees them.

mod in_place;
mod keep;
mod outcome;
mod plan;
mod rebuild;
mod snapshots;
mod verify;

use keep::{Surplus, keeps};
pub use outcome::{Fixed, Kept, Outcome, RepairError, RepairFailure, Step};
pub use plan::{RepairPlan, plan};

use crate::check::{AfterRepair, CheckError, Report, Survey, check, check_copied, repair_copied};
use crate::format::entry::{L2Entry, L2Format};
use crate::format::header::{CORRUPT, DIRTY, INCOMPATIBLE_FEATURES_POSITION};
use crate::image::{Extent, Image};
use crate::observer::Observer;
use crate::rebuild::Algorithm;
use crate::references::{References, Reftable, Region, table_uses};
use crate::storage::Storage;
use crate::table::RefcountTable;
use crate::units::{Cluster, ClusterCount, Offset};
use snapshots::set_count;

/// What a repair may change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Refcounts above the references; COPIED bits if nothing else is wrong.
    Leaks,
    /// Everything.
    #[default]
    All,
}

/// How to repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepairOptions {
    /// What may be changed.
    pub scope: Scope,
    /// How refcount structures are placed when they have to be built anew.
    pub algorithm: Algorithm,
    /// Lets the new structures overwrite the old ones, for a device without room for both. A crash
    /// before the end then leaves no valid refcounts, only what another repair can build anew.
    pub reuse_old: bool,
    /// Releases what is allocated and not referred to even while a table cannot be followed.
    pub release_unreachable: bool,
    /// Checks the result by reading it back.
    pub verify: bool,
}

impl Default for RepairOptions {
    fn default() -> Self {
        Self {
            scope: Scope::default(),
            algorithm: Algorithm::default(),
            reuse_old: false,
            release_unreachable: false,
            verify: true,
        }
    }
}

/// Repairs an image. Findings and steps go to the observer as they come; a failure carries the
/// steps that were done before it.
pub fn repair(
    storage: &mut dyn Storage,
    options: &RepairOptions,
    observer: &mut dyn Observer,
) -> Result<Outcome, RepairFailure> {
    let mut repair = Repair {
        storage,
        options,
        observer,
        outcome: Outcome::default(),
        surplus: Vec::new(),
        unraised: Vec::new(),
        l1_was_cut: false,
        said: Vec::new(),
        is_second: false,
        has_outgrown: false,
        file: ClusterCount(0),
    };
    match repair.run() {
        Ok(()) => Ok(repair.outcome),
        Err(error) => Err(RepairFailure {
            error,
            done: repair.outcome.steps,
        }),
    }
}

/// Whether `-r leaks` can do nothing: a refblock cannot be followed, or one that it would write is
/// something else as well.
fn leaks_need_rebuild(survey: &Survey, keep: bool) -> bool {
    survey.needs_rebuild() || !keep && survey.is_written_over_something()
}

/// What the header says of the active L1 table.
fn active_l1(image: &Image) -> Region {
    Region {
        offset: image.header.l1_table_offset,
        length: u64::from(image.header.l1_size) * 8,
        times: 1,
    }
}

/// What a repair came to.
struct Done {
    report: Report,
    /// The references, with the refcount structures as they should be now; only when there was
    /// nothing to repair but refcounts, and all else is therefore as it was walked.
    references: Option<References>,
    /// Whether the refcount structures or the snapshot table have moved away from an L2 table that
    /// was left alone because of them, so that there is more to repair.
    uncovered: bool,
}

struct Repair<'a> {
    storage: &'a mut dyn Storage,
    options: &'a RepairOptions,
    observer: &'a mut dyn Observer,
    outcome: Outcome,
    /// What is kept, in ascending order.
    surplus: Vec<Surplus>,
    /// By how much references are above refcounts, in ascending order, after QEMU's algorithms.
    unraised: Vec<(Cluster, u64)>,
    /// Whether the active L1 table reached past the end of the file, in whatever pass: what is there
    /// of it is read as that table once the file has grown, and may be something else.
    l1_was_cut: bool,
    /// What the disk said before this repair of clusters whose refcounts it has raised, in ascending
    /// order, as far as that has to be known later.
    said: Vec<(Cluster, u64)>,
    /// Whether this pass follows another.
    is_second: bool,
    /// Whether something is kept and the file has grown: what led past its end may lead to zeros
    /// now, and still has not brought back what lay there.
    has_outgrown: bool,
    /// Clusters of the file before the repair.
    file: ClusterCount,
}

impl Repair<'_> {
    fn run(&mut self) -> Result<(), RepairError> {
        let image = Image::open(self.storage).map_err(CheckError::from)?;
        self.file = Extent::of(self.storage, image.geometry()).clusters;
        let done = match self.options.scope {
            Scope::Leaks => self.release_leaks(&image)?,
            Scope::All => match self.repair_all(&image)? {
                done if done.uncovered => {
                    // What is kept is found out anew.
                    self.is_second = true;
                    self.surplus.clear();
                    self.unraised.clear();
                    if !self.has_outgrown {
                        self.outcome.kept = Kept::default();
                    }
                    let image = Image::open(self.storage).map_err(CheckError::from)?;
                    self.repair_all(&image)?
                }
                done => done,
            },
        };
        let report = if self.options.verify && !self.outcome.steps.is_empty() {
            self.verify(done)?
        } else if done.report.dead_ends.count > 0 {
            // A repair does not follow what a check does: the header taken for a table.
            let checked = check(self.storage, &mut ());
            self.checked(checked, done.report)?
        } else {
            done.report
        };
        if report.check_errors == 0 && report.corruptions == 0 {
            self.clear_flags(&image)?;
        }
        self.outcome.report = report;
        Ok(())
    }

    /// `-r leaks`.
    fn release_leaks(&mut self, image: &Image) -> Result<Done, RepairError> {
        let survey = Survey::take(image, self.storage, false, self.observer)?;
        let keep = self.keeps(&survey);
        if leaks_need_rebuild(&survey, keep) {
            return Err(RepairError::NeedsRebuild);
        }
        let mut report = Report::of(image, &survey);
        if keep {
            self.note_kept(&survey);
        } else {
            let released = self.lower_refcounts(image, &survey, false)?;
            report.leaks -= released;
            self.outcome.fixed.leaks += released;
        }
        let sound = survey.references.are_sound();
        // With nothing else wrong the refcounts on disk are the references now.
        let copied = if !report.is_clean() {
            check_copied(image, self.storage, &survey, self.observer)?.wrong
        } else if sound {
            0
        } else {
            self.set_copied(image, &survey, &survey.references.table)?
        };
        // The snapshot table's do not keep the COPIED bits from being set (observed).
        report.corruptions += copied + survey.references.snapshots.corruptions;
        Ok(Done {
            references: (sound && report.is_clean()).then_some(survey.references),
            report,
            uncovered: false,
        })
    }

    /// `-r all`.
    fn repair_all(&mut self, image: &Image) -> Result<Done, RepairError> {
        let mut survey = Survey::take(image, self.storage, true, self.observer)?;
        let mut report = Report::of(image, &survey);
        let sound = survey.references.are_sound();
        let l1 = active_l1(image);
        let is_l1 = |region: &Region| (region.offset, region.length) == (l1.offset, l1.length);
        self.l1_was_cut |= survey.references.dangling.iter().any(is_l1);
        self.replace_unaligned_empty(image, &survey)?;
        self.shorten_snapshot_table(&survey)?;
        let rebuilt = survey.is_rebuilt_by_repair();
        self.note_said(&survey);
        let table = if rebuilt {
            self.rebuild(image, &mut survey, &mut report)?
        } else {
            self.repair_in_place(image, &mut survey, &mut report)?
        };
        if !survey.references.snapshots.is_mended() {
            report.corruptions += survey.references.snapshots.corruptions;
        }
        let still_wrong = if sound {
            0
        } else {
            self.set_copied(image, &survey, &table)?
        };
        report.corruptions += still_wrong;
        survey.references.table = table;
        let references = &survey.references;
        // QEMU's algorithms are as qemu is: the next repair does that.
        let planned = self.options.algorithm == Algorithm::Planned;
        Ok(Done {
            report,
            uncovered: planned
                && (rebuilt && references.spared_in_structures
                    || references.snapshots.is_rewritten() && still_wrong > 0),
            // What is kept is in the counts as if it were referred to; what is not raised is missing.
            references: (sound && self.surplus.is_empty() && self.unraised.is_empty())
                .then_some(survey.references),
        })
    }

    /// Replaces entries that hold no data and point to no cluster by ones that read the same.
    fn replace_unaligned_empty(
        &mut self,
        image: &Image,
        survey: &Survey,
    ) -> Result<(), RepairError> {
        let header = &image.header;
        let format = L2Format::of(header);
        let entry_bytes = format.entry_bytes() as usize;
        let positions = &survey.references.unaligned_empty;
        for (position, _) in positions.keys() {
            let mut bytes = [0; 16];
            self.storage.read_at(*position, &mut bytes[..entry_bytes])?;
            let words = bytes.as_chunks_mut::<8>().0;
            let entry = L2Entry {
                raw: u64::from_be_bytes(words[0]),
                subclusters: u64::from_be_bytes(words[1]),
            };
            let replaced = entry.without_cluster(format);
            words[0] = replaced.raw.to_be_bytes();
            words[1] = replaced.subclusters.to_be_bytes();
            self.storage.write_at(*position, &bytes[..entry_bytes])?;
        }
        if !positions.is_empty() {
            self.storage.flush()?;
            self.outcome.fixed.corruptions += positions.len() as u64;
            self.step(Step::ReplacedEntries {
                entries: positions.len() as u64,
            });
        }
        Ok(())
    }

    /// Lets the header name no more snapshots than there are, where it names more.
    fn shorten_snapshot_table(&mut self, survey: &Survey) -> Result<(), RepairError> {
        let table = &survey.references.snapshots;
        if table.is_shortened() {
            let snapshots = table.entries.len() as u32;
            set_count(self.storage, snapshots)?;
            self.outcome.fixed.corruptions += table.corruptions;
            self.step(Step::ShortenedSnapshotTable { snapshots });
        }
        Ok(())
    }

    /// Sets the COPIED bits by the refcounts that are on disk by now; returns how many stay wrong.
    fn set_copied(
        &mut self,
        image: &Image,
        survey: &Survey,
        table: &RefcountTable,
    ) -> Result<u64, RepairError> {
        let geometry = image.geometry();
        // The header may lead to new structures by now, and an entry gone astray to these; of an old
        // snapshot table there may be nothing left.
        let now = Image::open(self.storage).map_err(CheckError::from)?;
        let reftable = Reftable::read(&now, self.storage)?;
        let structures = reftable.clusters(&now);
        let uses = table_uses(&now, self.storage)?;
        // A table whose cluster has more references than lead to it as such is data or another
        // table as well. What is kept on top says nothing: it may lead here as to a table.
        let references = |cluster: Cluster| {
            if survey.references.overflowed.contains(cluster) {
                return u64::MAX;
            }
            let of = |counts: &[(Cluster, u64)]| {
                let found = counts.binary_search_by_key(&cluster, |(cluster, _)| *cluster);
                found.map_or(0, |index| counts[index].1)
            };
            let count = table.get(cluster).saturating_add(of(&self.unraised));
            count.saturating_sub(of(&self.surplus))
        };
        // What a table that reaches past the end covers is not counted, but it is read as that table.
        let covered = survey.references.covered();
        let is_alone = |offset: Offset| {
            let cluster = geometry.cluster_of(offset);
            // What only the header leads to, taken for an L1 table, is no use of it as a table.
            let uses = uses.l2.get(&offset);
            geometry.is_aligned(offset)
                && uses.is_some_and(|uses| references(cluster) <= *uses)
                && !structures.contains(cluster)
                && !covered.contains(cluster)
        };
        let mut l1_clusters = active_l1(image).clusters(geometry).iter();
        let l1_is_alone = !self.l1_was_cut
            && l1_clusters.all(|cluster| {
                cluster != Cluster(0)
                    && references(cluster) <= uses.active_l1
                    && !covered.contains(cluster)
            });
        let after = AfterRepair {
            table,
            compared: survey.comparison.compared,
            reftable: &reftable,
            is_alone: &is_alone,
            l1_is_alone,
        };
        let copied = repair_copied(image, self.storage, &after, self.observer)?;
        if copied.repaired > 0 {
            self.storage.flush()?;
            self.outcome.fixed.corruptions += copied.repaired;
            self.step(Step::SetCopied {
                entries: copied.repaired,
            });
        }
        Ok(copied.wrong)
    }

    /// Clears the dirty and the corrupt bit.
    fn clear_flags(&mut self, image: &Image) -> Result<(), RepairError> {
        let features = image.header.incompatible_features;
        let cleared = features & !(DIRTY | CORRUPT);
        if cleared == features {
            return Ok(());
        }
        let position = Offset(INCOMPATIBLE_FEATURES_POSITION);
        self.storage.write_at(position, &cleared.to_be_bytes())?;
        self.storage.flush()?;
        self.step(Step::ClearedFlags);
        Ok(())
    }

    fn step(&mut self, step: Step) {
        self.observer.step(&step);
        self.outcome.steps.push(step);
    }
}
