//! Reading many tables on all cores, neighbours at once.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::storage::{Storage, StorageError};
use crate::units::Offset;

/// Bytes that a thread reads before it works on them: few enough to stay in a core's cache.
const BATCH_BYTES: usize = 256 << 10;
/// Bytes of tables below which starting threads takes longer than it saves.
const PARALLEL_BYTES: usize = 4 << 20;

/// A worker's part of the work, told of each table with its number.
pub trait Worker: Send {
    /// Why it may stop.
    type Error: From<StorageError> + Send;

    /// One table.
    fn table(&mut self, number: usize, bytes: &[u8]) -> Result<(), Self::Error>;

    /// The end of a batch: what was collected can be handed over.
    fn end_of_batch(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// Hands the `count` tables of `table_bytes` each, the n-th at `offset_of(n)` and in ascending
/// order, to workers made by `worker`, and returns these. Of several errors that of the lowest
/// table is returned, so that it does not depend on how the threads run.
pub fn for_each_table<W: Worker>(
    storage: &dyn Storage,
    table_bytes: usize,
    count: usize,
    offset_of: impl Fn(usize) -> Offset + Sync,
    worker: impl Fn() -> W,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<W>, W::Error> {
    let per_batch = (BATCH_BYTES / table_bytes).max(1);
    let batches = Batches {
        storage,
        table_bytes,
        count,
        offset_of,
        per_batch,
        next: AtomicUsize::new(0),
    };
    let helpers = helpers(count.saturating_mul(table_bytes), count.div_ceil(per_batch));
    let mut ended = thread::scope(|scope| {
        let batches = &batches;
        let started: Vec<_> = (0..helpers)
            .filter_map(|_| {
                let worker = worker();
                // Where the system gives no more threads, the work is done by those there are.
                thread::Builder::new()
                    .spawn_scoped(scope, move || batches.run(worker, &mut |_| ()))
                    .ok()
            })
            .collect();
        let mut ended = vec![batches.run(worker(), progress)];
        for helper in started {
            match helper.join() {
                Ok(result) => ended.push(result),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        ended
    });
    let failed = (0..ended.len())
        .filter_map(|position| Some((ended[position].as_ref().err()?.0, position)))
        .min();
    if let Some((_, position)) = failed
        && let Err((_, error)) = ended.swap_remove(position)
    {
        return Err(error);
    }
    Ok(ended.into_iter().filter_map(Result::ok).collect())
}

/// How many threads beside the calling one are worth it.
fn helpers(bytes: usize, batches: usize) -> usize {
    if bytes < PARALLEL_BYTES {
        return 0;
    }
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    cores.min(batches).saturating_sub(1)
}

struct Batches<'a, F> {
    storage: &'a dyn Storage,
    table_bytes: usize,
    count: usize,
    offset_of: F,
    per_batch: usize,
    next: AtomicUsize,
}

impl<F: Fn(usize) -> Offset> Batches<'_, F> {
    /// Takes batches, in ascending order, until there are none.
    fn run<W: Worker>(
        &self,
        mut worker: W,
        progress: &mut dyn FnMut(usize),
    ) -> Result<W, (usize, W::Error)> {
        let mut buffer = vec![0; self.per_batch.min(self.count) * self.table_bytes];
        loop {
            let first = self.next.fetch_add(self.per_batch, Ordering::Relaxed);
            if first >= self.count {
                return Ok(worker);
            }
            progress(first);
            let past = (first + self.per_batch).min(self.count);
            let batch = self.batch(&mut worker, first, past, &mut buffer);
            if let Err(error) = batch {
                // Nobody needs to go on.
                self.next.store(self.count, Ordering::Relaxed);
                return Err((first, error));
            }
        }
    }

    fn batch<W: Worker>(
        &self,
        worker: &mut W,
        first: usize,
        past: usize,
        buffer: &mut [u8],
    ) -> Result<(), W::Error> {
        let mut start = first;
        while start < past {
            let offset = (self.offset_of)(start);
            let follows = |number: usize| {
                let bytes = (number - start) * self.table_bytes;
                offset.0.checked_add(bytes as u64) == Some((self.offset_of)(number).0)
            };
            let end = (start + 1..past)
                .find(|number| !follows(*number))
                .unwrap_or(past);
            let bytes = &mut buffer[..(end - start) * self.table_bytes];
            self.storage.read_at(offset, bytes)?;
            for (number, table) in (start..end).zip(bytes.chunks_exact(self.table_bytes)) {
                worker.table(number, table)?;
            }
            start = end;
        }
        worker.end_of_batch()
    }
}
