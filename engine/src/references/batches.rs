//! Reading many tables on all cores, neighbours at once.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::observer::{Observer, Stage};
use crate::storage::{Storage, StorageError};
use crate::units::Offset;

/// Bytes that a thread reads before it works on them: few enough to stay in a core's cache.
const BATCH_BYTES: usize = 256 << 10;
/// Bytes of tables below which starting threads takes longer than it saves.
const PARALLEL_BYTES: usize = 4 << 20;

/// A thread's part of the work on tables, of each of which `T` is known beside its place.
pub trait Worker<T>: Send {
    /// Why it may stop.
    type Error: From<StorageError> + Send;

    /// One table.
    fn table(&mut self, table: &(Offset, T), bytes: &[u8]) -> Result<(), Self::Error>;

    /// The end of a batch: what was collected can be handed over.
    fn end_of_batch(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// Hands the `tables` of `table_bytes` each, which are in ascending order, to workers made by
/// `worker`, and returns these. Of several errors that of the lowest table is returned, so that it
/// does not depend on how the threads run.
pub fn for_each_table<T: Sync, W: Worker<T>>(
    storage: &dyn Storage,
    table_bytes: u64,
    tables: &[(Offset, T)],
    worker: impl Fn() -> W,
    (stage, observer): (Stage, &mut dyn Observer),
) -> Result<Vec<W>, W::Error> {
    let (size, count) = (table_bytes as usize, tables.len());
    let per_batch = (BATCH_BYTES / size).max(1);
    let next = AtomicUsize::new(0);
    // Takes batches, in ascending order, until there are none.
    let run = |mut worker: W, progress: &mut dyn FnMut(usize)| {
        let mut buffer = vec![0; per_batch.min(count) * size];
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(batch) = tables.chunks(per_batch).nth(number) else {
                return Ok(worker);
            };
            progress(number * per_batch);
            if let Err(error) = read_batch(storage, size, batch, &mut buffer, &mut worker) {
                // Nobody needs to go on.
                next.store(count, Ordering::Relaxed);
                return Err((number, error));
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let is_worth_it = count.saturating_mul(size) >= PARALLEL_BYTES;
    let threads = if is_worth_it {
        cores.min(count.div_ceil(per_batch))
    } else {
        1
    };
    let (mut workers, mut failed) = (Vec::new(), None);
    thread::scope(|scope| {
        let run = &run;
        let helpers = (1..threads).filter_map(|_| {
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

/// Reads the tables of a batch, and hands them over.
fn read_batch<T, W: Worker<T>>(
    storage: &dyn Storage,
    size: usize,
    batch: &[(Offset, T)],
    buffer: &mut [u8],
    worker: &mut W,
) -> Result<(), W::Error> {
    for neighbours in batch.chunk_by(|one, next| one.0.checked_add(size as u64) == Some(next.0)) {
        let bytes = &mut buffer[..neighbours.len() * size];
        storage.read_at(neighbours[0].0, bytes)?;
        for (table, bytes) in neighbours.iter().zip(bytes.chunks_exact(size)) {
            worker.table(table, bytes)?;
        }
    }
    worker.end_of_batch()
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
    let finder = || Finder {
        find: find(),
        found: Vec::new(),
    };
    let finders = for_each_table(storage, table_bytes, tables, finder, progress)?;
    Ok(finders
        .into_iter()
        .flat_map(|finder| finder.found)
        .collect())
}

struct Finder<F, R> {
    find: F,
    found: Vec<R>,
}

impl<T, R: Send, E, F> Worker<T> for Finder<F, R>
where
    E: From<StorageError> + Send,
    F: FnMut(&(Offset, T), &[u8]) -> Result<Option<R>, E> + Send,
{
    type Error = E;

    fn table(&mut self, table: &(Offset, T), bytes: &[u8]) -> Result<(), E> {
        self.found.extend((self.find)(table, bytes)?);
        Ok(())
    }
}
