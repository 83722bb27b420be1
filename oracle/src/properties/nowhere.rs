//! What leads nowhere in an image, by what the audit says of it, and where the entry is that does.

use crate::audit::{Audit, Bytes, Corruption, Referrer, Refusal, Unreadable, Wrong};

/// Bits 9 to 55 of an L1 or L2 entry (specification, "Cluster mapping").
pub(super) const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// Bits 1 to 8 and 56 to 61 of an L2 entry that is not compressed.
const L2_RESERVED: u64 = 0x3f00_0000_0000_01fe;
/// An L2 entry that reads as zeros.
const ZERO: u64 = 1;
const ALLOCATED_SUBCLUSTERS: u64 = 0xffff_ffff;
/// Snapshots of an image, at most.
const SNAPSHOTS_MAX: u64 = 65_536;

/// What first leads nowhere in an image, so that clusters may be in use without a reference.
pub fn nowhere(audit: &Audit, bytes: &dyn Bytes) -> Result<Option<String>, Unreadable> {
    Ok(first_dead_end(audit, bytes)?
        .or_else(|| table_in_header(audit))
        .or_else(|| table_past_the_end(audit)))
}

/// Whether something leads nowhere in an image that a repair has not replaced: an entry that led
/// somewhere before and to no cluster after it does not hide anything.
pub fn leads_nowhere_still(
    audit: &Audit,
    before: &dyn Bytes,
    after: &dyn Bytes,
) -> Result<bool, Unreadable> {
    let mut left = audit.clone();
    left.corruptions.clear();
    for corruption in &audit.corruptions {
        if !is_replaced(audit, before, after, corruption)? {
            left.corruptions.push(corruption.clone());
        }
    }
    Ok(nowhere(&left, before)?.is_some())
}

/// Whether the L2 entry that a corruption is about has lost its offset.
fn is_replaced(
    audit: &Audit,
    before: &dyn Bytes,
    after: &dyn Bytes,
    corruption: &Corruption,
) -> Result<bool, Unreadable> {
    let Some((at, _)) = entry_of(audit, before, corruption)? else {
        return Ok(false);
    };
    let (mut old, mut new) = ([0; 8], [0; 8]);
    before.read(at, &mut old)?;
    after.read(at, &mut new)?;
    Ok(u64::from_be_bytes(old) & OFFSET != 0 && u64::from_be_bytes(new) & OFFSET == 0)
}

/// The first entry that leads nowhere. Those with reserved bits are followed by their offset, and
/// those that hold no data lead nowhere by right.
fn first_dead_end(audit: &Audit, bytes: &dyn Bytes) -> Result<Option<String>, Unreadable> {
    for corruption in audit.leads_nowhere() {
        let followed = match (corruption.referrer, corruption.wrong) {
            // What a number of snapshots that is too large takes for some are none.
            (Referrer::Data { .. }, Wrong::Reserved { .. })
            | (
                Referrer::SnapshotTable,
                Wrong::Unreadable {
                    refusal: Refusal::SnapshotCount { .. },
                },
            ) => true,
            (_, Wrong::Reserved { entry }) => entry & OFFSET != 0,
            // Whatever more there are of, they are no snapshots.
            (
                Referrer::SnapshotTable,
                Wrong::Unreadable {
                    refusal: Refusal::Table { .. },
                },
            ) => audit.header.snapshots > SNAPSHOTS_MAX,
            _ => is_empty_and_astray(audit, bytes, corruption)?,
        };
        if !followed {
            return Ok(Some(corruption.to_string()));
        }
    }
    Ok(None)
}

/// A table with a cluster behind the end of the file. qemu counts that cluster and reads zeros.
fn table_past_the_end(audit: &Audit) -> Option<String> {
    let is_table = |by: &&Referrer| {
        matches!(
            by,
            Referrer::L1 { .. }
                | Referrer::L2 { .. }
                | Referrer::SnapshotTable
                | Referrer::BitmapDirectory
                | Referrer::BitmapTable { .. }
        )
    };
    let end = audit.length.div_ceil(audit.header.cluster_size());
    let mut behind = audit.references.range(end..);
    let table = behind.find_map(|(_, by)| by.iter().find(is_table))?;
    Some(format!("{table} leads past the end of the file"))
}

