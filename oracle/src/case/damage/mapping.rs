//! Damage to the tables that lead to guest data.

use std::io;

use super::find::COMPRESSED;
use super::{Pen, PointerDamage};
use crate::case::Pick;

pub(super) fn l1_entry(
    pen: &mut Pen<'_>,
    table: Pick,
    entry: Pick,
    becomes: PointerDamage,
) -> io::Result<()> {
    let mut tables = pen.found.l1_tables.iter().map(|table| &table.entries);
    let with_entries: Vec<_> = tables.by_ref().filter(|all| !all.is_empty()).collect();
    let Some(entries) = table
        .of(with_entries.len())
        .map(|index| with_entries[index])
    else {
        return Ok(());
    };
    let chosen = entries[entry.of(entries.len()).unwrap_or_default()];
    pen.write_be64(chosen.at, becomes.of(chosen.value, pen.found))
}

pub(super) fn l2_entry(pen: &mut Pen<'_>, entry: Pick, becomes: PointerDamage) -> io::Result<()> {
    let Some(index) = entry.of(pen.found.l2_entries.len()) else {
        return Ok(());
    };
    let chosen = pen.found.l2_entries[index];
    pen.write_be64(chosen.at, becomes.of(chosen.value, pen.found))
}

pub(super) fn compressed(pen: &mut Pen<'_>, entry: Pick, bit: u8) -> io::Result<()> {
    let mut entries = pen.found.l2_entries.clone();
    entries.retain(|entry| entry.value & COMPRESSED != 0);
    let Some(index) = entry.of(entries.len()) else {
        return Ok(());
    };
    pen.write_be64(entries[index].at, entries[index].value ^ (1 << (bit % 62)))
}

pub(super) fn subclusters(
    pen: &mut Pen<'_>,
    entry: Pick,
    allocated: u32,
    zero: u32,
) -> io::Result<()> {
    let Some(index) = entry.of(pen.found.l2_entries.len()) else {
        return Ok(());
    };
    if !pen.found.extended_l2 {
        return Ok(());
    }
    // Low half: subclusters that are allocated; high half: that read as zeros.
    let bitmap = u64::from(allocated) | u64::from(zero) << 32;
    pen.write_be64(pen.found.l2_entries[index].at + 8, bitmap)
}
