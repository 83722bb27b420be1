//! The table of counts at each width: adding, comparing with a refblock, looking for free clusters.

mod time;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use recount::{Cluster, ClusterCount, Geometry, RefblockIndex, RefcountTable, Run};
use time::brief;

const CLUSTERS: u64 = 1 << 20;

fn widths() -> impl Iterator<Item = (u32, Geometry)> {
    (0..=6).filter_map(|order| Some((1 << order, Geometry::new(16, order).ok()?)))
}

fn table(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("table");
    brief(&mut group);
    group.throughput(Throughput::Elements(CLUSTERS));
    for (bits, geometry) in widths() {
        group.bench_function(BenchmarkId::new("increment", bits), |bencher| {
            bencher.iter(|| {
                let mut table = RefcountTable::new(geometry);
                for first in (0..CLUSTERS).step_by(8192) {
                    let run = Run::new(Cluster(first), ClusterCount(8192));
                    black_box(table.add(run, 1)).expect("memory");
                }
                table
            });
        });
        let mut full = RefcountTable::new(geometry);
        full.add(Run::new(Cluster(0), ClusterCount(CLUSTERS)), 1)
            .expect("memory");
        let mut bytes = vec![0; geometry.refblock_bytes()];
        group.bench_function(BenchmarkId::new("compare", bits), |bencher| {
            bencher.iter(|| {
                let refblocks = full.used_refblocks().count() as u64;
                (0..refblocks)
                    .filter(|refblock| {
                        full.encode(RefblockIndex(*refblock), &mut bytes);
                        black_box(&bytes).first() == Some(&1)
                    })
                    .count()
            });
        });
        group.bench_function(BenchmarkId::new("scan", bits), |bencher| {
            bencher.iter(|| black_box(full.next_free(Cluster(0))));
        });
    }
    group.finish();
}

criterion_group!(benches, table);
criterion_main!(benches);
