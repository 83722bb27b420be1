//! The planners over tables of growing size, and each way of using clusters.

mod time;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use recount::rebuild::{Input, plan};
use recount::{Algorithm, Geometry, RunSet};
use recount_benches::{Pattern, is_quick};
use time::brief;

const SIZES: [u64; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];
/// The largest in quick mode: making the larger tables takes longer than planning.
const QUICK_MAX: u64 = 100_000;
const ALGORITHMS: [(&str, Algorithm); 3] = [
    ("planned", Algorithm::Planned),
    ("first-fit", Algorithm::FirstFit),
    ("tail", Algorithm::Tail),
];

fn planners(criterion: &mut Criterion) {
    let geometry = Geometry::new(16, 4).expect("valid");
    let none = RunSet::new();
    let mut group = criterion.benchmark_group("planners");
    brief(&mut group);
    for pattern in Pattern::ALL {
        for size in SIZES {
            if is_quick() && size > QUICK_MAX {
                continue;
            }
            let (references, file) = pattern.table(geometry, size);
            group.throughput(Throughput::Elements(size));
            let input = Input {
                references: &references,
                reserved: &none,
                file,
                capacity: None,
            };
            for (name, algorithm) in ALGORITHMS {
                let id = BenchmarkId::new(format!("{name}/{}", pattern.name()), size);
                group.bench_function(id, |bencher| {
                    bencher.iter(|| black_box(plan(algorithm, &input)));
                });
            }
        }
    }
    group.finish();
}

criterion_group!(benches, planners);
criterion_main!(benches);
