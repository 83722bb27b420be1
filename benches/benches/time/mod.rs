//! How long a bench may take.

use std::time::Duration;

use criterion::BenchmarkGroup;
use criterion::measurement::WallTime;

/// Few samples and little time for each bench: there are many of them.
pub fn brief(group: &mut BenchmarkGroup<'_, WallTime>) {
    group.sample_size(10);
    group.warm_up_time(Duration::from_millis(100));
    group.measurement_time(Duration::from_millis(500));
}

/// Whether criterion was told to be quick: `cargo bench -p recount-benches -- --quick`.
#[allow(dead_code, reason = "not every bench has sizes to choose from")]
pub fn is_quick() -> bool {
    std::env::args().any(|argument| argument == "--quick")
}
