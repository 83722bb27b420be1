//! What a plan for a toy shows, nothing having been written: where the new structures go, against
//! what brute force finds. `counts-every-cluster`, `no-leaks` and `bounded-cost` are shown in full by
//! the bytes; here is the part of them that a placement shows.

use std::cell::OnceCell;
use std::ops::Range;

use super::tries::Sizes;
use super::{Failure, Property, Verdict};
use crate::brute::Space;
use crate::case::Algorithm;
use crate::placement::{NoPlacement, Placement};
use crate::toy::{CLUSTERS_MAX, Clusters, Toy};

/// A property of a plan.
type Judge = fn(&Planning<'_>) -> Result<(), Failure>;

/// The properties that a plan by itself shows.
const OF_PLANS: [(Property, Judge); 8] = [
    (Property::Terminates, terminates),
    (Property::CountsEveryCluster, counts_every_cluster),
    (Property::NoOverlap, no_overlap),
    (Property::FitsWhenPossible, fits_when_possible),
    (Property::GrowsOnlyWhenNeeded, grows_only_when_needed),
    (Property::SmallestTable, smallest_table),
    (Property::NoLeaks, no_leaks),
    (Property::BoundedCost, bounded_cost),
];

/// Their names.
pub fn of_plans() -> impl Iterator<Item = Property> {
    OF_PLANS.iter().map(|(property, _)| *property)
}

/// What brute force finds for a toy; each search is made when it is first asked for.
#[derive(Debug)]
pub struct Brute {
    /// The toy.
    pub toy: Toy,
    inside_file: OnceCell<Option<u32>>,
    whole_storage: OnceCell<Option<u32>>,
}

impl Brute {
    /// For a toy.
    pub const fn new(toy: Toy) -> Self {
        Self {
            toy,
            inside_file: OnceCell::new(),
            whole_storage: OnceCell::new(),
        }
    }

    /// The least reftable, in clusters, with which everything fits into the file as it is.
    fn least_inside_file(&self) -> Option<u32> {
        let search = || Space::inside_file(&self.toy).least_table();
        *self.inside_file.get_or_init(search)
    }

    /// The least reftable with which everything fits into the storage, the file growing if it can.
    fn least_in_storage(&self) -> Option<u32> {
        let search = || {
            let space = Space::whole_storage(&self.toy);
            space.expect("asked of small toys only").least_table()
        };
        *self.whole_storage.get_or_init(search)
    }
}

/// Where a placement puts what, as sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The reftable.
    pub reftable: Clusters,
    /// The refblocks.
    pub refblocks: Clusters,
    /// Reftables given up for larger ones.
    pub abandoned: Clusters,
    /// Clusters that two of these share, or that two refblocks do.
    pub shared: Clusters,
    /// The first cluster after all of them.
    pub end: u64,
}

impl Places {
    /// Those of a placement. Clusters past the largest that a set can hold only count for `end`.
    pub fn of(placement: &Placement) -> Self {
        let mut places = Self::default();
        places.reftable = places.take(&placement.reftable);
        for (_, cluster) in &placement.refblocks {
            let one = places.take(&(*cluster..cluster + 1));
            places.refblocks = places.refblocks.or(one);
        }
        for run in &placement.abandoned {
            let run = places.take(run);
            places.abandoned = places.abandoned.or(run);
        }
        places
    }

    /// The clusters of a run, noted where they meet refblocks or the reftable.
    fn take(&mut self, run: &Range<u64>) -> Clusters {
        let clamped = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let clusters = Clusters::run(clamped(run.start), clamped(run.end - run.start));
        let taken = self.reftable.or(self.refblocks);
        self.shared = self.shared.or(taken.and(clusters));
        self.end = self.end.max(run.end);
        clusters
    }

    /// Everything that the new structures count beside what is referenced.
    pub const fn allocated(&self) -> Clusters {
        self.reftable.or(self.refblocks).or(self.abandoned)
    }
}

