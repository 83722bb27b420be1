//! The message about a refcount that is too low. An image that has lost its refcounts has one of
//! these for each cluster, and putting numbers into words would be most of the work. The next
//! cluster's differs by one digit nearly always, so the line counts on like an odometer.

use recount::{Cluster, Finding};

/// Room for a line: a fixed number of bytes is copied in a few instructions. One with the largest
/// numbers has more, and is put into words each time.
const LINE_BYTES: usize = 64;

const BEFORE: &str = "ERROR cluster ";

/// The message of the last cluster.
pub struct TooLowLine {
    /// The line, but for the last digit of the cluster's number.
    text: [u8; LINE_BYTES],
    length: usize,
    /// Where in it that digit goes.
    last_digit: usize,
    /// The cluster's number with a last digit of 0.
    tens: u64,
    counts: (u64, u64),
}

impl TooLowLine {
    pub const fn new() -> Self {
        Self {
            text: [0; LINE_BYTES],
            length: 0,
            last_digit: 0,
            tens: 0,
            counts: (0, 0),
        }
    }

    /// Appends the line about a cluster, its end included.
    #[inline]
    pub fn append(&mut self, lines: &mut Vec<u8>, cluster: Cluster, counts: (u64, u64)) {
        let is_next = cluster.0.wrapping_sub(self.tens) < 10 && self.counts == counts;
        if (self.length == 0 || !is_next) && !self.go_to(cluster, counts) {
            lines.extend_from_slice(in_words(cluster, counts).as_bytes());
            return;
        }
        let start = lines.len();
        lines.extend_from_slice(&self.text);
        lines.truncate(start + self.length);
        // Written where it goes: a byte that has just changed is slow to copy with its neighbours.
        lines[start + self.last_digit] = b'0' + (cluster.0 - self.tens) as u8;
    }

    /// Makes the line that of a cluster, but for its last digit; says whether there is room for it.
    fn go_to(&mut self, cluster: Cluster, counts: (u64, u64)) -> bool {
        let further = cluster.0.checked_sub(self.tens);
        let tens = cluster.0 / 10 * 10;
        let goes_on = self.length > 0 && self.counts == counts;
        if !goes_on || !further.is_some_and(|further| self.count_on(further / 10)) {
            let line = in_words(cluster, counts);
            self.length = 0;
            let Some(text) = self.text.get_mut(..line.len()) else {
                return false;
            };
            text.copy_from_slice(line.as_bytes());
            self.length = line.len();
            let digits = line[BEFORE.len()..].find(|byte: char| !byte.is_ascii_digit());
            self.last_digit = BEFORE.len() + digits.unwrap_or(1) - 1;
        }
        self.tens = tens;
        self.counts = counts;
        true
    }

    /// Adds to the number of tens in the line; says whether there were digits enough for it.
    fn count_on(&mut self, further: u64) -> bool {
        let mut carry = further;
        for digit in self.text[BEFORE.len()..self.last_digit].iter_mut().rev() {
            if carry == 0 {
                break;
            }
            let sum = u64::from(*digit - b'0') + carry % 10;
            *digit = b'0' + (sum % 10) as u8;
            carry = carry / 10 + sum / 10;
        }
        carry == 0
    }
}

fn in_words(cluster: Cluster, (refcount, references): (u64, u64)) -> String {
    let finding = Finding::TooLow {
        cluster,
        refcount,
        references,
    };
    format!("ERROR {finding}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_what_the_finding_says() {
        let mut line = TooLowLine::new();
        let near = (0..1_200)
            .chain(0..3)
            .chain([9_998, 9_999, 10_000, 9_999, 7]);
        let mut found = Vec::new();
        for cluster in near.chain([u64::MAX - 1, u64::MAX, 0]) {
            for counts in [(0, 1), (0, 1), (0, 2), (3, 4), (u64::MAX - 1, u64::MAX)] {
                found.clear();
                line.append(&mut found, Cluster(cluster), counts);
                let expected = in_words(Cluster(cluster), counts);
                assert_eq!(String::from_utf8_lossy(&found), expected);
            }
        }
        let apart = (0..30_000).step_by(7).chain((0..3_000_000).step_by(12_345));
        for cluster in (0..1_200).chain([5_000]).chain(apart) {
            found.clear();
            line.append(&mut found, Cluster(cluster), (0, 1));
            let expected = in_words(Cluster(cluster), (0, 1));
            assert_eq!(String::from_utf8_lossy(&found), expected);
        }
    }

    #[test]
    fn lines_follow_one_another() {
        let mut line = TooLowLine::new();
        let mut found = Vec::new();
        for cluster in 97..113 {
            line.append(&mut found, Cluster(cluster), (0, 1));
        }
        let expected: String = (97..113)
            .map(|cluster| in_words(Cluster(cluster), (0, 1)))
            .collect();
        assert_eq!(String::from_utf8_lossy(&found), expected);
    }
}
