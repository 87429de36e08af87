//! How fast a device multiplies: the one figure about speed that can be had in an instant.

use crate::{Error, Result};
use burn::tensor::{Device, Tensor};
use web_time::{Duration, Instant};

/// Rows, inner and outer width of the product: those of a short batch in a small model.
const SHAPE: [usize; 3] = [256, 512, 512];
/// Long enough that starting and reading back count for little.
const LONG_ENOUGH: Duration = Duration::from_millis(10);
/// A device so fast is timed no better by more.
const MOST_PRODUCTS: usize = 1 << 12;
/// Rounds after the first that was long enough.
const MORE_ROUNDS: usize = 2;

/// Floating-point operations a second of matrix products in f32, timed for some ten milliseconds.
///
/// # Errors
/// The device gives nothing back.
pub async fn product_rate(device: &Device) -> Result<f64> {
    let device = device.clone().without_autodiff();
    let [rows, inner, outer] = SHAPE;
    let w = Tensor::<2>::full([inner, outer], 1.0 / inner as f32, &device);
    // The first round makes the device ready and counts for nothing.
    timed(&w, rows, 1).await?;
    let mut n_products = 1;
    let mut elapsed = timed(&w, rows, n_products).await?;
    while elapsed < LONG_ENOUGH && n_products < MOST_PRODUCTS {
        n_products *= 2;
        elapsed = timed(&w, rows, n_products).await?;
    }
    // Whatever else the machine does only makes a round longer: the shortest tells most.
    for _ in 0..MORE_ROUNDS {
        elapsed = elapsed.min(timed(&w, rows, n_products).await?);
    }
    let flop = 2.0 * (rows * inner * outer) as f64 * n_products as f64;
    Ok(flop / elapsed.as_secs_f64().max(1e-6))
}

/// Time of products one after the other, read back at the end.
async fn timed(w: &Tensor<2>, rows: usize, n_products: usize) -> Result<Duration> {
    let began = Instant::now();
    let device = w.device();
    let mut x = Tensor::<2>::ones([rows, w.dims()[0]], &device);
    for _ in 0..n_products {
        x = super::matmul(x, w.clone()); // [rows, outer]
    }
    let data = x.narrow(0, 0, 1).narrow(1, 0, 1).into_data_async().await;
    data.map(|_| began.elapsed()).map_err(|error| Error::Device {
        device: format!("{device:?}"),
        problem: format!("a product could not be read back: {error}"),
        advice: "choose another device".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_rate() {
        let rate = crate::native::block_on(product_rate(&Device::flex())).expect("a CPU multiplies");
        assert!(rate > 1e7 && rate < 1e15, "{rate:e}");
    }
}
