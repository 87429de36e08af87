//! Matrix product.

use burn::tensor::Tensor;

/// `lhs · rhs` in burn's way, but for adapters that crawl with it.
///
/// # Shapes
/// `lhs`: `[…, m, k]` · `rhs`: `[…, k, n]` · result: `[…, m, n]`
pub fn matmul<const D: usize>(lhs: Tensor<D>, rhs: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "gpu")]
    if super::on_gpu(&lhs) && D <= 4 && lhs.dims()[..D - 2] == rhs.dims()[..D - 2] {
        return super::gpu::matmul(lhs, rhs);
    }
    lhs.matmul(rhs)
}
