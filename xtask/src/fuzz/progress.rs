//! What libFuzzer says of its progress.

use std::fmt;

/// A status line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub executions: u64,
    /// Branches of the engine that were reached.
    coverage: u64,
    /// The same, with how often.
    features: u64,
    /// Inputs of the corpus that it needs for these.
    inputs: u64,
}

impl Progress {
    /// Of a line like `#4096 pulse cov: 1059 ft: 3671 corp: 47/9287b lim: 12 exec/s: 2048`. Where
    /// libFuzzer `forks`, its own lines begin with `#4096: cov: …`, and those above are what a
    /// process said that ended by a finding: they tell of that process alone. `None` for any other
    /// line.
    pub fn read(line: &str, forks: bool) -> Option<Self> {
        let mut words = line.split_whitespace();
        let number = words.next()?.strip_prefix('#')?;
        let of_all = number.strip_suffix(':');
        if of_all.is_some() != forks {
            return None;
        }
        let executions = of_all.unwrap_or(number).parse().ok()?;
        let words: Vec<&str> = words.collect();
        let after = |name: &str| {
            let at = words.iter().position(|word| *word == name)?;
            words.get(at + 1)?.split('/').next()?.parse().ok()
        };
        Some(Self {
            executions,
            coverage: after("cov:")?,
            features: after("ft:")?,
            inputs: after("corp:")?,
        })
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            executions,
            coverage,
            features,
            inputs,
        } = self;
        write!(f, "{executions:11} {coverage:9} {features:9} {inputs:7}")
    }
}

#[cfg(test)]
mod tests {
    use super::Progress;

    #[test]
    fn status_lines_of_one_and_of_several_processes_are_read() {
        let expected = Progress {
            executions: 70_985,
            coverage: 1242,
            features: 5901,
            inputs: 645,
        };
        let one =
            "#70985\tDONE   cov: 1242 ft: 5901 corp: 645/88Kb lim: 612 exec/s: 6453 rss: 43Mb";
        assert_eq!(Progress::read(one, false), Some(expected));
        let several = "#70985: cov: 1242 ft: 5901 corp: 645 exec/s: 514 oom/timeout/crash: 0/0/0";
        assert_eq!(Progress::read(several, true), Some(expected));
        // What one of them says is not what all of them did.
        assert_eq!(Progress::read(one, true), None);
    }

    #[test]
    fn other_lines_are_no_progress() {
        for line in [
            "",
            "INFO: seed corpus: files: 49",
            "#1 0x55d in main",
            "# cov: 1",
        ] {
            for forks in [false, true] {
                assert_eq!(Progress::read(line, forks), None, "{line}");
            }
        }
    }
}
