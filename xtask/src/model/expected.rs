//! The verdicts that are known, checked in: an exploration that finds others has found something.

use std::collections::BTreeMap;

use recount_oracle::explore::{Bounds, Explored};
use recount_oracle::properties::Property;

use super::table;
use crate::error::{At as _, Result};

/// The text of the table, from the checked-in file.
const TEXT: &str = include_str!("../../../corpus/expected.toml");

/// The properties that each algorithm is known to fail, by its name.
pub struct Expected {
    fails: BTreeMap<String, Vec<Property>>,
}

impl Expected {
    pub fn read() -> Result<Self> {
        let fails = toml::from_str(TEXT).at("corpus/expected.toml")?;
        Ok(Self { fails })
    }

    /// Where the verdicts are others. A known failure that an incomplete or smaller exploration
    /// has not come to is none of them.
    pub fn differences(&self, bounds: &Bounds, explored: &Explored) -> Vec<String> {
        let whole = explored.stopped.is_none()
            && bounds.clusters >= Bounds::DEFAULT_CLUSTERS
            && bounds.images
            && bounds.clusters_with_bytes > 0;
        let mut differences = Vec::new();
        for &algorithm in &bounds.algorithms {
            let name = table::name(algorithm);
            let known = self.fails.get(name);
            for &property in &bounds.properties {
                let known = known.is_some_and(|fails| fails.contains(&property));
                let cell = explored.tally.cell(algorithm, property);
                if cell.fails > 0 && !known {
                    differences.push(format!("{name} fails {property}"));
                } else if cell.fails == 0 && known && whole {
                    differences.push(format!("{name} is known to fail {property}, but holds it"));
                }
            }
        }
        differences
    }
}