/// A run of a planner: what it was given, what came out, and what brute force says.
#[derive(Clone, Copy, Debug)]
pub struct Planning<'a> {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// What the planner said.
    pub outcome: &'a Result<Placement, NoPlacement>,
    places: Places,
    brute: &'a Brute,
}

impl<'a> Planning<'a> {
    /// Of an outcome.
    pub fn new(
        algorithm: Algorithm,
        outcome: &'a Result<Placement, NoPlacement>,
        brute: &'a Brute,
    ) -> Self {
        Self {
            algorithm,
            outcome,
            places: outcome.as_ref().map(Places::of).unwrap_or_default(),
            brute,
        }
    }

    /// What a property says of it; `None` when a plan alone does not show it.
    pub fn judge(&self, property: Property) -> Option<Result<(), Failure>> {
        let found = OF_PLANS.iter().find(|(one, _)| *one == property);
        found.map(|(_, judge)| judge(self))
    }

    /// What all of these properties say that can be asked.
    pub fn verdicts(
        &self,
        of: impl Fn(Property) -> bool,
    ) -> impl Iterator<Item = (Property, Verdict)> {
        let asked = of_plans().filter(move |&property| of(property) && self.can_be_asked(property));
        asked.filter_map(|property| Some((property, self.judge(property)?.into())))
    }

    /// Whether a property can be asked of a plan for a large toy: brute force looks at every
    /// placement, and a set holds the first clusters only.
    fn can_be_asked(&self, property: Property) -> bool {
        match property {
            Property::Terminates => true,
            Property::FitsWhenPossible
            | Property::GrowsOnlyWhenNeeded
            | Property::SmallestTable => Space::whole_storage(&self.brute.toy).is_some(),
            _ => self.places.end <= u64::from(CLUSTERS_MAX),
        }
    }
}

/// Each try is larger than the one before, so that the reftable's clusters bound their number;
/// mostly far fewer are proven. QEMU's algorithms have no proven bound; they fail where they are
/// certain never to end.
fn terminates(run: &Planning<'_>) -> Result<(), Failure> {
    match run.outcome {
        Err(error @ NoPlacement::Endless(_)) => {
            Err(Failure::new(format!("it would not end: {error}")))
        }
        Ok(placement) if run.algorithm == Algorithm::Planned => {
            let toy = run.brute.toy;
            let reftable = placement.reftable_clusters();
            let proven = Sizes::of(toy.shape).proven_tries(toy.old.count().into());
            let bound = proven.map_or(reftable, |proven| proven.min(reftable));
            let tries = placement.tries;
            Failure::unless(tries <= bound, || {
                format!("it took {tries} tries; at most {bound} are proven to do")
            })
        }
        _ => Ok(()),
    }
}

/// Whatever has a count has a refblock, which has an entry and is written; and no other refblock
/// exists.
fn counts_every_cluster(run: &Planning<'_>) -> Result<(), Failure> {
    let Ok(placement) = run.outcome else {
        return Ok(());
    };
    let shape = run.brute.toy.shape;
    let counted = run.brute.toy.used.or(run.places.allocated());
    let entries = placement.reftable_clusters() * u64::from(shape.entries());
    let mut covered = Clusters::NONE;
    let mut least = 0;
    for (position, (refblock, _)) in placement.refblocks.iter().enumerate() {
        let refblock = *refblock;
        Failure::unless(refblock >= least, || {
            format!("refblock {refblock} is there twice, or out of order")
        })?;
        Failure::unless(refblock < entries, || {
            format!("refblock {refblock} lies past the last of the reftable's {entries} entries")
        })?;
        Failure::unless(placement.order.contains(&position), || {
            format!("refblock {refblock} is never written")
        })?;
        least = refblock + 1;
        // Within the entries of a toy, so that the shift cannot overflow.
        let first = (refblock as u32) << shape.refblock_bits;
        let range = Clusters::run(first, shape.refcounts());
        // QEMU's algorithms count the old structures, too.
        Failure::unless(!range.and(counted.or(run.brute.toy.old)).is_empty(), || {
            format!("refblock {refblock} counts nothing, so nothing needs it")
        })?;
        covered = covered.or(range);
    }
    none(counted.without(covered), |cluster| {
        let refblock = cluster >> shape.refblock_bits;
        format!(
            "cluster {cluster} has references or belongs to the new structures, but refblock \
             {refblock}, which would count it, does not exist"
        )
    })
}

