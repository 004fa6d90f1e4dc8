//! Curves from `+ - * /` alone.
//!
//! IEEE 754 gives these the same result on every machine, which it does not promise for the
//! system's own `exp` and `ln`. They fill integer tables and place what happens rarely.

/// The natural logarithm of 2.
const LN_2: f64 = core::f64::consts::LN_2;

/// Rounds to the nearest integer, within the range of the type.
#[expect(clippy::cast_sign_loss, reason = "what is below 0 becomes 0")]
pub(crate) fn round(x: f64) -> u64 {
    (x + 0.5) as u64
}

/// e to the power of `x`.
pub(crate) fn exp(x: f64) -> f64 {
    let (mut small, mut halvings) = (x, 0);
    while small.abs() > 0.25 && halvings < 64 {
        small *= 0.5;
        halvings += 1;
    }
    let (mut sum, mut term) = (1.0, 1.0);
    for i in 1..=14 {
        term *= small / f64::from(i);
        sum += term;
    }
    for _ in 0..halvings {
        sum *= sum;
    }
    sum
}

/// The natural logarithm of `x`, which must be positive and finite.
pub(crate) fn ln(x: f64) -> f64 {
    let (mut near_one, mut doublings) = (x, 0);
    while near_one > 1.5 && doublings < 1_100 {
        near_one *= 0.5;
        doublings += 1;
    }
    while near_one < 0.75 && doublings > -1_100 {
        near_one *= 2.0;
        doublings -= 1;
    }
    let y = (near_one - 1.0) / (near_one + 1.0);
    let (mut sum, mut power) = (0.0, y);
    for i in 0..12 {
        sum += power / f64::from(2 * i + 1);
        power *= y * y;
    }
    2.0 * sum + f64::from(doublings) * LN_2
}

/// `x` to the power of `y`; 0 for an `x` that is not positive.
pub(crate) fn pow(x: f64, y: f64) -> f64 {
    if x > 0.0 { exp(y * ln(x)) } else { 0.0 }
}

/// The sine of `turns` full turns.
pub(crate) fn sin_turns(turns: f64) -> f64 {
    let x = (turns - turns.floor() - 0.5) * core::f64::consts::TAU;
    let (mut sum, mut term) = (0.0, x);
    for i in 1..=14 {
        sum += term;
        term *= -x * x / f64::from(2 * i * (2 * i + 1));
    }
    // Half a turn was taken off.
    -sum
}

/// Cells of a table of quantiles, as a power of two.
const CELL_BITS: u32 = 10;
const CELLS: usize = 1 << CELL_BITS;
/// The ends of an endless tail are cut at this probability.
const END: f64 = 1.0 / 8_192.0;

/// The quantiles of a distribution in integers, from the least likely to be undercut on.
#[derive(Clone, Debug)]
pub(crate) struct Quantiles {
    edges: Vec<u32>,
}

impl Quantiles {
    /// Of `median * e^(sigma * Z)` with a standard normal Z.
    pub(crate) fn log_normal(median: f64, sigma: f64) -> Self {
        let upper = normal_upper_half();
        let below = upper.iter().skip(1).rev().map(|z| -z);
        let edges = below.chain(upper.iter().copied());
        Self { edges: edges.map(|z| narrow(median * exp(sigma * z))).collect() }
    }