/// A table that is said to be where the header is, and thus is not known.
fn table_in_header(audit: &Audit) -> Option<String> {
    if takes_header_for_snapshot_table(audit) {
        return Some("the snapshot table is said to be the header".to_owned());
    }
    let in_header = |offset: u64| offset < audit.header.cluster_size();
    let mut layers = audit.layers.iter();
    let layer = layers.find(|layer| layer.l1_entries > 0 && in_header(layer.l1_offset))?;
    Some(format!(
        "the L1 table of {} is said to be the header",
        layer.id
    ))
}

/// Whether the snapshot table is said to be where the header is.
#[must_use]
pub const fn takes_header_for_snapshot_table(audit: &Audit) -> bool {
    let header = &audit.header;
    header.snapshots > 0 && header.snapshots_offset < header.cluster_size()
}

/// Whether something leads into the header, which is then read as a table: a repair that writes its
/// new pointer changes what that table says.
#[must_use]
pub fn takes_header_for_a_table(audit: &Audit) -> bool {
    let referrers = audit.references.get(&0);
    referrers.is_some_and(|by| by.len() > 1) || table_in_header(audit).is_some()
}

/// Whether a corruption is an L2 entry that reads as zeros and has an offset inside a cluster. A
/// repair replaces it by one without an offset: what lies there is not its own.
pub(super) fn is_empty_and_astray(
    audit: &Audit,
    bytes: &dyn Bytes,
    corruption: &Corruption,
) -> Result<bool, Unreadable> {
    if !matches!(corruption.wrong, Wrong::Unaligned { .. }) {
        return Ok(false);
    }
    let Some((at, length)) = entry_of(audit, bytes, corruption)? else {
        return Ok(false);
    };
    let mut word = [0; 8];
    bytes.read(at, &mut word)?;
    if u64::from_be_bytes(word) & L2_RESERVED != 0 {
        // It may have been anything, compressed data for one.
        return Ok(false);
    }
    bytes.read(at + length - 8, &mut word)?;
    let word = u64::from_be_bytes(word);
    Ok(if length == 16 {
        word & ALLOCATED_SUBCLUSTERS == 0
    } else {
        word & ZERO != 0
    })
}

/// The L2 entry that a corruption names: byte position and length.
pub(super) fn entry_of(
    audit: &Audit,
    bytes: &dyn Bytes,
    corruption: &Corruption,
) -> Result<Option<(u64, u64)>, Unreadable> {
    match corruption.referrer {
        Referrer::Data { .. } => position_of(audit, bytes, corruption.referrer),
        _ => Ok(None),
    }
}

/// The L1 or L2 entry that a referrer is: byte position and length.
pub(super) fn position_of(
    audit: &Audit,
    bytes: &dyn Bytes,
    referrer: Referrer,
) -> Result<Option<(u64, u64)>, Unreadable> {
    let (layer, l1_index, l2_index) = match referrer {
        Referrer::L2 { layer, l1_index } => (layer, l1_index, None),
        Referrer::Data {
            layer,
            l1_index,
            l2_index,
        }
        | Referrer::Compressed {
            layer,
            l1_index,
            l2_index,
        } => (layer, l1_index, Some(l2_index)),
        _ => return Ok(None),
    };
    let Some(layer) = audit.layers.iter().find(|other| other.id == layer) else {
        return Ok(None);
    };
    let l1_entry = layer.l1_offset + l1_index * 8;
    let Some(l2_index) = l2_index else {
        return Ok(Some((l1_entry, 8)));
    };
    let mut entry = [0; 8];
    bytes.read(l1_entry, &mut entry)?;
    let table = u64::from_be_bytes(entry) & OFFSET;
    let length = if audit.header.extended_l2() { 16 } else { 8 };
    Ok(table.checked_add(l2_index * length).map(|at| (at, length)))
}
