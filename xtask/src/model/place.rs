//! The file in which an interrupted exploration says how to go on.

use std::error::Error;
use std::path::Path;

use recount_oracle::explore::{Bounds, Position, clusters_at};
use serde::{Deserialize, Serialize};

/// What is explored, and how far that has come.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    pub bounds: Bounds,
    pub position: Position,
}

impl Place {
    pub fn read(file: &Path) -> Result<Self, Box<dyn Error>> {
        let text = std::fs::read_to_string(file)
            .map_err(|error| format!("{}: {error}", file.display()))?;
        let place = serde_json::from_str(&text);
        Ok(place.map_err(|error| {
            format!(
                "{}: {error}; expected what `cargo xtask model` left there",
                file.display()
            )
        })?)
    }

    pub fn write(&self, file: &Path) -> Result<(), Box<dyn Error>> {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let text = serde_json::to_string(self)?;
        Ok(std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))?)
    }

    /// The size of the files that are next.
    pub fn clusters(&self) -> u32 {
        clusters_at(&self.bounds, &self.position)
    }
}
