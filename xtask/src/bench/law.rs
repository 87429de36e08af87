//! How cost should grow: linear in the tokens, with attention's products quadratic in the length.

/// `cost = linear·n + quadratic·n²`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Law {
    pub linear: f64,
    pub quadratic: f64,
}

impl Law {
    /// The law with the least relative errors, squared: a short row counts as much as a long one. `None` of fewer than
    /// two different `n`.
    pub fn fit(points: &[(f64, f64)]) -> Option<Self> {
        // With u = n / cost and v = n² / cost, the squares of linear·u + quadratic·v − 1 are least.
        let (mut uu, mut uv, mut vv, mut u1, mut v1) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for &(n, cost) in points {
            let (u, v) = (n / cost, n * n / cost);
            uu += u * u;
            uv += u * v;
            vv += v * v;
            u1 += u;
            v1 += v;
        }
        let determinant = uu * vv - uv * uv;
        let is_solvable = determinant.is_finite() && determinant > 1e-12 * uu * vv;
        is_solvable.then(|| Self {
            linear: (u1 * vv - v1 * uv) / determinant,
            quadratic: (v1 * uu - u1 * uv) / determinant,
        })
    }

    /// The cost of `n`.
    pub fn at(self, n: f64) -> f64 {
        self.linear * n + self.quadratic * n * n
    }

    /// The quadratic term's share of the cost of `n`.
    pub fn quadratic_share(self, n: f64) -> f64 {
        self.quadratic * n * n / self.at(n)
    }
}

/// Each value over the first.
pub fn growth(values: &[f64]) -> Vec<f64> {
    let first = values.first().copied().unwrap_or(f64::NAN);
    values.iter().map(|value| value / first).collect()
}

#[cfg(test)]
mod tests {
    use super::{Law, growth};

    #[test]
    fn a_law_is_found_in_what_follows_it() {
        let law = Law { linear: 3.0, quadratic: 0.002 };
        let points: Vec<_> = [64.0, 128.0, 512.0, 2048.0].iter().map(|&n| (n, law.at(n))).collect();
        let found = Law::fit(&points).expect("four points");
        assert!((found.linear - 3.0).abs() < 1e-9 && (found.quadratic - 0.002).abs() < 1e-12, "{found:?}");
        let share = found.quadratic_share(2048.0);
        assert!((share - 0.002 * 2048.0 / (3.0 + 0.002 * 2048.0)).abs() < 1e-9);
    }

    #[test]
    fn one_point_is_no_law() {
        assert_eq!(Law::fit(&[]), None);
        assert_eq!(Law::fit(&[(64.0, 1.0)]), None);
        assert_eq!(Law::fit(&[(64.0, 1.0), (64.0, 2.0)]), None);
    }

    #[test]
    fn growth_is_over_the_first() {
        assert_eq!(growth(&[2.0, 4.0, 7.0]), [1.0, 2.0, 3.5]);
        assert!(growth(&[]).is_empty());
    }
}
