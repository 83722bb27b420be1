//! What a case begins with, and who repairs it.

use super::{Before, ImageRepair, Repair, ToyRepair};
use crate::case::{Case, Image};

/// Why a case cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum SceneError {
    /// It was taken for a toy, and has an image of another kind.
    #[error("the case is no toy: its image is not a model")]
    NotAToy,
    /// It cannot be built.
    #[error("the image of this case cannot be built: {0}")]
    Build(#[from] crate::case::Impossible),
    /// It cannot be audited, and so not repaired.
    #[error(transparent)]
    Unreadable(#[from] crate::audit::Unreadable),
    /// The engine has no such geometry.
    #[error(transparent)]
    Geometry(#[from] recount::GeometryError),
    /// The engine has not enough memory.
    #[error(transparent)]
    OutOfMemory(#[from] recount::OutOfMemory),
}

/// What a case begins with, and who repairs it.
pub fn scene(case: &Case) -> Result<(Before, Box<dyn Repair>), SceneError> {
    if matches!(case.image, Image::Model(_)) {
        let (before, repair) = ToyRepair::new(case)?;
        return Ok((before, Box::new(repair)));
    }
    let (before, repair) = ImageRepair::new(case)?;
    Ok((before, Box::new(repair)))
}
