//! The class of a damaged image, on which it depends what is compared with qemu-img.

use itertools::Itertools;

use crate::audit::{Audit, Referrer, Unreadable, audit_beside_the_header};
use crate::case::damage::SparseBytes;
use crate::spec::{Counts, Damage, Spec};
use crate::subject::Ask;

/// Whether only refcounts can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Only refcounts, leaks, COPIED, dirty and corrupt bits can be wrong.
    Sound,
    /// Something that refers to clusters is wrong.
    Damaged,
}

/// What is wrong with what refers to clusters, and what is not released because of it.
#[derive(Clone, Debug)]
pub struct Diagnosis {
    /// Whether only refcounts can be wrong. Overlaps with refcount structures count too, and so does
    /// a snapshot table that is not all there: qemu-img and recount need not repair these alike.
    pub class: Class,
    /// What is damaged.
    pub damage: Vec<Damage>,
    /// Clusters whose refcount is above their references, and stays: their refcounts.
    pub kept: Counts,
}

/// What is wrong with an image that was audited as a check sees it, before anything is repaired.
pub fn diagnose(image: &SparseBytes, seen: &Audit) -> Result<Diagnosis, Unreadable> {
    let ask = Ask::default();
    let beside;
    let own = if seen.header_is_table {
        beside = audit_beside_the_header(image)?;
        &beside
    } else {
        seen
    };
    let Spec { damage, kept, .. } = Spec::new(image, &ask, own);
    let whole = seen.blocked == 0 && !seen.snapshots.past_end;
    let overlap = seen.references.values().any(|uses| {
        let structure = uses.iter().any(Referrer::is_structure);
        structure && !uses.iter().map(std::mem::discriminant).all_equal()
    });
    let sound = damage.is_empty() && whole && !overlap;
    Ok(Diagnosis {
        class: if sound { Class::Sound } else { Class::Damaged },
        damage,
        kept,
    })
}
