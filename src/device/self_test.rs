//! A device is believed after it computed a few operations like the CPU: drivers and browsers that compute
//! wrongly do so without an error.

use crate::{Error, Result};
use burn::tensor::{Device, Int, Tensor, TensorData, activation};

/// Sizes that fill no tile, so that the borders of kernels are tried too.
const ROWS: usize = 37;
const INNER: usize = 131;
const COLS: usize = 65;

/// Largest difference allowed, relative to the largest value: f32 with sums in another order.
const TOLERANCE: f32 = 1e-4;

/// Compares matrix product, soft-max, reductions, gathering and elementwise functions with the CPU.
///
/// # Errors
/// [`Error::Device`] names the operations that differ.
pub async fn self_test(device: &Device) -> Result<()> {
    let expected = outcomes(&Device::flex()).await?;
    let found = outcomes(device).await?;
    let wrong: Vec<&str> = expected
        .iter()
        .zip(&found)
        .filter(|((_, expected), (_, found))| !agree(expected, found))
        .map(|((name, _), _)| *name)
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Error::Device {
        device: format!("{device:?}"),
        problem: format!("computes otherwise than the CPU: {}", wrong.join(", ")),
        advice: "use the CPU, or update the driver or browser".into(),
    })
}

async fn outcomes(device: &Device) -> Result<Vec<(&'static str, Vec<f32>)>> {
    let wave = |n: usize, step: f32| (0..n).map(|i| (i as f32 * step).sin()).collect::<Vec<_>>();
    let matrix = |rows: usize, cols: usize, step: f32| {
        Tensor::<2>::from_data(TensorData::new(wave(rows * cols, step), [rows, cols]), device)
    };
    let (a, b) = (matrix(ROWS, INNER, 0.37), matrix(INNER, COLS, 0.11));
    let ids = Tensor::<1, Int>::from_data([36_i32, 0, 7, 7, 19].as_slice(), device);
    let outcomes = [
        ("matrix product", a.clone().matmul(b)),
        ("soft-max", activation::softmax(a.clone() * 5.0, 1)),
        ("sum of rows", a.clone().sum_dim(1)),
        ("sum of columns", a.clone().sum_dim(0)),
        ("gathered rows", a.clone().select(0, ids)),
        ("transposition", a.clone().transpose() + 1.0),
        ("elementwise functions", (a.clone().exp() + (a.clone() * a.clone() + 1.0).sqrt()).log() * a.tanh()),
    ];
    let mut values = Vec::new();
    for (name, tensor) in outcomes {
        let data = tensor.into_data_async().await.map_err(|error| failed(device, name, &error))?;
        values.push((name, data.try_to_vec::<f32>().map_err(|error| failed(device, name, &error))?));
    }
    Ok(values)
}

fn failed(device: &Device, name: &str, error: &dyn std::fmt::Debug) -> Error {
    Error::Device {
        device: format!("{device:?}"),
        problem: format!("{name}: {error:?}"),
        advice: "use the CPU".into(),
    }
}

fn agree(expected: &[f32], found: &[f32]) -> bool {
    let largest = expected.iter().fold(1.0_f32, |largest, value| largest.max(value.abs()));
    // Written so that a NaN disagrees.
    expected.len() == found.len()
        && expected.iter().zip(found).all(|(e, f)| (e - f).abs() <= TOLERANCE * largest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::ready;

    #[test]
    fn the_cpu_agrees_with_itself_and_wrong_values_do_not() {
        ready(self_test(&Device::flex())).unwrap();
        assert!(agree(&[1.0, -200.0], &[1.01, -200.0]));
        assert!(!agree(&[1.0, -200.0], &[1.1, -200.0]));
        assert!(!agree(&[1.0], &[f32::NAN]));
        assert!(!agree(&[1.0], &[]));
    }
}
