//! What the fused CPU forms share: access to flex's storage, threads over rows, vectorised `exp`.
#![expect(unsafe_code, reason = "tasks write one result side by side")]

pub(super) mod attention;
pub(super) mod gemm;
pub(super) mod math;
pub(super) mod packed;
#[cfg(not(target_arch = "wasm32"))]
mod pool;
pub(super) mod rows;
#[cfg_attr(target_arch = "wasm32", path = "tasks_single.rs")]
pub(super) mod tasks;

use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{Bytes, DType, Shape};

/// The tensor as a dense row-major one starting at 0, without a copy where it already is.
pub(super) fn dense(x: FlexTensor) -> FlexTensor {
    let whole = x.is_contiguous() && x.layout().start_offset() == 0;
    if whole && x.bytes().len() == x.layout().num_elements() * size_of::<f32>() {
        x
    } else {
        x.to_contiguous()
    }
}

/// The values of a [`dense`] f32 tensor.
pub(super) fn values(x: &FlexTensor) -> &[f32] {
    &x.storage::<f32>()[..x.layout().num_elements()]
}

/// A tensor around values already in row-major order.
pub(super) fn tensor(values: Vec<f32>, shape: Shape) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(shape), DType::F32)
}

/// Length of the last dimension.
pub(super) fn last_dim(x: &FlexTensor) -> usize {
    let shape = x.layout().shape();
    shape[shape.num_dims() - 1]
}

/// The widest vectors that there are.
fn arch() -> pulp::Arch {
    // Only an engine that has these instructions loads a module with them.
    #[cfg(all(target_arch = "wasm32", feature = "relaxed-simd"))]
    pulp::wasm::enable_relaxed_simd();
    pulp::Arch::new()
}

/// A result of which each task writes its own part.
struct Out(*mut f32);

// SAFETY: whoever shares one out gives tasks parts that do not overlap.
unsafe impl Sync for Out {}

impl Out {
    /// The room that a vector has, filled or not.
    fn of(values: &mut Vec<f32>) -> Self {
        Self(values.as_mut_ptr())
    }

    /// A place in it.
    fn at(&self, index: usize) -> *mut f32 {
        self.0.wrapping_add(index)
    }
}
