//! How many planner runs a second the explorer judges, and cases a second that bytes are decoded to.

mod time;

use std::cell::Cell;
use std::hint::black_box;
use std::sync::atomic::AtomicBool;

use arbitrary::Unstructured;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use recount_oracle::case::Case;
use recount_oracle::explore::{Bounds, explore};
use recount_subjects::Recount;
use time::brief;

/// Files of up to this many clusters are explored.
const CLUSTERS: u32 = 5;
/// Bytes that a case is decoded from.
const CASE_BYTES: u32 = 4096;

fn bounds() -> Bounds {
    Bounds {
        images: false,
        clusters_with_bytes: 0,
        ..Bounds::up_to(CLUSTERS)
    }
}

/// Explores everything within the bounds; how many planner runs that took.
fn explore_all() -> u64 {
    let never = AtomicBool::new(false);
    let explored = explore(&Recount, &bounds(), &never, &|_| ());
    assert_eq!(explored.stopped, None);
    explored.tally.runs
}

fn explorer(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("explorer");
    brief(&mut group);
    group.throughput(Throughput::Elements(explore_all()));
    group.bench_function("planner-runs", |bencher| bencher.iter(explore_all));
    group.finish();
}

fn decoding(criterion: &mut Criterion) {
    let bytes: Vec<u8> = (0..CASE_BYTES)
        .map(|index| (index * 31 % 251) as u8)
        .collect();
    let first = Cell::new(0);
    let mut group = criterion.benchmark_group("case");
    brief(&mut group);
    group.throughput(Throughput::Elements(1));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            // A different case each time.
            first.set((first.get() + 1) % (bytes.len() / 2));
            let mut input = Unstructured::new(&bytes[first.get()..]);
            black_box(input.arbitrary::<Case>())
        });
    });
    group.finish();
}

criterion_group!(benches, explorer, decoding);
criterion_main!(benches);
