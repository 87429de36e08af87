//! Attention head by head: a panel of queries sees all its keys at once, in scratch of a core's own.
//!
//! Scores lie turned, `[keys, queries]`: that is how the products that follow read them, and a softmax over keys goes
//! down whole vectors of queries. Keys that no query of a panel sees are not visited, so a causal mask halves the work.
#![expect(unsafe_code, reason = "tiles are read and written through pointers")]

mod few;
mod panel;

use super::gemm::kernel::{Place, panel_width};
use super::gemm::turn;
use super::math::exp;
use super::{Out, arch, rows, tasks};
use burn::backend::flex::FlexTensor;
use few::{FEW, Few};
use panel::{MOST_WIDTH, Multiplied, Panel, multiply, scores, turned_panel};
use pulp::{Simd, WithSimd};
use std::cell::RefCell;
use std::ops::Range;

/// Multiply-adds below which handing heads to other cores costs more than it saves.
const MIN_SHARED: usize = 1 << 16;

/// The dimensions of an attention.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) struct Shape {
    pub batch: usize,
    pub kv_heads: usize,
    /// Query heads of a key head.
    pub group: usize,
    pub queries: usize,
    pub keys: usize,
    /// Of a head.
    pub d: usize,
}

impl Shape {
    fn n_heads(&self) -> usize {
        self.batch * self.kv_heads * self.group
    }
}

/// Which keys each query of each row sees: a range.
#[derive(Debug)]
pub(in crate::ops) struct Seen(pub Vec<Range<usize>>);

impl Seen {
    /// Queries of all rows.
    pub fn n_queries(&self) -> usize {
        self.0.len()
    }
}

/// A tensor `[batch, heads, rows, d]` whose values of a row lie side by side.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Heads<'a> {
    values: &'a [f32],
    steps: [usize; 3],
}

impl<'a> Heads<'a> {
    /// # Panics
    /// A row's values do not lie side by side.
    pub fn of(x: &'a FlexTensor) -> Self {
        let layout = x.layout();
        let step = |axis: usize| usize::try_from(layout.strides()[axis]).expect("strides go forward");
        assert_eq!(step(3), 1, "the values of a head lie side by side");
        Self { values: &x.storage::<f32>()[layout.start_offset()..], steps: [step(0), step(1), step(2)] }
    }

    fn head(&self, batch: usize, head: usize) -> Rows<'a> {
        let start = batch * self.steps[0] + head * self.steps[1];
        Rows { values: &self.values[start..], step: self.steps[2] }
    }
}

/// Rows some way apart.
#[derive(Clone, Copy)]
struct Rows<'a> {
    values: &'a [f32],
    step: usize,
}

impl<'a> Rows<'a> {
    fn row(&self, i: usize, len: usize) -> &'a [f32] {
        &self.values[i * self.step..][..len]
    }

    fn from(&self, i: usize) -> &'a [f32] {
        &self.values[i * self.step..]
    }
}

/// One head of queries with what it attends to.
#[derive(Clone, Copy)]
struct Head<'a> {
    shape: Shape,
    q: Rows<'a>,
    k: Rows<'a>,
    v: Rows<'a>,
    seen: &'a [Range<usize>],
    scale: f32,
}

