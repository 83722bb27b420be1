//! Which arms of the walk over an image an input reaches: each kind of finding, of referrer, of
//! entry, of refusal and of repair step is one.

use std::collections::BTreeSet;
use std::fmt::Debug;

use recount::{Action, Finding, MemoryStorage, Observer, check, repair};

use recount_oracle::audit::{Unreadable, audit};
use recount_oracle::fuzz::image::{INPUT_MAX, Way};

use crate::engine;

/// All arms that an image of at most [`INPUT_MAX`] bytes can reach, as [`reached`] names them.
pub fn all() -> impl Iterator<Item = &'static str> {
    include_str!("arms.txt").lines()
}

/// Arms that no image of at most [`INPUT_MAX`] bytes can reach.
pub const OUT_OF_REACH: [&str; 1] = ["finding LostTablesNotSought"];

/// The arms that an input reaches.
pub fn reached(input: &[u8]) -> BTreeSet<String> {
    let mut arms = Arms::default();
    if input.len() > INPUT_MAX {
        return arms.0;
    }
    let mut storage = MemoryStorage::growing(input.to_vec());
    if let Err(error) = check(&storage, &mut arms) {
        arms.add("check ends with", &error);
    }
    let options = engine::options(&Way::of(input).options());
    if let Ok(report) = repair(&mut storage, &options, &mut arms) {
        for step in &report.steps {
            arms.add("step", step);
        }
        for damage in &report.kept.examples {
            arms.add("finding", damage);
        }
    }
    match audit(&input) {
        Ok(audit) => {
            for referrer in audit.references.values().flatten() {
                arms.add("referrer", referrer);
            }
            for (_, mapping) in audit.layers.iter().flat_map(|layer| &layer.map) {
                arms.add("entry", mapping);
            }
        }
        Err(Unreadable::NotOpened { field, .. }) => {
            arms.0.insert(format!("not opened for {field}"));
        }
        Err(_) => (),
    }
    arms.0
}

/// Collects names.
#[derive(Default)]
struct Arms(BTreeSet<String>);

impl Arms {
    /// The name of an enum's variant is what its debug form begins with.
    fn add(&mut self, kind: &str, what: &dyn Debug) {
        let text = format!("{what:?}");
        let end = text.find(|letter: char| !letter.is_alphanumeric());
        let name = &text[..end.unwrap_or(text.len())];
        self.0.insert(format!("{kind} {name}"));
    }
}

impl Observer for Arms {
    fn finding(&mut self, finding: &Finding, _action: Action) {
        self.add("finding", finding);
    }
}
