//! Numeric functions that burn lacks or has slowly.
//!
//! Each file holds one function with its plain reference in burn's own operations, which every
//! backend runs and every fused form is tested against. On the CPU and on GPUs a fused form with its own backward
//! replaces it, registered through burn's backend extension.

mod activation;
mod adamw;
mod attention;
mod cpu;
mod cross_entropy;
mod dropout;
mod gated_linear;
#[cfg(feature = "gpu")]
mod gpu;
mod linear;
mod matmul;
mod norm;
mod packed;
mod precision;
mod rate;
mod rope;
mod self_test;
mod square_sum;

pub use activation::{Activation, gated_activation};
pub use adamw::{AdamW, Adapted};
pub use attention::{Mask, attention, has_tiled_attention};
pub use cross_entropy::{CrossEntropy, softmax_cross_entropy};
pub use dropout::{dropout_mask, uniform_noise};
pub use gated_linear::gated_low_rank_linear;
pub use linear::{WeightMatrix, low_rank, low_rank_linear};
pub use matmul::matmul;
pub use norm::{layer_norm, rms_norm};
pub use packed::Packed;
pub use precision::set_precision;
pub use rate::product_rate;
pub use rope::rotate_half;
pub use self_test::self_test;
pub use square_sum::square_sum;

use burn::backend::DispatchDevice;
use burn::tensor::{Device, Tensor};

/// Whether the fused CPU forms serve this device.
pub(crate) fn is_cpu(device: &Device) -> bool {
    matches!(device.clone().without_autodiff().as_dispatch(), DispatchDevice::Flex(_))
}

/// Whether the fused CPU forms serve this tensor.
fn on_cpu<const D: usize>(x: &Tensor<D>) -> bool {
    is_cpu(&x.device())
}

/// Whether kernels of our own serve this tensor on its GPU.
fn on_gpu<const D: usize>(_x: &Tensor<D>) -> bool {
    #[cfg(feature = "gpu")]
    return gpu::serves(_x);
    #[cfg(not(feature = "gpu"))]
    false
}

/// `f` of each, on all cores where the device is the CPU: a GPU has one queue.
pub fn map_each<T: Send, R: Send>(
    items: Vec<T>,
    device: &Device,
    f: impl Fn(T) -> R + Send + Sync,
) -> Vec<R> {
    if is_cpu(device) { cpu::tasks::map_each(items, f) } else { items.into_iter().map(f).collect() }
}

/// Whether fused forms serve this tensor.
fn is_fused<const D: usize>(x: &Tensor<D>) -> bool {
    on_cpu(x) || on_gpu(x)
}

#[cfg(test)]
mod testing {
    use burn::tensor::{Device, Tensor, TensorData};
    use rand::{RngExt, SeedableRng};

    /// Values in −2..2, the same for the same seed.
    pub fn random<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<D> {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random::<f32>() * 4.0 - 2.0).collect();
        Tensor::from_data(TensorData::new(values, shape), &Device::flex())
    }

    /// Asserts |a − b| ≤ tolerance · (1 + |b|) everywhere.
    pub fn assert_close<const D: usize>(a: Tensor<D>, b: Tensor<D>, tolerance: f32) {
        assert_eq!(a.dims(), b.dims());
        let (a, b) = (a.into_data(), b.into_data());
        let (a, b) = (a.as_slice::<f32>().expect("f32"), b.as_slice::<f32>().expect("f32"));
        for (i, (x, y)) in a.iter().zip(b).enumerate() {
            assert!((x - y).abs() <= tolerance * (1.0 + y.abs()), "element {i}: {x} is not {y}");
        }
    }
}
