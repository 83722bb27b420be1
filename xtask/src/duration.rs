//! Times on the command line.

use std::time::Duration;

/// Reads 90, 90s, 5m or 1h.
pub fn parse(text: &str) -> Result<Duration, String> {
    let with = |suffix, unit| Some((text.strip_suffix(suffix)?, unit));
    let (number, unit) = with('h', 3600)
        .or_else(|| with('m', 60))
        .or_else(|| with('s', 1))
        .unwrap_or((text, 1));
    let number = number.parse::<u64>();
    let seconds = number.ok().and_then(|number| number.checked_mul(unit));
    let seconds = seconds.ok_or_else(|| format!("`{text}` is not a time such as 90s, 5m or 1h"))?;
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_minutes_and_hours_are_read() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("5m", 300), ("1h", 3600)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)));
        }
        assert!(parse("1d").is_err());
    }
}
