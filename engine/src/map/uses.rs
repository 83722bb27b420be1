//! What a survey does not keep of guest data: which of it is compressed, and what the active layer alone
//! refers to.

use crate::check::Survey;
use crate::format::entry::L2Kind;
use crate::observer::{Observer, Stage};
use crate::references::{CheckError, L2Uses, find_in_tables, l2_runs};
use crate::storage::Storage;
use crate::table::{Collected, RefcountTable, Run, SharedTable};
use crate::units::{Offset, Region};

/// How often each cluster is referred to by compressed entries, and by other entries of the active layer.
/// The L2 tables are read once more, unless the survey shows that there is nothing to learn.
pub fn of_data(
    survey: &Survey,
    storage: &dyn Storage,
    observer: &mut dyn Observer,
) -> Result<(RefcountTable, RefcountTable), CheckError> {
    let (image, references) = (&survey.image, &survey.look.references);
    let (geometry, format, tables) = (*image.geometry(), image.format(), &references.l2_tables);
    let shared = [(); 2].map(|()| SharedTable::new(RefcountTable::new(geometry)));
    // Of snapshots the tally says nothing.
    let has_snapshots = tables.iter().any(|(_, uses)| uses.active < uses.all);
    let is_shared = references.table.has_shared();
    let has_more = has_snapshots || references.tally.compressed > 0 || is_shared;
    let find = || {
        let (mut found, shared) = ([Collected::new(), Collected::new()], &shared);
        move |(table, uses): &(Offset, L2Uses), bytes: &[u8]| {
            let own = u64::from(is_shared && uses.active > 0);
            found[1].push(geometry.cluster_of(*table).0, own);
            for run in l2_runs(format, bytes) {
                let (kind, region) = match run.entry.kind(format) {
                    L2Kind::Compressed(region) => (0, region),
                    L2Kind::Normal(offset) | L2Kind::PreallocatedZero(offset)
                        if is_shared && uses.active > 0 =>
                    {
                        let length = run.count << geometry.cluster_bits();
                        (1, Region { offset, length })
                    }
                    _ => continue,
                };
                if image.holds(region) {
                    let Run { first, count } = region.clusters(&geometry);
                    found[kind].push(first.0, count.0);
                }
            }
            shared[0].add(&mut found[0], uses.all)?;
            shared[1].add(&mut found[1], uses.active)?;
            Ok::<_, CheckError>(None::<()>)
        }
    };
    if has_more && !format.data_file {
        let stage = (Stage::References, observer);
        find_in_tables(storage, geometry.cluster_size(), tables, find, stage)?;
    }
    let [as_compressed, as_active] = shared.map(SharedTable::into_table);
    Ok((as_compressed, as_active))
}
