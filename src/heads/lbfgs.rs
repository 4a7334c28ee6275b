//! L-BFGS: minimises a smooth function by its gradients alone. D. C. Liu and J. Nocedal, "On the limited memory BFGS
//! method for large scale optimization" (1989).
//!
//! The line search accepts a step by Wolfe's conditions or, near the minimum, where differences of values are rounding
//! errors, by the slope alone: W. W. Hager and H. Zhang, "A new conjugate gradient method with guaranteed descent and an
//! efficient line search" (2005).

use std::collections::VecDeque;

use crate::error::Result;

/// The pairs of steps and changes of the gradient that are kept.
pub(super) const MEMORY: usize = 10;
/// A step must gain this share of what the slope promises.
const DECREASE: f64 = 1e-4;
/// A step must reduce the slope to this share.
const SLOPE: f64 = 0.9;
/// The most evaluations of a line search.
const TRIALS: usize = 40;
/// Relative differences of values below this are rounding errors.
const ROUNDING: f64 = 1e-13;

/// When a search ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    /// The largest entry of the gradient.
    pub gradient: f64,
    /// The most iterations.
    pub iterations: usize,
}

/// Where a search ended.
#[derive(Clone, Debug)]
pub(super) struct Minimum {
    pub at: Vec<f64>,
    pub value: f64,
    pub iterations: usize,
    /// Whether the gradient is as small as was asked for, or no step lowers the value any more.
    pub converged: bool,
}

/// Minimises `f`, which returns value and gradient, from `start` on. `precondition` multiplies a vector by an estimate
/// of the inverse Hessian, which must be positive definite.
pub(super) fn minimise(
    start: Vec<f64>,
    stop: Stop,
    mut f: impl FnMut(&[f64]) -> Result<(f64, Vec<f64>)>,
    precondition: impl Fn(&mut [f64]),
) -> Result<Minimum> {
    let mut at = start;
    let (mut value, mut gradient) = f(&at)?;
    let mut memory: VecDeque<Pair> = VecDeque::with_capacity(MEMORY);
    for iteration in 0..stop.iterations {
        if largest(&gradient) <= stop.gradient {
            return Ok(Minimum { at, value, iterations: iteration, converged: true });
        }
        let mut direction = direction(&gradient, &memory, &precondition);
        let mut slope = dot(&gradient, &direction);
        if slope >= 0.0 {
            // Rounding errors can spoil the memory; the preconditioner alone always leads down.
            memory.clear();
            direction = self::direction(&gradient, &memory, &precondition);
            slope = dot(&gradient, &direction);
        }
        let Some((step, new_value, new_gradient)) = search(&at, value, slope, &direction, &mut f)? else {
            return Ok(Minimum { at, value, iterations: iteration, converged: true });
        };
        let moved: Vec<f64> = direction.iter().map(|d| d * step).collect();
        let change: Vec<f64> = new_gradient.iter().zip(&gradient).map(|(new, old)| new - old).collect();
        at.iter_mut().zip(&moved).for_each(|(at, moved)| *at += moved);
        let curvature = dot(&moved, &change);
        if curvature > 0.0 {
            if memory.len() == MEMORY {
                memory.pop_front();
            }
            let mut conditioned = change.clone();
            precondition(&mut conditioned);
            let scale = curvature / dot(&change, &conditioned);
            memory.push_back(Pair { moved, change, curvature, scale });
        }
        (value, gradient) = (new_value, new_gradient);
    }
    let converged = largest(&gradient) <= stop.gradient;
    Ok(Minimum { at, value, iterations: stop.iterations, converged })
}

/// One step and what it changed.
struct Pair {
    moved: Vec<f64>,
    /// Change of the gradient.
    change: Vec<f64>,
    /// Product of both.
    curvature: f64,
    /// What the preconditioner must be multiplied by to have this curvature along the change.
    scale: f64,
}

/// Returns minus the product of the estimated inverse Hessian and `gradient`: the two loops of the method.
fn direction(gradient: &[f64], memory: &VecDeque<Pair>, precondition: &impl Fn(&mut [f64])) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut shares = Vec::with_capacity(memory.len());
    for pair in memory.iter().rev() {
        let share = dot(&pair.moved, &q) / pair.curvature;
        add(&mut q, -share, &pair.change);
        shares.push(share);
    }
    precondition(&mut q);
    if let Some(pair) = memory.back() {
        q.iter_mut().for_each(|v| *v *= pair.scale);
    }
    for (pair, share) in memory.iter().zip(shares.into_iter().rev()) {
        let back = dot(&pair.change, &q) / pair.curvature;
        add(&mut q, share - back, &pair.moved);
    }
    q
}

