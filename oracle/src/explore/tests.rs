//! The explorer finds what is known by itself, and says where it was stopped.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::case::Algorithm;
use crate::properties::Property;
use crate::properties::plan::of_plans;

#[test]
fn planned_holds_whatever_a_plan_shows() {
    let bounds = Bounds {
        algorithms: vec![Algorithm::Planned],
        clusters_with_old: 9,
        ..Bounds::up_to(9)
    };
    let never = AtomicBool::new(false);
    let explored = explore(recount::rebuild::plan, &bounds, &never, &|_| ());
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
    let second = |progress: Progress| stop.store(progress.done > 0, Ordering::Relaxed);
    let bounds = Bounds {
        images: false,
        clusters_with_bytes: 0,
        ..Bounds::up_to(12)
    };
    let explored = explore(recount::rebuild::plan, &bounds, &stop, &second);
    let next = units::all(&bounds)[WAVE].clusters;
    assert_eq!(explored.stopped, Some(next));
    let cell = explored
        .tally
        .cell(Algorithm::Planned, Property::FitsWhenPossible);
    assert!(cell.holds > 0 && explored.tally.runs >= cell.holds);
}