impl<'a> Head<'a> {
    fn of(shape: Shape, [q, k, v]: [Heads<'a>; 3], seen: &'a Seen, scale: f32, index: usize) -> Self {
        let Shape { kv_heads, group, queries, .. } = shape;
        let (batch, kv_head, member) = (index / group / kv_heads, index / group % kv_heads, index % group);
        let q = q.head(batch, kv_head);
        Self {
            shape,
            q: Rows { values: q.from(member * queries), step: q.step },
            k: k.head(batch, kv_head),
            v: v.head(batch, kv_head),
            seen: &seen.0[batch * queries..][..queries],
            scale,
        }
    }

    /// Where the head's values lie in `[batch · queries, heads · d]`: the first, and the way to the next query's.
    fn place_of(shape: Shape, index: usize) -> (usize, usize) {
        let heads = shape.kv_heads * shape.group;
        (index / heads * shape.queries * heads * shape.d + index % heads * shape.d, heads * shape.d)
    }
}

/// The result, `[batch · queries, heads · d]`, and the logarithm of each query's sum of exponentials, `[batch · heads,
/// queries]`.
pub(in crate::ops) fn forward(
    shape: Shape,
    inputs: [Heads; 3],
    seen: &Seen,
    scale: f32,
) -> (Vec<f32>, Vec<f32>) {
    let n_heads = shape.n_heads();
    let mut y = vec![0.0; n_heads * shape.queries * shape.d];
    let mut log_sum = vec![0.0; n_heads * shape.queries];
    let (y_out, log_out) = (Out::of(&mut y), Out::of(&mut log_sum));
    let is_short = n_heads * shape.queries * shape.keys * shape.d < MIN_SHARED;
    tasks::for_each_task(if is_short { 1 } else { tasks::n_cores() }, n_heads, |index| {
        let head = Head::of(shape, inputs, seen, scale, index);
        let (start, step) = Head::place_of(shape, index);
        SCRATCH.with_borrow_mut(|scratch| {
            // SAFETY: the rows of this head are this task's alone.
            let log_sum =
                unsafe { std::slice::from_raw_parts_mut(log_out.at(index * shape.queries), shape.queries) };
            let y = y_out.at(start);
            if shape.queries < FEW {
                arch().dispatch(Few { head, y, step, log_sum, scratch: &mut scratch.p });
            } else {
                arch().dispatch(Forward { head, y, step, log_sum, scratch });
            }
        });
    });
    (y, log_sum)
}

/// Gradients of queries, keys and values, as dense tensors of their shapes. `y` and `grad` are `[batch · queries,
/// heads · d]`.
pub(in crate::ops) fn backward(
    shape: Shape,
    inputs: [Heads; 3],
    y: &[f32],
    log_sum: &[f32],
    grad: &[f32],
    seen: &Seen,
    scale: f32,
) -> [Vec<f32>; 3] {
    let Shape { group, queries, keys, d, .. } = shape;
    let n_heads = shape.n_heads();
    // Each query head has its own keys' and values'; those of a group are added up below.
    let lens = [queries * d, keys * d, keys * d];
    let mut grads = lens.map(|len| Vec::with_capacity(n_heads * len));
    let outs = grads.each_mut().map(Out::of);
    tasks::for_each_task(tasks::n_cores(), n_heads, |index| {
        let head = Head::of(shape, inputs, seen, scale, index);
        let (start, step) = Head::place_of(shape, index);
        let (y, grad) = (Rows { values: &y[start..], step }, Rows { values: &grad[start..], step });
        let grads = std::array::from_fn(|i| outs[i].at(index * lens[i]));
        for (grads, len) in grads.into_iter().zip(lens) {
            // SAFETY: a head's part of this room is its task's alone.
            unsafe { grads.write_bytes(0, len) };
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let log_sum = &log_sum[index * queries..][..queries];
            arch().dispatch(Backward { head, y, grad, log_sum, grads, scratch });
        });
    });
    for (grads, len) in grads.iter_mut().zip(lens) {
        // SAFETY: each head's part was cleared.
        unsafe { grads.set_len(n_heads * len) };
    }
    let [d_q, d_k, d_v] = grads;
    let [d_k, d_v] = [d_k, d_v].map(|parts| if group == 1 { parts } else { sums(&parts, group, keys * d) });
    [d_q, d_k, d_v]
}

/// Adds up each `n` chunks of `len`.
fn sums(parts: &[f32], n: usize, len: usize) -> Vec<f32> {
    rows::make(
        parts.len() / n,
        len,
        #[inline(always)]
        |i, sum| {
            for part in parts[i * n * len..][..n * len].chunks_exact(len) {
                sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
            }
        },
    )
}

/// What a core works in, kept for its next task.
#[derive(Default)]
struct Scratch {
    /// Turned queries and gradients, `[d, width]`.
    q: Vec<f32>,
    grad: Vec<f32>,
    /// The same as rows, `[width, d]` filled up to whole vectors.
    q_rows: Vec<f32>,
    grad_rows: Vec<f32>,
    /// Turned keys or values, `[d, keys]`.
    turned: Vec<f32>,
    /// Probabilities and their gradients, `[keys, width]`.
    p: Vec<f32>,
    d_p: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

fn room(values: &mut Vec<f32>, len: usize) -> &mut [f32] {
    values.resize(values.len().max(len), 0.0);
    &mut values[..len]
}

struct Forward<'a, 'b> {
    head: Head<'a>,
    y: *mut f32,
    step: usize,
    log_sum: &'b mut [f32],
    scratch: &'b mut Scratch,
}

impl WithSimd for Forward<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { head: Head { shape, q, k, v, seen, scale }, y, step, log_sum, scratch } = self;
        let (Shape { queries, keys, d, .. }, width) = (shape, panel_width::<S>());
        let turned_v = room(&mut scratch.turned, d * keys);
        turn(v.values, [v.step, 1], [keys, d], turned_v, keys);
        let q_panel = room(&mut scratch.q, d * width);
        for first in (0..queries).step_by(width) {
            let panel = Panel::of(seen, first, width);
            turned_panel(q, &panel, d, width, scale, q_panel);
            let p = room(&mut scratch.p, panel.keys.len() * width);
            scores(simd, k, &panel, d, q_panel, p);
            panel.block(p, width, f32::NEG_INFINITY);
            let (mut largest, mut total) = ([f32::NEG_INFINITY; MOST_WIDTH], [0.0f32; MOST_WIDTH]);
            let (largest, total) = (&mut largest[..width], &mut total[..width]);
            for row in p.chunks_exact(width) {
                for (largest, &x) in largest.iter_mut().zip(row) {
                    *largest = if x > *largest { x } else { *largest };
                }
            }
            for row in p.chunks_exact_mut(width) {
                for ((x, &largest), total) in row.iter_mut().zip(&*largest).zip(&mut *total) {
                    *x = exp(*x - largest);
                    *total += *x;
                }
            }
            for i in 0..panel.n {
                log_sum[first + i] = largest[i] + total[i].ln();
                total[i] = 1.0 / total[i];
            }
            for row in p.chunks_exact_mut(width) {
                row.iter_mut().zip(&*total).for_each(|(x, r)| *x *= r);
            }
            let of = Multiplied {
                rows: turned_v[panel.keys.start..].as_ptr(),
                row_step: keys,
                n_rows: d,
                len: panel.keys.len(),
                panel: p.as_ptr(),
                panel_step: width,
            };
            let at = y.wrapping_add(first * step);
            // SAFETY: turned values have `d` rows of all keys; the place has this head's columns of the panel's rows.
            unsafe {
                multiply(simd, of, Place { at, step, width: panel.n, is_turned: true, is_added: false })
            };
        }
    }
}

