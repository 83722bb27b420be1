//! Reads, writes, flushes, tries and memory of each scenario, kept in a file.

use recount_benches::counts;

/// Writes the file anew and prints what changed.
pub fn write() -> Result<(), String> {
    // A file that is not there yet has no numbers.
    let before = counts::kept().unwrap_or_default();
    let after = counts::all()?;
    for change in counts::changes(&before, &after) {
        println!("{change}");
    }
    counts::keep(&after)?;
    println!("{} scenarios in {}", after.len(), counts::path().display());
    Ok(())
}
