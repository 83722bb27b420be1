//! What a case begins with, and who repairs it.

use super::{Before, ToyRepair};
use crate::case::{Case, Image};
use crate::subject::{Options, Repair, Subject};

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
    /// The program knows no tables of this size.
    #[error("{0}")]
    Unsupported(String),
}

/// What a case begins with, and how a program repairs it.
pub fn scene<'a>(
    subject: &'a dyn Subject,
    case: &Case,
) -> Result<(Before, Box<dyn Repair + 'a>), SceneError> {
    if matches!(case.image, Image::Model(_)) {
        let (before, repair) = ToyRepair::new(subject, case)?;
        return Ok((before, Box::new(repair)));
    }
    let options = Options::by(case.algorithm);
    Ok((Before::of(case)?, subject.images(options)))
}
