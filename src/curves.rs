//! Curves as they are drawn: smoothed, and thinned to what a screen can show. Points are (step, value).

/// A step and a value at it.
pub type Point = (f64, f64);

/// The values with each point replaced by the mean of its neighbourhood, weighted by exponentially falling weights
/// on both sides, so that the line does not lag behind the points. At the last point only the past is there, and the
/// value is TensorBoard's smoothed one: an average that is divided by what its weights fall short of 1.
pub fn smoothed(points: &[Point]) -> Vec<Point> {
    // How many points the weights reach: as much of a screen for a long run as for one of which a part was read.
    let reach = (points.len() as f64 / 25.0).max(1.5);
    let decay = 1.0 - 1.0 / reach;
    let one_sided = |points: &mut dyn Iterator<Item = &Point>| {
        let (mut sum, mut weight) = (0.0, 0.0);
        let mut sums = Vec::new();
        for &(_, value) in points {
            (sum, weight) = (decay * sum + value, decay * weight + 1.0);
            sums.push((sum, weight));
        }
        sums
    };
    let past = one_sided(&mut points.iter());
    let future = one_sided(&mut points.iter().rev());
    let sides = past.into_iter().zip(future.into_iter().rev());
    // The point itself is counted by both sides.
    points.iter().zip(sides).map(|(&(x, y), ((a, wa), (b, wb)))| (x, (a + b - y) / (wa + wb - 1.0))).collect()
}

/// Indices of at most `most` of `n` values, evenly spread, the last among them: their mean is that of all.
pub fn spread(n: usize, most: usize) -> impl Iterator<Item = usize> {
    let every = n.div_ceil(most.max(1)).max(1);
    (0..n).rev().step_by(every).collect::<Vec<_>>().into_iter().rev()
}

/// Indices of at most about `most` values that show what all show: the lowest and the highest of each stretch, and
/// the first and the last of all.
pub fn thinned(values: &[f64], most: usize) -> Vec<usize> {
    if values.len() <= most.max(2) {
        return (0..values.len()).collect();
    }
    let stretch = (2 * values.len()).div_ceil(most.max(2));
    let mut kept = vec![0];
    for start in (0..values.len()).step_by(stretch) {
        let of = start..(start + stretch).min(values.len());
        let by_value = |a: &usize, b: &usize| values[*a].total_cmp(&values[*b]);
        let (low, high) = (of.clone().min_by(by_value), of.max_by(by_value));
        kept.extend(low.into_iter().chain(high));
    }
    kept.push(values.len() - 1);
    kept.sort_unstable();
    kept.dedup();
    kept
}

/// Distance of the lines of a grid: 1, 2 or 5 times a power of ten, at most about `most` of them to `span`.
pub fn grid(span: f64, most: f64) -> f64 {
    let rough = (span / most).max(f64::MIN_POSITIVE);
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(n: usize, value: impl Fn(f64) -> f64) -> Vec<Point> {
        (0..n).map(|i| (i as f64, value(i as f64))).collect()
    }

    #[test]
    fn a_straight_line_is_its_own_average_inside_and_noise_is_evened_out() {
        let points = line(500, |x| 5.0 - 0.01 * x);
        let mut inside = smoothed(&points).into_iter().zip(&points).skip(200).take(100);
        assert!(inside.all(|((_, a), (_, b))| (a - b).abs() < 1e-3), "the line lags");
        let noisy = line(500, |x| if x % 2.0 == 0.0 { 1.0 } else { 3.0 });
        assert!(smoothed(&noisy).iter().skip(50).take(400).all(|(_, y)| (y - 2.0).abs() < 0.1));
        assert!(smoothed(&[]).is_empty());
        assert_eq!(smoothed(&[(1.0, 4.0)]), [(1.0, 4.0)]);
    }

    #[test]
    fn the_last_value_is_tensorboards() {
        // TensorBoard, tensorboard/components/vz_line_chart2: last = last * w + (1 - w) * y; y / (1 - w^n)
        let points = line(50, |x| (x * 0.7).sin());
        let decay: f64 = 1.0 - 1.0 / 2.0;
        let (mut last, mut n) = (0.0, 0);
        for (_, y) in &points {
            (last, n) = (last * decay + (1.0 - decay) * y, n + 1);
        }
        let expected = last / (1.0 - decay.powi(n));
        assert!((smoothed(&points)[49].1 - expected).abs() < 1e-12);
    }

    #[test]
    fn thinning_keeps_ends_and_spikes() {
        let mut values: Vec<f64> = (0..10_000).map(|i| 5.0 - f64::from(i) / 5000.0).collect();
        values[7_321] = 40.0;
        let kept = thinned(&values, 400);
        assert!(kept.len() <= 402 && kept.windows(2).all(|pair| pair[0] < pair[1]), "{}", kept.len());
        assert!([0, 7_321, 9_999].iter().all(|index| kept.contains(index)));
        assert_eq!(thinned(&values[..300], 400).len(), 300);
    }

    #[test]
    fn what_is_spread_ends_with_the_last() {
        assert_eq!(spread(3, 5).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(spread(10, 4).collect::<Vec<_>>(), [0, 3, 6, 9]);
        assert_eq!(spread(11, 4).last(), Some(10));
        assert_eq!(spread(0, 4).count(), 0);
    }

    #[test]
    fn grids_are_round() {
        let close = |a: f64, b: f64| (a - b).abs() < b * 1e-9;
        for (span, expected) in [(4.0, 1.0), (1.7, 0.5), (24.0, 10.0), (2e-4, 5e-5), (9000.0, 5000.0)] {
            assert!(close(grid(span, 4.0), expected), "{span}: {}", grid(span, 4.0));
        }
        assert!(grid(0.0, 4.0) > 0.0);
    }
}
