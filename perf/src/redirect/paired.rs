//! Ratios of what was measured in turns.

use std::fmt;

/// Figures of one variant in each round.
pub(super) type Rounds<const N: usize> = Vec<[f64; N]>;

/// The median of the rounds' ratios, and between which two the true median is 95 times of 100.
#[derive(Clone, Copy)]
pub(super) struct Ratio {
    pub(super) median: f64,
    low: f64,
    high: f64,
}

impl Ratio {
    /// # Source
    /// The ranks are those of the binomial distribution's normal approximation, n/2 ± 1.96 √n / 2.
    pub(super) fn of(mut ratios: Vec<f64>) -> Self {
        ratios.sort_by(f64::total_cmp);
        let count = ratios.len() as f64;
        let rank = ((count - 1.96 * count.sqrt()) / 2.0).max(0.0) as usize;
        let median = ratios[ratios.len() / 2];
        Self { median, low: ratios[rank], high: ratios[ratios.len() - 1 - rank] }
    }

    /// How far from 1 it may be by chance, where 1 is the truth.
    pub(super) fn noise(self) -> f64 {
        (1.0 - self.low).max(self.high - 1.0).max(0.0)
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:.3} ({:.3} to {:.3})", self.median, self.low, self.high)
    }
}

/// The same figure of two variants, as a ratio in each round.
pub(super) fn ratio<const N: usize>(of: &Rounds<N>, to: &Rounds<N>, figure: usize) -> Ratio {
    Ratio::of(of.iter().zip(to).map(|(of, to)| of[figure] / to[figure]).collect())
}

/// The mean of what was measured first in each round, and what was measured last: if the machine
/// gets slower or faster meanwhile, it is right for the middle.
pub(super) fn between<const N: usize>(first: &Rounds<N>, last: &Rounds<N>) -> Rounds<N> {
    let mean = |(first, last): (&[f64; N], &[f64; N])| {
        std::array::from_fn(|figure| f64::midpoint(first[figure], last[figure]))
    };
    first.iter().zip(last).map(mean).collect()
}

pub(super) fn median<const N: usize>(rounds: &Rounds<N>, figure: usize) -> f64 {
    middle(rounds.iter().map(|round| round[figure]).collect())
}

pub(super) fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
