//! Reading many tables on all cores, neighbours at once.

use std::num::NonZero;
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
    let table_bytes = table_bytes as usize;
    let batches = Batches {
        storage,
        table_bytes,
        tables,
        per_batch: (BATCH_BYTES / table_bytes).max(1),
        next: AtomicUsize::new(0),
    };
    let total = tables.len() as u64;
    let mut progress = |done: usize| observer.progress(stage, done as u64, total);
    let ended = thread::scope(|scope| {
        let batches = &batches;
        let started: Vec<_> = (0..batches.helpers())
            .filter_map(|_| {
                let worker = worker();
                // Where the system gives no more threads, the work is done by those there are.
                thread::Builder::new()
                    .spawn_scoped(scope, move || batches.run(worker, &mut |_| ()))
                    .ok()
            })
            .collect();
        let mut ended = vec![batches.run(worker(), &mut progress)];
        for helper in started {
            ended.push(
                helper
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            );
        }
        ended
    });
    let (mut workers, mut failed) = (Vec::new(), None);
    for result in ended {
        match (result, &failed) {
            (Ok(worker), _) => workers.push(worker),
            (Err((first, _)), Some((lowest, _))) if first > *lowest => {}
            (Err(error), _) => failed = Some(error),
        }
    }
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

struct Batches<'a, T> {
    storage: &'a dyn Storage,
    table_bytes: usize,
    tables: &'a [(Offset, T)],
    per_batch: usize,
    next: AtomicUsize,
}

impl<T> Batches<'_, T> {
    /// How many threads beside the calling one are worth it.
    fn helpers(&self) -> usize {
        if self.tables.len().saturating_mul(self.table_bytes) < PARALLEL_BYTES {
            return 0;
        }
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let batches = self.tables.len().div_ceil(self.per_batch);
        cores.min(batches).saturating_sub(1)
    }

    /// Takes batches, in ascending order, until there are none. An error comes with the number of
    /// its batch's first table.
    fn run<W: Worker<T>>(
        &self,
        mut worker: W,
        progress: &mut dyn FnMut(usize),
    ) -> Result<W, (usize, W::Error)> {
        let count = self.tables.len();
        let mut buffer = vec![0; self.per_batch.min(count) * self.table_bytes];
        loop {
            let first = self.next.fetch_add(self.per_batch, Ordering::Relaxed);
            if first >= count {
                return Ok(worker);
            }
            progress(first);
            let batch = &self.tables[first..count.min(first + self.per_batch)];
            if let Err(error) = self.batch(&mut worker, batch, &mut buffer) {
                // Nobody needs to go on.
                self.next.store(count, Ordering::Relaxed);
                return Err((first, error));
            }
        }
    }

    fn batch<W: Worker<T>>(
        &self,
        worker: &mut W,
        batch: &[(Offset, T)],
        buffer: &mut [u8],
    ) -> Result<(), W::Error> {
        let follows = |one: &(Offset, T), next: &(Offset, T)| {
            one.0.checked_add(self.table_bytes as u64) == Some(next.0)
        };
        for neighbours in batch.chunk_by(follows) {
            let bytes = &mut buffer[..neighbours.len() * self.table_bytes];
            self.storage.read_at(neighbours[0].0, bytes)?;
            for (table, bytes) in neighbours.iter().zip(bytes.chunks_exact(self.table_bytes)) {
                worker.table(table, bytes)?;
            }
        }
        worker.end_of_batch()
    }
}