/// Finds a step along `direction` that meets the conditions. Returns it with the value and the gradient there, or none
/// if no step lowers the value.
#[allow(clippy::type_complexity, reason = "a step, a value and a gradient")]
fn search(
    at: &[f64],
    value: f64,
    slope: f64,
    direction: &[f64],
    f: &mut impl FnMut(&[f64]) -> Result<(f64, Vec<f64>)>,
) -> Result<Option<(f64, f64, Vec<f64>)>> {
    let rounding = ROUNDING * value.abs();
    // The bracket: step, slope there.
    let (mut low, mut high): ((f64, f64), Option<(f64, Option<f64>)>) = ((0.0, slope), None);
    let mut step = 1.0;
    for _ in 0..TRIALS {
        let trial: Vec<f64> = at.iter().zip(direction).map(|(at, d)| at + step * d).collect();
        let (new, gradient) = f(&trial)?;
        let new_slope = dot(&gradient, direction);
        let is_lower = new <= value + DECREASE * step * slope;
        let is_level = new <= value + rounding && new_slope <= (2.0 * DECREASE - 1.0) * slope;
        if new.is_finite() && (is_lower || is_level) {
            if new_slope >= SLOPE * slope {
                return Ok(Some((step, new, gradient)));
            }
            low = (step, new_slope);
        } else {
            high = Some((step, new_slope.is_finite().then_some(new_slope)));
        }
        step = match high {
            None => 2.0 * step,
            Some((high, high_slope)) => between(low, (high, high_slope)),
        };
    }
    Ok(None)
}

/// Returns a step inside the bracket: where the slope would be 0 if it changed evenly, but not near the ends.
fn between((low, low_slope): (f64, f64), (high, high_slope): (f64, Option<f64>)) -> f64 {
    let secant = high_slope.filter(|slope| *slope > low_slope).map_or(0.5, |slope| low_slope / (low_slope - slope));
    low + (high - low) * secant.clamp(0.1, 0.9)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    // Partial sums let the compiler use wide registers.
    let mut sums = [0.0; 8];
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    for (a, b) in a.iter().zip(b) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>()
}

fn add(to: &mut [f64], scale: f64, v: &[f64]) {
    to.iter_mut().zip(v).for_each(|(to, v)| *to += scale * v);
}

fn largest(v: &[f64]) -> f64 {
    v.iter().fold(0.0, |largest, v| if v.abs() > largest || v.is_nan() { v.abs() } else { largest })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rosenbrock's valley, whose minimum is 0 at (1, 1).
    #[allow(clippy::unnecessary_wraps, reason = "as `minimise` wants it")]
    fn valley(x: &[f64]) -> Result<(f64, Vec<f64>)> {
        let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
        Ok((a * a + 100.0 * b * b, vec![-2.0 * a - 400.0 * x[0] * b, 200.0 * b]))
    }

    #[test]
    fn a_curved_valley_is_followed_to_its_end() {
        let stop = Stop { gradient: 1e-10, iterations: 200 };
        let found = minimise(vec![-1.2, 1.0], stop, valley, |_| {}).expect("no errors");
        assert!(found.converged && found.value < 1e-20 && found.iterations < 60, "{found:?}");
        assert!(found.at.iter().all(|v| (v - 1.0).abs() < 1e-9), "{found:?}");
        let early = minimise(vec![-1.2, 1.0], Stop { iterations: 5, ..stop }, valley, |_| {}).expect("no errors");
        assert!(!early.converged && early.iterations == 5, "{early:?}");
    }

    #[test]
    fn the_inverse_hessian_as_preconditioner_needs_one_step() {
        let weights = [1.0, 1e3, 1e6];
        let bowl = |x: &[f64]| {
            let value = x.iter().zip(&weights).map(|(x, w)| 0.5 * w * (x - 2.0).powi(2)).sum();
            Ok((value, x.iter().zip(&weights).map(|(x, w)| w * (x - 2.0)).collect()))
        };
        let inverse = |v: &mut [f64]| v.iter_mut().zip(&weights).for_each(|(v, w)| *v /= w);
        let found = minimise(vec![0.0; 3], Stop { gradient: 1e-9, iterations: 9 }, bowl, inverse).expect("no errors");
        assert!(found.converged && found.iterations == 1, "{found:?}");
    }
}
