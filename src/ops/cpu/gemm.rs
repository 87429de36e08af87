//! Matrix products on the CPU, of dense and packed factors.
//!
//! One side of a product is read a value at a time, in rows; the other a vector at a time, in panels that stay in a
//! core's own cache (the scheme of Goto and van de Geijn, doi:10.1145/1356052.1356053). Which is which follows from how
//! the factors lie: x·Wᵀ reads W in rows, as it lies or unpacked one tile at a time, and x in panels; x·W the other way
//! round. So a frozen matrix is never turned, and read from memory once for all tokens of a group.
//!
//! Cores share out rows or panels and never wait for each other within a product.
#![expect(
    unsafe_code,
    reason = "the result is not made of zeros first, and its columns are written by several cores"
)]

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
mod few;
mod group;
pub(super) mod kernel;
mod matrix;
pub(super) mod narrow;
mod operand;
mod sharing;

pub(in crate::ops) use matrix::Matrix;
pub(super) use operand::turn;

use super::packed::{PackedMatrix, Way};
use super::{Out, math, tasks};
use operand::Operand;
use sharing::by_tiles;

/// Rows of the left factor up to which each value of the right one is read again for each.
const FEW: usize = 2;
/// Values below which handing a part of a single row's products to another core costs more than it saves.
const MIN_DOTS: usize = 1 << 17;

/// A right factor `[k, n]`.
#[derive(Clone, Copy)]
pub(in crate::ops) enum Factor<'a> {
    /// In f32.
    Dense(Matrix<'a>),
    /// Packed, turned or not.
    Packed(PackedMatrix<'a>, Way),
}

/// `lhs · rhs`, a part of a sum.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Term<'a> {
    /// `[m, k]`
    pub lhs: Matrix<'a>,
    /// `[k, n]`
    pub rhs: Factor<'a>,
}

impl<'a> Term<'a> {
    /// `lhs · rhs`
    pub fn new(lhs: Matrix<'a>, rhs: Matrix<'a>) -> Self {
        Self { lhs, rhs: Factor::Dense(rhs) }
    }

    /// Rows and columns of the product.
    pub fn shape(&self) -> [usize; 2] {
        let Sides { lhs, rhs } = self.sides();
        [lhs.n_outer(), rhs.n_outer()]
    }

    fn sides(&self) -> Sides<'a> {
        let rhs = match self.rhs {
            Factor::Dense(matrix) => Operand::Dense(matrix.turned()),
            Factor::Packed(matrix, way) => Operand::Packed(matrix, way),
        };
        let lhs = Operand::Dense(self.lhs);
        assert_eq!(lhs.n_inner(), rhs.n_inner(), "the inner dimensions of a matrix product are alike");
        Sides { lhs, rhs }
    }
}

/// A term whose factors are `[outer, inner]`.
#[derive(Clone, Copy)]
struct Sides<'a> {
    lhs: Operand<'a>,
    rhs: Operand<'a>,
}

impl Sides<'_> {
    /// Whether the rows of the kernel's tiles had better be columns of the result.
    fn is_turned(&self) -> bool {
        if let Operand::Packed(_, way) = self.rhs {
            return way == Way::Turned;
        }
        let [m, n, k] = [self.lhs.n_outer(), self.rhs.n_outer(), self.lhs.n_inner()];
        // In multiply-adds; copies that turn rows into columns take longer than those that do not.
        let cost = |rows: &Operand, panels: &Operand| {
            let work = rows.n_outer() * panels.n_outer().next_multiple_of(16) * k;
            let copied_rows = if rows.has_rows() { 0 } else { 16 * rows.n_outer() * k };
            let copied_panels = if panels.has_columns() { 8 } else { 32 } * panels.n_outer() * k;
            work + copied_rows + copied_panels
        };
        cost(&self.rhs, &self.lhs) + 32 * m * n < cost(&self.lhs, &self.rhs)
    }
}