/// New structures meet no referenced cluster, no reserved one, nor each other, and stay within the
/// storage.
fn no_overlap(run: &Planning<'_>) -> Result<(), Failure> {
    let Places { shared, end, .. } = run.places;
    let allocated = run.places.allocated();
    none(allocated.and(run.brute.toy.used), |cluster| {
        format!("a new structure lies in cluster {cluster}, which has references")
    })?;
    none(allocated.and(run.brute.toy.old), |cluster| {
        format!("a new structure lies in cluster {cluster}, which belongs to the old structures")
    })?;
    none(shared, |cluster| {
        format!("two new structures lie in cluster {cluster}")
    })?;
    let capacity = run.brute.toy.capacity().map_or(u64::MAX, u64::from);
    Failure::unless(end <= capacity, || {
        format!("the new structures reach to cluster {end}; the storage has {capacity} clusters")
    })
}

/// Where the storage cannot grow, going on for ever is failing for space as well.
fn fits_when_possible(run: &Planning<'_>) -> Result<(), Failure> {
    let may_diverge = run.brute.toy.capacity().is_none();
    match run.outcome {
        Ok(_) => Ok(()),
        Err(NoPlacement::Endless(_)) if may_diverge => Ok(()),
        Err(_) => run.brute.least_in_storage().map_or(Ok(()), |reftable| {
            Err(Failure::new(format!(
                "it fails for space, but there is a placement with a reftable of {reftable} \
                 clusters"
            )))
        }),
    }
}

fn grows_only_when_needed(run: &Planning<'_>) -> Result<(), Failure> {
    let (clusters, end) = (run.brute.toy.clusters, run.places.end);
    if end <= clusters.into() {
        return Ok(());
    }
    run.brute.least_inside_file().map_or(Ok(()), |reftable| {
        Err(Failure::new(format!(
            "the file grows from {clusters} to {end} clusters, but there is a placement inside it \
             with a reftable of {reftable} clusters"
        )))
    })
}

/// The smallest there is. A smaller one than brute force finds would mean that one of the two is
/// wrong.
fn smallest_table(run: &Planning<'_>) -> Result<(), Failure> {
    let Ok(placement) = run.outcome else {
        return Ok(());
    };
    let clusters = placement.reftable_clusters();
    match run.brute.least_in_storage().map(u64::from) {
        Some(least) if least == clusters => Ok(()),
        Some(least) if least < clusters => Err(Failure::new(format!(
            "the reftable takes {clusters} clusters; {least} can do"
        ))),
        _ => Err(Failure::new(format!(
            "brute force finds no placement with a reftable of {clusters} clusters, yet this is one"
        ))),
    }
}

/// No reftable stays behind that was given up for a larger one.
fn no_leaks(run: &Planning<'_>) -> Result<(), Failure> {
    none(run.places.abandoned, |cluster| {
        format!("cluster {cluster} stays allocated, but nothing refers to it: a reftable given up")
    })
}

/// Every refblock is written once.
fn bounded_cost(run: &Planning<'_>) -> Result<(), Failure> {
    let Ok(placement) = run.outcome else {
        return Ok(());
    };
    for (position, (refblock, _)) in placement.refblocks.iter().enumerate() {
        let times = placement
            .order
            .iter()
            .filter(|&&written| written == position);
        let times = times.count();
        Failure::unless(times <= 1, || {
            format!("refblock {refblock} is written {times} times")
        })?;
    }
    Ok(())
}

/// An error that names the first of some clusters, where there are any.
fn none(clusters: Clusters, message: impl Fn(u32) -> String) -> Result<(), Failure> {
    let first = clusters.first();
    first.map_or(Ok(()), |cluster| Err(Failure::new(message(cluster))))
}