struct Backward<'a, 'b> {
    head: Head<'a>,
    y: Rows<'a>,
    grad: Rows<'a>,
    log_sum: &'b [f32],
    /// Of queries, keys and values.
    grads: [*mut f32; 3],
    scratch: &'b mut Scratch,
}

impl WithSimd for Backward<'_, '_> {
    type Output = ();

    // With P the probabilities and g the gradient of y: dV = Pᵀ·g, dS = scale · P∘(g·Vᵀ − Σ g∘y), dQ = dS·K, dK = dSᵀ·Q.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { head: Head { shape, q, k, v, seen, scale }, y, grad, log_sum, grads, scratch } = self;
        let (Shape { queries, keys, d, .. }, width) = (shape, panel_width::<S>());
        let [d_q, d_k, d_v] = grads;
        let padded = d.next_multiple_of(S::F32_LANES);
        let turned_k = room(&mut scratch.turned, d * keys);
        turn(k.values, [k.step, 1], [keys, d], turned_k, keys);
        let (q_panel, grad_panel) = (room(&mut scratch.q, d * width), room(&mut scratch.grad, d * width));
        let (q_rows, grad_rows) =
            (room(&mut scratch.q_rows, width * padded), room(&mut scratch.grad_rows, width * padded));
        for first in (0..queries).step_by(width) {
            let panel = Panel::of(seen, first, width);
            turned_panel(q, &panel, d, width, scale, q_panel);
            turned_panel(grad, &panel, d, width, 1.0, grad_panel);
            let (mut sums, mut means) = ([0.0f32; MOST_WIDTH], [0.0f32; MOST_WIDTH]);
            for i in 0..panel.n {
                let (q, g) = (q.row(first + i, d), grad.row(first + i, d));
                q_rows[i * padded..][..d].copy_from_slice(q);
                grad_rows[i * padded..][..d].copy_from_slice(g);
                (sums[i], means[i]) = (log_sum[first + i], super::math::dot(g, y.row(first + i, d)));
            }
            let (sums, means) = (&sums[..width], &means[..width]);
            let n_keys = panel.keys.len();
            let (p, d_p) = (room(&mut scratch.p, n_keys * width), room(&mut scratch.d_p, n_keys * width));
            scores(simd, k, &panel, d, q_panel, p);
            panel.block(p, width, f32::NEG_INFINITY);
            scores(simd, v, &panel, d, grad_panel, d_p);
            for (p, d_p) in p.chunks_exact_mut(width).zip(d_p.chunks_exact_mut(width)) {
                for i in 0..width {
                    p[i] = exp(p[i] - sums[i]);
                    d_p[i] = scale * p[i] * (d_p[i] - means[i]);
                }
            }
            // Rows of probabilities with rows of queries; lanes past the last query are left out.
            for (scores, rows, out) in [(&*p, &*grad_rows, d_v), (&*d_p, &*q_rows, d_k)] {
                for column in (0..d).step_by(width) {
                    let of = Multiplied {
                        rows: scores.as_ptr(),
                        row_step: width,
                        n_rows: n_keys,
                        len: panel.n,
                        panel: rows[column..].as_ptr(),
                        panel_step: padded,
                    };
                    let at = out.wrapping_add(panel.keys.start * d + column);
                    let place =
                        Place { at, step: d, width: width.min(d - column), is_turned: false, is_added: true };
                    // SAFETY: a row has `padded` values, whole vectors; the place is this head's own, made of zeros.
                    unsafe { multiply(simd, of, place) };
                }
            }
            let of = Multiplied {
                rows: turned_k[panel.keys.start..].as_ptr(),
                row_step: keys,
                n_rows: d,
                len: n_keys,
                panel: d_p.as_ptr(),
                panel_step: width,
            };
            let at = d_q.wrapping_add(first * d);
            // SAFETY: turned keys have `d` rows of all keys; the place is this head's own.
            unsafe {
                multiply(simd, of, Place { at, step: d, width: panel.n, is_turned: true, is_added: false })
            };
        }
    }
}
