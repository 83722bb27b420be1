//! Whole images of each kind in files: the walk alone, and a check and both sorts of repair from
//! end to end.

mod time;

use std::hint::black_box;
use std::path::Path;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use recount::{Access, FileStorage, HeaderTables, Image, RepairOptions, Walker, check, repair};
use recount_benches::{ImageFile, Kind, Task, is_quick};
use time::brief;

/// Guest clusters of an image.
const CLUSTERS: u32 = 20_000;
/// The same in quick mode.
const QUICK_CLUSTERS: u32 = 2_000;

fn images(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut group = criterion.benchmark_group("images");
    brief(&mut group);
    let clusters = if is_quick() { QUICK_CLUSTERS } else { CLUSTERS };
    group.throughput(Throughput::Elements(u64::from(clusters)));
    for kind in Kind::ALL {
        let image = ImageFile::create(kind, clusters, directory.path());
        let image = image.expect("an image that is possible, and room for it");
        let id = |what: &str| BenchmarkId::new(format!("{what}/{}", kind.name()), clusters);
        group.bench_function(id("check"), |bencher| {
            bencher.iter(|| check_file(image.path()));
        });
        group.bench_function(id("walk"), |bencher| {
            let storage = open(image.path());
            bencher.iter(|| walk(&storage));
        });
        for task in [Task::RepairInPlace, Task::Rebuild] {
            let broken = image.to_repair(task);
            group.bench_function(id(task.name()), |bencher| {
                bencher.iter_batched(
                    || broken.damage().expect("a file that can be written"),
                    |()| repair_file(broken.path()),
                    BatchSize::PerIteration,
                );
            });
        }
    }
    group.finish();
}

fn open(path: &Path) -> FileStorage {
    FileStorage::open(path, Access::ReadUnlocked).expect("an image")
}

fn walk(storage: &FileStorage) {
    let image = Image::open(storage).expect("an image");
    let references = Walker::walk(&image, storage, HeaderTables::Followed, &mut ());
    assert_eq!(black_box(references).expect("a walk").corruptions, 0);
}

fn check_file(path: &Path) {
    let report = check(&open(path), &mut ()).expect("a check that completes");
    assert!(black_box(report).is_clean());
}

fn repair_file(path: &Path) {
    let mut storage = FileStorage::open(path, Access::Write).expect("an image");
    let outcome = repair(&mut storage, &RepairOptions::default(), &mut ()).expect("a repair");
    assert!(black_box(outcome).report.is_clean());
}

criterion_group!(benches, images);
criterion_main!(benches);
