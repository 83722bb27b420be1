//! The explorer finds what is known of the three algorithms by itself, in the order of size, and
//! goes on where it stopped.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::case::Algorithm;
use crate::properties::plan::of_plans;

fn explored(bounds: &Bounds) -> Tally {
    let mut position = Position::default();
    explore(bounds, &mut position, &AtomicBool::new(false), &|_| ());
    assert!(position.complete);
    position.tally
}

#[test]
fn planned_holds_whatever_a_plan_shows() {
    let tally = explored(&Bounds {
        algorithms: vec![Algorithm::Planned],
        clusters_with_old: 9,
        ..Bounds::up_to(9)
    });
    for property in of_plans() {
        let cell = tally.cell(Algorithm::Planned, property);
        assert_eq!(cell.smallest, None, "{property}");
        assert!(cell.holds > 50_000, "{property}: {}", cell.holds);
    }
}

#[test]
fn an_interrupted_exploration_goes_on_where_it_stopped() {
    let bounds = Bounds::up_to(8);
    let whole = explored(&bounds);
    let mut position = Position::default();
    let stop = AtomicBool::new(true);
    let units = units::all(&bounds).len();
    for _ in 0..units {
        // Stopped at once; then one wave at a time.
        let pause = |progress: Progress| stop.store(progress.done > 0, Ordering::Relaxed);
        let before = position.clone();
        explore(&bounds, &mut position, &stop, &pause);
        let text = serde_json::to_string(&position).expect("plain data");
        position = serde_json::from_str(&text).expect("what was written");
        stop.store(false, Ordering::Relaxed);
        if position == before && !position.complete {
            explore(&bounds, &mut position, &stop, &|_| ());
        }
        if position.complete {
            break;
        }
    }
    assert!(position.complete);
    assert_eq!(position.tally, whole);
}
