//! Samples, and the few numbers that are said of them.

use std::time::Duration;

use crate::call::{Burst, Ended};

/// The calls of one kind by one program.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    took: Vec<Duration>,
    totals: Vec<Duration>,
    failures: usize,
}

impl Figures {
    /// Counts a call.
    pub(crate) fn add(&mut self, ended: &Ended) {
        self.took.push(ended.took);
        self.failures += usize::from(!ended.success);
    }

    /// Counts the calls of a burst.
    pub(crate) fn add_burst(&mut self, burst: &Burst) {
        self.totals.push(burst.total);
        burst.ended.iter().for_each(|ended| self.add(ended));
    }

    /// Counts what others have counted.
    pub(crate) fn append(&mut self, more: Figures) {
        self.took.extend(more.took);
        self.totals.extend(more.totals);
        self.failures += more.failures;
    }

    /// How many calls.
    pub(crate) fn count(&self) -> usize {
        self.took.len()
    }

    /// How many of them failed.
    pub(crate) fn failures(&self) -> usize {
        self.failures
    }

    /// The median call.
    pub(crate) fn p50(&self) -> Duration {
        quantile(&self.took, 0.5)
    }

    /// The call that one in a hundred exceeds; of fewer than a hundred, the slowest.
    pub(crate) fn p99(&self) -> Duration {
        quantile(&self.took, 0.99)
    }

    /// The median burst, from the first spawn to the last end; of calls after each other, their sum.
    pub(crate) fn total(&self) -> Duration {
        if self.totals.is_empty() { self.took.iter().sum() } else { quantile(&self.totals, 0.5) }
    }
}

/// By nearest rank; zero if there is no sample.
pub(crate) fn quantile(samples: &[Duration], part: f64) -> Duration {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let samples: Vec<_> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(quantile(&samples, 0.5), Duration::from_millis(100));
        assert_eq!(quantile(&samples, 0.99), Duration::from_millis(198));
        assert_eq!(quantile(&samples[..50], 0.99), Duration::from_millis(200), "the slowest");
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }
}
