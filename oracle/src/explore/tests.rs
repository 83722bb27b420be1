//! The explorer says where it was stopped. Of the program it is no matter.

use super::*;
use crate::case::model::Model;
use crate::case::{Algorithm, StorageLimit};
use crate::placement::{NoPlacement, Placement};
use crate::properties::Property;
use crate::subject::{Options, Repair, Undo};

/// Finds no room anywhere, and repairs no image.
struct Helpless;

impl Subject for Helpless {
    fn place(
        &self,
        _algorithm: Algorithm,
        _toy: &Model,
        _storage: StorageLimit,
    ) -> Result<Placement, NoPlacement> {
        Err(NoPlacement::NoRoom("no room".to_owned()))
    }

    fn images(&self, _options: Options) -> Box<dyn Repair + '_> {
        unreachable!("only toys are looked at")
    }

    fn undo(&self) -> Option<&dyn Undo> {
        None
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
    let explored = explore(&Helpless, &bounds, &stop, &second);
    let next = units::all(&bounds)[WAVE].clusters;
    assert_eq!(explored.stopped, Some(next));
    let cell = explored
        .tally
        .cell(Algorithm::Planned, Property::FitsWhenPossible);
    assert!(cell.holds > 0 && explored.tally.runs >= cell.holds);
}
