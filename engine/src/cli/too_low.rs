//! The message about a refcount that is too low. An image that has lost its refcounts has one of
//! these for each cluster, and putting numbers into words would be most of the work. The next
//! cluster's differs by one digit nearly always, so the line counts on like an odometer.

use std::ops::Range;

use recount::{Cluster, Finding};

/// The message of the last cluster.
#[derive(Default)]
pub struct TooLowLine {
    text: Vec<u8>,
    /// Where in it the cluster's number is.
    digits: Range<usize>,
    cluster: Cluster,
    counts: (u64, u64),
}

const BEFORE: &str = "ERROR cluster ";

impl TooLowLine {
    /// The line about a cluster, its end included.
    pub fn of(&mut self, cluster: Cluster, refcount: u64, references: u64) -> &[u8] {
        let further = cluster.0.checked_sub(self.cluster.0);
        let is_same = !self.text.is_empty() && self.counts == (refcount, references);
        let goes_on = is_same && further.is_some_and(|further| self.count_on(further));
        if !goes_on {
            let finding = Finding::TooLow {
                cluster,
                refcount,
                references,
            };
            self.text = format!("ERROR {finding}\n").into_bytes();
            let digits = self.text[BEFORE.len()..].iter();
            let length = digits.take_while(|byte| byte.is_ascii_digit()).count();
            self.digits = BEFORE.len()..BEFORE.len() + length;
            self.counts = (refcount, references);
        }
        self.cluster = cluster;
        &self.text
    }

    /// Adds to the number in the line; says whether there were digits enough for it.
    fn count_on(&mut self, further: u64) -> bool {
        let mut carry = further;
        for digit in self.text[self.digits.clone()].iter_mut().rev() {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn in_words(cluster: u64, refcount: u64, references: u64) -> String {
        let cluster = Cluster(cluster);
        let finding = Finding::TooLow {
            cluster,
            refcount,
            references,
        };
        format!("ERROR {finding}\n")
    }

    #[test]
    fn every_line_is_what_the_finding_says() {
        let mut line = TooLowLine::default();
        let near = (0..1_200)
            .chain(0..3)
            .chain([9_998, 9_999, 10_000, 9_999, 7]);
        for cluster in near.chain([u64::MAX - 1, u64::MAX, 0]) {
            for counts in [(0, 1), (0, 1), (0, 2), (3, 4)] {
                let found = line.of(Cluster(cluster), counts.0, counts.1);
                let expected = in_words(cluster, counts.0, counts.1);
                assert_eq!(String::from_utf8_lossy(found), expected);
            }
        }
        let apart = (0..30_000).step_by(7).chain((0..3_000_000).step_by(12_345));
        for cluster in (0..1_200).chain([5_000]).chain(apart) {
            let found = line.of(Cluster(cluster), 0, 1);
            assert_eq!(String::from_utf8_lossy(found), in_words(cluster, 0, 1));
        }
    }
}
