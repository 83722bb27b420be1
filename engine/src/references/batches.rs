//! Reading many tables on all cores, neighbours at once.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::observer::{Observer, Stage};
use crate::storage::{Storage, StorageError};
use crate::units::Offset;

/// Bytes that a thread reads before it works on them: few enough to stay in a core's cache.
pub const BATCH_BYTES: usize = 256 << 10;
/// Bytes of tables below which starting threads takes longer than it saves.
const PARALLEL_BYTES: usize = 4 << 20;

/// Hands the `tables` of `table_bytes` each, which are in ascending order, to `visit`, each with what
/// is known of it and its bytes, on all cores, each of which works on what `worker` makes; returns
/// these. Of several errors that of the lowest table is returned, so that it does not depend on how
/// the threads run.
pub fn for_each_table<T: Sync, W: Send, E: From<StorageError> + Send>(
    storage: &dyn Storage,
    table_bytes: u64,
    tables: &[(Offset, T)],
    worker: impl Fn() -> W,
    visit: impl Fn(&mut W, &(Offset, T), &[u8]) -> Result<(), E> + Sync,
    (stage, observer): (Stage, &mut dyn Observer),
) -> Result<Vec<W>, E> {
    let (size, count) = (table_bytes as usize, tables.len());
    let per_batch = (BATCH_BYTES / size).max(1);
    let next = AtomicUsize::new(0);
    let visit_batch = |worker: &mut W, batch: &[(Offset, T)], buffer: &mut [u8]| -> Result<(), E> {
        let is_next =
            |one: &(Offset, T), next: &(Offset, T)| one.0.checked_add(table_bytes) == Some(next.0);
        for neighbours in batch.chunk_by(is_next) {
            let bytes = &mut buffer[..neighbours.len() * size];
            storage.read_at(neighbours[0].0, bytes)?;
            let mut tables = neighbours.iter().zip(bytes.chunks_exact(size));
            tables.try_for_each(|(table, bytes)| visit(worker, table, bytes))?;
        }
        Ok(())
    };
    // Takes batches, in ascending order, until there are none.
    let run = |mut worker: W, progress: &mut dyn FnMut(usize)| {
        let mut buffer = vec![0; per_batch.min(count) * size];
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(batch) = tables.chunks(per_batch).nth(number) else {
                return Ok(worker);
            };
            progress(number * per_batch);
            if let Err(error) = visit_batch(&mut worker, batch, &mut buffer) {
                // Nobody needs to go on.
                next.store(count, Ordering::Relaxed);
                return Err((number, error));
            }
        }
    };
    let mut most = 1;
    if count.saturating_mul(size) >= PARALLEL_BYTES {
        // Asked only here: the answer takes some 15 system calls.
        most = thread::available_parallelism().map_or(1, NonZero::get);
    }
    let (mut workers, mut failed) = (Vec::new(), None);
    thread::scope(|scope| {
        let run = &run;
        let helpers = (1..most.min(count.div_ceil(per_batch))).filter_map(|_| {
            let worker = worker();
            // Where the system gives no more threads, the work is done by those there are.
            let helper = move || run(worker, &mut |_| ());
            thread::Builder::new().spawn_scoped(scope, helper).ok()
        });
        let helpers: Vec<_> = helpers.collect();
        let mut progress = |done| observer.progress(stage, done as u64, count as u64);
        let mut ended = vec![run(worker(), &mut progress)];
        for helper in helpers {
            ended.push(helper.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        for result in ended {
            match (result, &failed) {
                (Ok(worker), _) => workers.push(worker),
                (Err((number, _)), Some((lowest, _))) if number > *lowest => {}
                (Err(error), _) => failed = Some(error),
            }
        }
    });
    failed.map_or(Ok(workers), |(_, error)| Err(error))
}

/// What `find` says of the `tables`, where it says something, found like [`for_each_table`] does.
pub fn find_in_tables<T: Sync, R: Send, E: From<StorageError> + Send, F>(
    storage: &dyn Storage,
    table_bytes: u64,
    tables: &[(Offset, T)],
    find: impl Fn() -> F,
    progress: (Stage, &mut dyn Observer),
) -> Result<Vec<R>, E>
where
    F: FnMut(&(Offset, T), &[u8]) -> Result<Option<R>, E> + Send,
{
    let finder = || (find(), Vec::new());
    let visit = |(find, found): &mut (F, Vec<R>), table: &(Offset, T), bytes: &[u8]| {
        find(table, bytes).map(|said| found.extend(said))
    };
    let finders = for_each_table(storage, table_bytes, tables, finder, visit, progress)?;
    Ok(finders.into_iter().flat_map(|(_, found)| found).collect())
}
