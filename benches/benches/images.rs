//! Whole images of each kind: the check in memory, check and repair on files, and decoding a case.

use std::fs;
use std::hint::black_box;
use std::path::Path;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use recount::{FileStorage, Locking, MemoryStorage, RepairOptions, check, repair};
use recount_benches::Kind;
use recount_oracle::case::Case;

const CLUSTERS: u32 = 100_000;
/// Where the header's reftable pointer is: 12 bytes of zeros there make a rebuild necessary.
const REFTABLE_POINTER: std::ops::Range<usize> = 48..60;

fn images(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut group = criterion.benchmark_group("images");
    group.sample_size(10);
    group.throughput(Throughput::Elements(u64::from(CLUSTERS)));
    for kind in Kind::ALL {
        let bytes = kind.image(CLUSTERS).expect("a possible image");
        let memory = MemoryStorage::growing(bytes.clone());
        group.bench_function(BenchmarkId::new("walk", kind.name()), |bencher| {
            bencher.iter(|| black_box(check(&memory, &mut ())));
        });
        let path = directory.path().join(kind.name());
        fs::write(&path, &bytes).expect("room for an image");
        group.bench_function(BenchmarkId::new("check", kind.name()), |bencher| {
            bencher.iter(|| check_file(&path));
        });
        let mut damaged = bytes;
        damaged[REFTABLE_POINTER].fill(0);
        group.bench_function(BenchmarkId::new("repair", kind.name()), |bencher| {
            bencher.iter_batched(
                || fs::write(&path, &damaged).expect("room for an image"),
                |()| repair_file(&path),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn check_file(path: &Path) {
    let storage = FileStorage::open_read_only(path, Locking::Ignored).expect("an image");
    let report = check(&storage, &mut ()).expect("a check that completes");
    assert!(black_box(report).is_clean());
}

fn repair_file(path: &Path) {
    let mut storage = FileStorage::open_read_write(path).expect("an image");
    let outcome = repair(&mut storage, &RepairOptions::default(), &mut ()).expect("a repair");
    assert!(black_box(outcome).report.is_clean());
}

fn decoding(criterion: &mut Criterion) {
    let bytes: Vec<u8> = (0..4096_u32)
        .map(|index| (index * 31 % 251) as u8)
        .collect();
    criterion.bench_function("case/decode", |bencher| {
        bencher.iter(|| {
            let mut input = arbitrary::Unstructured::new(&bytes);
            black_box(input.arbitrary::<Case>())
        });
    });
}

criterion_group!(benches, images, decoding);
criterion_main!(benches);