    /// Of the Gamma distribution with this shape and scale 1, in units of 2^-20; and the value of the
    /// Gamma function at `shape`.
    pub(crate) fn gamma(shape: f64) -> (Self, f64) {
        const PIECES: u32 = 16_384;
        let width = 40.0 / f64::from(PIECES);
        let mut totals = Vec::with_capacity(PIECES as usize + 1);
        // The first step in closed form: the density may be infinite at 0.
        let mut sum = pow(width, shape) / shape;
        totals.extend([0.0, sum]);
        for i in 1..PIECES {
            let t = (f64::from(i) + 0.5) * width;
            sum += exp((shape - 1.0) * ln(t) - t) * width;
            totals.push(sum);
        }
        let mut edges = Vec::with_capacity(CELLS + 1);
        let mut piece = 0;
        let mut from = 0.0;
        for i in 0..=CELLS as u32 {
            let part = (f64::from(i) / f64::from(1_u32 << CELL_BITS)).min(1.0 - END);
            let goal = part * sum;
            while let Some(next) = totals.get(piece + 1).filter(|next| **next < goal) {
                (piece, from) = (piece + 1, *next);
            }
            let until = totals.get(piece + 1).copied().unwrap_or(sum);
            let within = if until > from { (goal - from) / (until - from) } else { 0.0 };
            let t = (f64::from(piece as u32) + within) * width;
            edges.push(narrow(t * f64::from(1_u32 << 20)));
        }
        (Self { edges }, sum)
    }

    /// The value that a share of `draw / 2^16` of all values undercut.
    #[inline]
    pub(crate) fn at(&self, draw: u16) -> u32 {
        let cell = usize::from(draw >> (16 - CELL_BITS));
        let within = u64::from(draw & ((1 << (16 - CELL_BITS)) - 1));
        let low = self.edges.get(cell).copied().unwrap_or_default();
        let high = self.edges.get(cell + 1).copied().unwrap_or(low);
        low + ((u64::from(high - low) * within) >> (16 - CELL_BITS)) as u32
    }
}

fn narrow(x: f64) -> u32 {
    u32::try_from(round(x)).unwrap_or(u32::MAX)
}

/// The quantiles of the standard normal distribution from the median on.
fn normal_upper_half() -> Vec<f64> {
    let half = 1_u32 << (CELL_BITS - 1);
    let mut z = 0.0;
    let mut all = vec![z];
    for i in 1..=half {
        let goal = (0.5 * f64::from(i) / f64::from(half)).min(0.5 - END);
        // Newton, from the quantile before; the distribution is concave here, so it comes from below.
        for _ in 0..8 {
            let density = 0.398_942_280_401_432_7 * exp(-0.5 * z * z);
            z += (goal - density * normal_series(z)) / density;
        }
        all.push(z);
    }
    all
}

/// The share between the median and `z`, divided by the density at `z`.
fn normal_series(z: f64) -> f64 {
    let (mut sum, mut term) = (0.0, z);
    for i in 0..60 {
        sum += term;
        term *= z * z / f64::from(2 * i + 3);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_agree_with_the_systems_own() {
        for i in -200..200 {
            let x = f64::from(i) / 10.0;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-12, "exp {x}");
            assert!((sin_turns(x) - (x * core::f64::consts::TAU).sin()).abs() < 1e-9, "sin {x}");
            let positive = x.exp();
            assert!((ln(positive) - x).abs() < 1e-12 * (1.0 + x.abs()), "ln {positive}");
            assert!((pow(positive, 2.5) / positive.powf(2.5) - 1.0).abs() < 1e-11, "pow {x}");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_distribution() {
        let table = Quantiles::log_normal(1_000_000.0, 1.0);
        // Quantiles of the standard normal distribution from a table of statistics.
        for (share, z) in [(0.5, 0.0_f64), (0.841_345, 1.0), (0.977_25, 2.0), (0.022_75, -2.0)] {
            let value = f64::from(table.at(round(share * 65_536.0) as u16));
            assert!((value / (1_000_000.0 * z.exp()) - 1.0).abs() < 0.01, "{share}: {value}");
        }
        // With shape 1 it is the exponential distribution.
        let (table, one) = Quantiles::gamma(1.0);
        assert!((one - 1.0).abs() < 1e-4 && (Quantiles::gamma(3.5).1 - 3.323_351).abs() < 1e-3);
        for share in [0.1_f64, 0.5, 0.9, 0.99] {
            let value = f64::from(table.at(round(share * 65_536.0) as u16)) / 1_048_576.0;
            assert!((value / -(1.0 - share).ln() - 1.0).abs() < 0.01, "{share}: {value}");
        }
    }
}
