//! Times on the command line.

use std::time::Duration;

/// Reads 90, 90s or 5m.
pub fn parse(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    let number = number.parse::<u64>();
    let seconds = number.ok().and_then(|number| number.checked_mul(unit));
    let seconds = seconds.ok_or_else(|| format!("`{text}` is not a time such as 90s or 5m"))?;
    Ok(Duration::from_secs(seconds))
}
