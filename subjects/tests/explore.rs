//! The explorer finds what is known by itself, and says where it was stopped.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use recount_oracle::case::Algorithm;
use recount_oracle::explore::{Bounds, Progress, explore};
use recount_oracle::properties::Property;
use recount_oracle::properties::plan::of_plans;
use recount_subjects::Recount;

#[test]
fn planned_holds_whatever_a_plan_shows() {
    let bounds = Bounds {
        algorithms: vec![Algorithm::Planned],
        clusters_with_old: 9,
        ..Bounds::up_to(9)
    };
    let never = AtomicBool::new(false);
    let explored = explore(&Recount, &bounds, &never, &|_| ());
    assert_eq!(explored.stopped, None);
    for property in of_plans() {
        let cell = explored.tally.cell(Algorithm::Planned, property);
        assert_eq!(cell.smallest, None, "{property}");
        assert!(cell.holds > 50_000, "{property}: {}", cell.holds);
    }
}

#[test]
fn an_exploration_that_is_stopped_says_where_and_what_it_found_until_then() {
    let stop = AtomicBool::new(false);
    let next = AtomicU32::new(0);
    let second = |progress: Progress| {
        next.store(progress.clusters, Ordering::Relaxed);
        stop.store(progress.done > 0, Ordering::Relaxed);
    };
    let bounds = Bounds {
        images: false,
        clusters_with_bytes: 0,
        ..Bounds::up_to(12)
    };
    let explored = explore(&Recount, &bounds, &stop, &second);
    let next = next.into_inner();
    assert!(next > 1, "the second wave has larger files");
    assert_eq!(explored.stopped, Some(next));
    let cell = explored
        .tally
        .cell(Algorithm::Planned, Property::FitsWhenPossible);
    assert!(cell.holds > 0 && explored.tally.runs >= cell.holds);
}
