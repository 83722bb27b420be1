//! A damaged image as the oracle sees it, before anyone repairs it.

use recount_oracle::audit::{self, Audit};
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::class::{self, Class, Diagnosis};

/// What is known of a damaged image.
pub struct Patient {
    /// What a check finds; `None` where the image cannot be opened, or takes the naive reader too
    /// long. Of such an image only what a check says is compared.
    pub audit: Option<Audit>,
    /// What is damaged.
    pub diagnosis: Option<Diagnosis>,
}

impl Patient {
    /// Reads an image.
    pub fn new(image: &SparseBytes) -> Self {
        let audit = audit::audit(image).ok();
        let diagnosis = audit.as_ref();
        let diagnosis = diagnosis.and_then(|audit| class::diagnose_audited(image, audit).ok());
        Self { audit, diagnosis }
    }

    /// The class, on which it depends what is compared.
    pub fn class(&self) -> Option<Class> {
        self.diagnosis.as_ref().map(|diagnosis| diagnosis.class)
    }

    /// Whether nothing may be released, because something is damaged that may hide what is in use.
    pub fn keeps(&self) -> bool {
        let diagnosis = self.diagnosis.as_ref();
        diagnosis.is_some_and(|diagnosis| !diagnosis.damage.is_empty())
    }
}
