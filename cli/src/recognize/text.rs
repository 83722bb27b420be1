//! Text where an image should be: what a failed download leaves.

/// Bytes at the start that have to be text.
const LOOKED_AT: usize = 4096;

/// Characters of the first line that are shown.
const SHOWN: usize = 60;

/// A file of text.
#[derive(Debug, PartialEq, Eq)]
pub struct Text {
    /// What it is, as it stands in "not a qcow2 image but ...".
    pub name: &'static str,
    /// The first line that is not blank: escaped, so that it cannot command a terminal, and cut.
    pub first_line: String,
}

impl Text {
    /// `None` where the first bytes are no text in UTF-8, or blank.
    pub fn of(start: &[u8]) -> Option<Self> {
        let head = &start[..start.len().min(LOOKED_AT)];
        let text = match std::str::from_utf8(head) {
            Ok(text) => text,
            // The last character goes on behind what was looked at.
            Err(error) if error.error_len().is_none() && start.len() > LOOKED_AT => {
                std::str::from_utf8(&head[..error.valid_up_to()]).ok()?
            }
            Err(_) => return None,
        };
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let is_control = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\x0c');
        if text.contains(is_control) {
            return None;
        }
        let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
        Some(Self {
            name: name(line),
            first_line: shown(line),
        })
    }
}

fn name(line: &str) -> &'static str {
    let begins_with = |what: &str| {
        let there = line.get(..what.len());
        there.is_some_and(|there| there.eq_ignore_ascii_case(what))
    };
    if begins_with("<!doctype html") || begins_with("<html") {
        "an HTML page"
    } else if begins_with("<?xml") {
        "an XML file"
    } else {
        "a text file"
    }
}

/// Quotes stay as they are, as in paths. Escapes come whole or not at all.
fn shown(line: &str) -> String {
    const CUT: &str = "...";
    let mut shown = String::new();
    let mut length = 0;
    let mut fits = 0;
    for character in line.chars() {
        let escaped = match character {
            '\'' | '"' => character.to_string(),
            other => other.escape_debug().to_string(),
        };
        length += escaped.chars().count();
        if length > SHOWN {
            shown.truncate(fits);
            return shown + CUT;
        }
        shown += &escaped;
        if length <= SHOWN - CUT.len() {
            fits = shown.len();
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::{LOOKED_AT, SHOWN, Text};

    fn first_line(bytes: &[u8]) -> Option<String> {
        Text::of(bytes).map(|text| text.first_line)
    }

    #[test]
    fn a_line_of_60_characters_is_whole_and_a_longer_one_is_cut_to_60() {
        let line = "a".repeat(SHOWN);
        assert_eq!(first_line(line.as_bytes()), Some(line.clone()));
        let cut = first_line((line + "a").as_bytes()).expect("text");
        assert_eq!(cut, "a".repeat(SHOWN - 3) + "...");
    }

    #[test]
    fn escapes_are_never_cut() {
        for length in 50..SHOWN {
            let line = "a".repeat(length) + &"\u{202e}".repeat(20);
            let shown = first_line(line.as_bytes()).expect("text");
            let rest = shown.trim_start_matches('a').replace("\\u{202e}", "");
            assert!(shown.chars().count() <= SHOWN, "{shown}");
            assert_eq!(rest, "...", "{shown}");
        }
    }

    #[test]
    fn a_character_that_the_part_looked_at_ends_in_is_no_reason_not_to_be_text() {
        for before in 0..4 {
            let line = "a".repeat(LOOKED_AT - before) + "\u{1f980} and so on";
            assert!(first_line(line.as_bytes()).is_some(), "{before}");
        }
        assert_eq!(first_line(b"an end in a character \xf0\x9f"), None);
    }

    #[test]
    fn blanks_and_control_characters_are_no_text() {
        for bytes in [
            &b""[..],
            b" \n\t\r\n",
            b"text\0",
            b"\x1b[31mred",
            b"\xff\xfe",
        ] {
            assert_eq!(Text::of(bytes), None, "{bytes:?}");
        }
    }
}
