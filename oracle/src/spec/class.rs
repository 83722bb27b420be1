//! What is wrong with an image, before anything is repaired.

use std::collections::BTreeMap;

use super::{Ask, Class, Damage, Spec, own_audit};
use crate::audit::{Audit, Bytes, Referrer, Unreadable, audit};
use crate::case::Algorithm;

/// What is wrong with what refers to clusters, and what is not released because of it.
#[derive(Clone, Debug)]
pub struct Diagnosis {
    /// Whether only refcounts can be wrong.
    pub class: Class,
    /// What is damaged.
    pub damage: Vec<Damage>,
    /// Clusters whose refcount is above their references, and stays: their refcounts.
    pub kept: BTreeMap<u64, u64>,
}

/// The class of an image. Overlaps with refcount structures count too, and so does a snapshot table
/// that is not all there: qemu-img and recount need not repair these alike.
pub fn class(image: &dyn Bytes) -> Result<Class, Unreadable> {
    Ok(diagnose(image)?.class)
}

/// What is wrong with an image.
pub fn diagnose(image: &dyn Bytes) -> Result<Diagnosis, Unreadable> {
    diagnose_audited(image, &audit(image)?)
}

/// The same, of an image that was audited as a check sees it.
pub fn diagnose_audited(image: &dyn Bytes, seen: &Audit) -> Result<Diagnosis, Unreadable> {
    let ask = Ask {
        only_leaks: false,
        algorithm: Algorithm::Planned,
        reuse_old: false,
        release_unreachable: false,
        capacity: None,
    };
    let own = own_audit(image, seen)?;
    let spec = Spec::new(image, &ask, seen, &own)?;
    let replaced = spec.replaced()?;
    let references = spec.references(&replaced);
    let damage = spec.damage(&replaced, &references)?;
    let (_, kept) = spec.final_counts(&references, !damage.is_empty(), false);
    let whole = seen.blocked.is_none() && seen.snapshots.ends.is_none() && !seen.snapshots.past_end;
    let overlaps = own.references.values().any(|uses| {
        let structures = uses.iter().filter(|use_| use_.is_structure()).count();
        let tables = uses.iter().filter(|use_| **use_ == Referrer::Reftable);
        let tables = tables.count();
        structures > 0 && (structures < uses.len() || tables > 0 && tables < uses.len())
    });
    let sound = damage.is_empty() && whole && !overlaps;
    Ok(Diagnosis {
        class: if sound { Class::Sound } else { Class::Damaged },
        damage,
        kept,
    })
}