/// The sum of the terms, row-major.
///
/// # Shapes
/// `lhs`: `[m, k]` · `rhs`: `[k, n]`, k of each term its own · result: `[m, n]`
pub(in crate::ops) fn product(terms: &[Term]) -> Vec<f32> {
    let sides: Vec<Sides> = terms.iter().map(Term::sides).filter(|sides| sides.lhs.n_inner() > 0).collect();
    let [m, n] = terms.first().map_or([0, 0], Term::shape);
    for side in &sides {
        assert_eq!([side.lhs.n_outer(), side.rhs.n_outer()], [m, n], "terms of a sum have one shape");
    }
    // Without an inner dimension nothing would be written.
    if sides.is_empty() || m * n == 0 {
        return vec![0.0; m * n];
    }
    if m > 1
        && let Some(result) = few::product(&sides, [m, n])
    {
        return result;
    }
    if m <= FEW && sides.iter().all(|sides| sides.lhs.has_rows() && sides.rhs.has_rows()) {
        return by_dots(&sides, m, n);
    }
    if let Some(result) = narrow::product(&sides) {
        return result;
    }
    // Not made of zeros first: that was 3 % of a step of 128 tokens.
    let mut result = Vec::with_capacity(m * n);
    by_tiles(&sides, [m, n], Out::of(&mut result));
    // SAFETY: the parts are all of the result, and each was written whole.
    unsafe { result.set_len(m * n) };
    result
}

