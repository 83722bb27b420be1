//! The file in which an interrupted exploration says how to go on.

use std::path::Path;

use recount_oracle::explore::{Bounds, Position, clusters_at};
use serde::{Deserialize, Serialize};

use crate::error::{At as _, Result};

/// What is explored, and how far that has come.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    pub bounds: Bounds,
    pub position: Position,
}

impl Place {
    pub fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file).at(file.display())?;
        serde_json::from_str(&text).at(format!(
            "{} is not what `cargo xtask model` left there",
            file.display()
        ))
    }

    pub fn write(&self, file: &Path) -> Result<()> {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(file, serde_json::to_string(self)?).at(file.display())
    }

    /// The size of the files that are next.
    pub fn clusters(&self) -> u32 {
        clusters_at(&self.bounds, &self.position)
    }
}
