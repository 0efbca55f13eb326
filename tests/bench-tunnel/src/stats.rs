//! Medians, ranges and percentiles of samples.

use serde::Serialize;

/// The rounds of one thing; the unit is in the name of whatever holds it.
#[derive(Clone, Debug, Serialize)]
pub struct Spread {
    /// Of an even number the mean of the two in the middle.
    pub median: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
    /// All, in order.
    pub rounds: Vec<f64>,
}

impl Spread {
    /// `None` without samples.
    #[must_use]
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = *sorted.get((sorted.len() - 1) / 2)?;
        Some(Self { median: f64::midpoint(lower, upper), min: *sorted.first()?, max: *sorted.last()?, rounds: samples.to_vec() })
    }
}

/// Nearest rank: the smallest sample that is not below `percent` of all.
#[must_use]
pub fn percentile(samples: &[f64], percent: usize) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_percentiles() {
        let spread = Spread::of(&[9.0, 1.0, 2.0, 4.0]).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (3.0, 1.0, 9.0));
        let samples: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!((percentile(&samples, 50), percentile(&samples, 99)), (Some(100.0), Some(198.0)));
        assert!(Spread::of(&[]).is_none() && percentile(&[], 50).is_none());
    }
}