/// Products of few rows: each value of the right factor is read once, for one multiply-add a row.
fn by_dots(sides: &[Sides], m: usize, n: usize) -> Vec<f32> {
    let mut out = vec![0.0; m * n];
    for (i, out) in out.chunks_exact_mut(n).enumerate() {
        for &Sides { lhs, rhs } in sides {
            let Some(x) = lhs.row(i, 0) else { unreachable!("the caller asked") };
            let x = &x[..lhs.n_inner()];
            let sums = match rhs {
                Operand::Packed(matrix, _) => matrix.block_sums(x),
                Operand::Dense(_) => Vec::new(),
            };
            let n_parts = (n * x.len() / MIN_DOTS).clamp(1, tasks::n_cores());
            let length = n.div_ceil(n_parts);
            tasks::for_each_chunk(
                out,
                length,
                #[inline(always)]
                |part, out| {
                    for (j, y) in out.iter_mut().enumerate() {
                        let row = part * length + j;
                        *y += match rhs {
                            Operand::Packed(matrix, _) => matrix.dot(row, x, &sums),
                            Operand::Dense(matrix) => math::dot(x, &matrix.values[row * matrix.row_step..]),
                        };
                    }
                },
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(len: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 37 % 23) as f32 - 11.0) / 7.0).collect()
    }

    /// Values in −1..1, the same for the same seed.
    fn noise(len: usize, seed: u32) -> Vec<f32> {
        let bits = (0..len as u32).map(|i| (i ^ seed << 20).wrapping_mul(2_654_435_761).rotate_left(13));
        bits.map(|bits| bits.wrapping_mul(2_246_822_519) as f32 / (1u32 << 31) as f32 - 1.0).collect()
    }

    #[test]
    fn products_are_as_exact_as_sums_in_f32() {
        // The significant bits of f16, of which two parts of bf16 are made, and of f32.
        let rounded = |values: Vec<f32>, n_bits: u32| -> Vec<f32> {
            values
                .iter()
                .map(|value| f32::from_bits(value.to_bits() >> (24 - n_bits) << (24 - n_bits)))
                .collect()
        };
        let k = 1500;
        for ([m, n], bits) in [
            ([70, 50], [24, 24]),
            ([70, 50], [11, 24]),
            ([70, 50], [24, 11]),
            ([50, 70], [24, 11]),
            ([50, 70], [11, 11]),
        ] {
            let (a, b) = (rounded(noise(m * k, 1), bits[0]), rounded(noise(k * n, 2), bits[1]));
            let (lhs, rhs) = (Matrix::new(&a, [m, k], [k, 1]), Matrix::new(&b, [k, n], [n, 1]));
            let out = product(&[Term::new(lhs, rhs)]);
            let turned = product(&[Term::new(rhs.turned(), lhs.turned())]);
            let (mut ours, mut plain) = (0.0, 0.0);
            for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
                let pairs = || (0..k).map(|l| (a[i * k + l], b[l * n + j]));
                let exact: f64 = pairs().map(|(x, y)| f64::from(x) * f64::from(y)).sum();
                let in_f32: f32 = pairs().map(|(x, y)| x * y).sum();
                for found in [out[i * n + j], turned[j * m + i]] {
                    ours += (f64::from(found) - exact).powi(2);
                    plain += (f64::from(in_f32) - exact).powi(2);
                }
            }
            let (ours, plain) = (ours.sqrt(), plain.sqrt());
            assert!(ours <= plain, "{bits:?} bits: {ours} beside {plain}");
            eprintln!("{bits:?} bits: {}", ours / plain);
        }
    }

    #[test]
    fn matrices_of_bf16_are_multiplied_exactly_beside_others() {
        let [m, k, n] = [64, 200, 300];
        let x = noise(m * k, 3);
        let w: Vec<f32> = (0..k * n).map(|i| (i * 37 % 255) as f32 - 127.0).collect();
        let (more_x, more_w) = (noise(m * 3, 4), noise(3 * n, 5));
        let terms = |lhs, rhs, more_lhs, more_rhs| [Term::new(lhs, rhs), Term::new(more_lhs, more_rhs)];
        let (lhs, more_lhs) = (Matrix::new(&x, [m, k], [k, 1]), Matrix::new(&more_x, [m, 3], [3, 1]));
        for steps in [[1, k], [n, 1]] {
            let (rhs, more_rhs) = (Matrix::new(&w, [k, n], steps), Matrix::new(&more_w, [3, n], [n, 1]));
            let out = product(&terms(lhs, rhs, more_lhs, more_rhs));
            let turned = product(&terms(rhs.turned(), lhs.turned(), more_rhs.turned(), more_lhs.turned()));
            for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
                let dot = |x: &[f32], w: &[f32], k: usize, steps: [usize; 2]| -> f64 {
                    let at = |l: usize| f64::from(x[i * k + l]) * f64::from(w[l * steps[0] + j * steps[1]]);
                    (0..k).map(at).sum()
                };
                let exact = dot(&x, &w, k, steps) + dot(&more_x, &more_w, 3, [n, 1]);
                for found in [out[i * n + j], turned[j * m + i]] {
                    // Of sums of about 1,000, in f32.
                    assert!((f64::from(found) - exact).abs() < 2e-3, "{i}, {j}: {found} is not {exact}");
                }
            }
        }
    }

    #[test]
    fn sums_of_products_are_whole_in_any_order_of_the_factors() {
        let shapes = [
            [1, 1, 1],
            [2, 700, 90],
            [3, 5, 7],
            [128, 96, 700],
            [700, 96, 128],
            [9, 2100, 50],
            [50, 1500, 9],
            [130, 0, 50],
            [8, 128, 576],
            [576, 128, 8],
            [333, 64, 1040],
            [1100, 40, 35],
            [35, 1100, 1000],
        ];
        for [m, k, n] in shapes {
            let (a, b, c, d) = (values(m * k), values(k * n), values(m * 3), values(3 * n));
            for order in 0..8 {
                let view = |values, [rows, columns]: [usize; 2], is_turned: bool| match is_turned {
                    true => Matrix::new(values, [rows, columns], [1, rows]),
                    false => Matrix::new(values, [rows, columns], [columns, 1]),
                };
                let lhs = view(&a, [m, k], order & 1 > 0);
                let rhs = view(&b, [k, n], order & 2 > 0);
                let (more_lhs, more_rhs) = (view(&c, [m, 3], false), view(&d, [3, n], order & 4 > 0));
                let terms = [Term::new(lhs, rhs), Term::new(more_lhs, more_rhs)];
                let out = product(&terms);
                let at = |m: &Matrix, i: usize, j: usize| m.values[i * m.row_step + j * m.column_step];
                for (i, &found) in out.iter().enumerate() {
                    let dot = |x: &Matrix, y: &Matrix| -> f64 {
                        let terms =
                            (0..x.columns).map(|l| f64::from(at(x, i / n, l)) * f64::from(at(y, l, i % n)));
                        terms.sum()
                    };
                    let expected = (dot(&lhs, &rhs) + dot(&more_lhs, &more_rhs)) as f32;
                    assert!(
                        (found - expected).abs() <= 1e-4 * (1.0 + expected.abs()),
                        "{m}x{k}x{n}, order {order}, {i}: {found} is not {expected}"
                    );
                }
            }
        }
    }
}
