//! How much longer one of two programs takes, and how sure that is.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::versus::measure::median;

/// Samples that the interval is made from.
const RESAMPLES: usize = 2000;
/// Samples on each side that lie outside of the interval: 95 % are inside.
const OUTSIDE: usize = RESAMPLES / 40;

/// A difference in percent of the time before, with its confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// The median.
    pub percent: f64,
    pub low: f64,
    pub high: f64,
}

/// The median difference of runs that were made in pairs, and a bootstrapped interval around it.
/// The same numbers give the same interval.
pub fn difference(pairs: &[(f64, f64)]) -> Difference {
    let ratios: Vec<f64> = pairs
        .iter()
        .map(|(before, after)| (after / before - 1.0) * 100.0)
        .collect();
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let sample = (0..ratios.len()).map(|_| ratios[random.random_range(0..ratios.len())]);
            median(sample.collect())
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    Difference {
        percent: median(ratios),
        low: medians[OUTSIDE],
        high: medians[RESAMPLES - 1 - OUTSIDE],
    }
}

impl Difference {
    /// Whether it is beyond `threshold` percent, and surely above 0.
    pub fn is_slower(&self, threshold: f64) -> bool {
        self.percent > threshold && self.low > 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times around 1 that differ by up to `noise`, after `factor` times that.
    fn pairs(factor: f64, noise: f64) -> Vec<(f64, f64)> {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let mut around_one = || 1.0 + noise * (random.random::<f64>() - 0.5);
        (0..15)
            .map(|_| (around_one(), factor * around_one()))
            .collect()
    }

    #[test]
    fn a_fifth_more_is_seen_through_noise() {
        let found = difference(&pairs(1.2, 0.2));
        assert!(found.is_slower(5.0), "{found:?}");
        assert!(found.low < 20.0 && 20.0 < found.high, "{found:?}");
    }

    #[test]
    fn noise_alone_is_no_regression() {
        let found = difference(&pairs(1.0, 0.5));
        assert!(!found.is_slower(5.0), "{found:?}");
    }

    #[test]
    fn what_is_sure_but_small_is_no_regression() {
        let found = difference(&pairs(1.03, 0.001));
        assert!(found.low > 0.0 && !found.is_slower(5.0), "{found:?}");
    }
}
