//! What lies where: what each cluster of the file is used as, and what is wrong with it.
//!
//! It is told run by run, from what a survey knows, and no list of runs is held. Clusters that nothing
//! refers to and that no refblock speaks of are passed over at once.

mod block;
mod uses;

use crate::check::Survey;
use crate::observer::Observer;
use crate::plan::{Overlay, RepairError, RepairPlan};
use crate::references::CheckError;
use crate::storage::Storage;
use crate::table::{RefcountTable, Run};
use crate::units::{Cluster, ClusterCount, RefblockIndex};
use block::Block;

/// What a cluster is used as, by any layer; on the later ones more depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
#[expect(missing_docs, reason = "they are what their names say")]
pub enum Use {
    /// Nothing, and its refcount is 0.
    Free,
    Data,
    Compressed,
    /// Directory, tables, bits.
    Bitmap,
    SnapshotTable,
    L2Table,
    L1Table,
    Refblock,
    Reftable,
    LuksHeader,
    Header,
    /// Nothing, and it is allocated.
    Leaked,
}

/// What is wrong with a cluster, the worse ones later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum Wrong {
    /// It is referred to, and its refcount is above that.
    TooHigh,
    /// Its refcount cannot be read.
    Unreadable,
    /// Its refcount is below its references, or cannot count them.
    TooLow,
    /// It is used as two things, or twice by one layer.
    Overlap,
}

/// Clusters side by side that are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Which clusters.
    pub run: Run,
    /// What they are used as; of several things the one that most depends on.
    pub holds: Use,
    /// What is wrong with each, the worst.
    pub wrong: Option<Wrong>,
}

/// What lies where in one image, as it was when it was read.
pub struct Map {
    survey: Survey,
    /// How often each cluster is referred to as reftable or refblock.
    as_structure: RefcountTable,
    /// How often by compressed entries.
    as_compressed: RefcountTable,
    /// Where clusters are shared, how often by entries of the active layer, compressed ones aside.
    as_active: RefcountTable,
    /// How many layers there are.
    layers: u64,
}

impl Map {
    /// Reads an image. What leads past its end is told to the observer, as any check does.
    pub fn take(storage: &dyn Storage, observer: &mut dyn Observer) -> Result<Self, CheckError> {
        let survey = Survey::take(storage, observer)?;
        let (as_compressed, as_active) = uses::of_data(&survey, storage, observer)?;
        let mut as_structure = RefcountTable::new(*survey.image.geometry());
        let mut counted = survey.look.old.counted.iter();
        counted.try_for_each(|run| as_structure.add(*run, 1))?;
        let l1_tables = survey.look.references.l1_tables.iter();
        Ok(Self {
            as_structure,
            as_compressed,
            as_active,
            layers: l1_tables.map(|table| table.layers).sum(),
            survey,
        })
    }

    /// The same of an image as it will be once a plan is carried out.
    pub fn after(
        storage: &dyn Storage,
        plan: &RepairPlan,
        observer: &mut dyn Observer,
    ) -> Result<Self, RepairError> {
        Ok(Self::take(&Overlay::new(storage, plan)?, observer)?)
    }

    /// What it is made from.
    pub const fn survey(&self) -> &Survey {
        &self.survey
    }

    /// The clusters that the file has, and a table's last that reaches beyond.
    pub const fn clusters(&self) -> ClusterCount {
        self.survey.look.comparison.compared
    }

    /// Tells every one of these clusters once, in ascending order. No two neighbours are alike.
    pub fn for_each<E>(&self, mut visit: impl FnMut(Stretch) -> Result<(), E>) -> Result<(), E> {
        let mut last: Option<Stretch> = None;
        let mut add = |next: Stretch| match &mut last {
            _ if next.run.count.0 == 0 => Ok(()),
            Some(last) if (last.holds, last.wrong) == (next.holds, next.wrong) => {
                last.run.count.0 += next.run.count.0;
                Ok(())
            }
            last => last.replace(next).map_or(Ok(()), &mut visit),
        };
        let (mut from, end) = (Cluster(0), Cluster(self.clusters().0));
        while from < end {
            let (next, wrong) = self.gap(from);
            let (next, holds) = (next.min(end), Use::Free);
            let run = Run::new(from, next.since(from));
            add(Stretch { run, holds, wrong })?;
            let block = Block::at(self, next);
            from = block.end().min(end);
            block.stretches(next, end).try_for_each(&mut add)?;
        }
        last.map_or(Ok(()), visit)
    }

    /// From one cluster up to which other nothing is known but, perhaps, that no refcount can be read.
    fn gap(&self, from: Cluster) -> (Cluster, Option<Wrong>) {
        let (geometry, look) = (self.survey.image.geometry(), &self.survey.look);
        let (differing, unreadable) = (&look.comparison.differing, &look.comparison.unreadable);
        let here = geometry.refblock_of(from);
        let used = look.references.table.next_used(from);
        let used = used.unwrap_or(Cluster(u64::MAX));
        let first = |refblock| geometry.first_covered(refblock).max(from);
        let unread = match unreadable.binary_search(&here) {
            Ok(_) => {
                return (
                    first(RefblockIndex(here.0 + 1)).min(used),
                    Some(Wrong::Unreadable),
                );
            }
            Err(next) => unreadable.get(next),
        };
        let differing = differing.range(here..).map(|(refblock, _)| refblock);
        let told = differing
            .take(1)
            .chain(unread)
            .map(|refblock| first(*refblock));
        (told.chain([used]).min().unwrap_or(used), None)
    }
}
