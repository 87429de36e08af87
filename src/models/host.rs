//! Tensors of run-time rank to and from the host, without blocking on the device.

use super::AnyTensor;
use crate::ops::square_sum;
use crate::store::HostTensor;
use crate::{Error, Result};
use burn::tensor::{Device, Tensor, TensorData};

impl AnyTensor {
    /// Where it lies.
    pub fn device(&self) -> Device {
        match self {
            Self::Vector(t) => t.device(),
            Self::Matrix(t) => t.device(),
        }
    }

    /// Every element times `factor`.
    pub fn mul_scalar(self, factor: f32) -> Self {
        match self {
            Self::Vector(t) => Self::Vector(t.mul_scalar(factor)),
            Self::Matrix(t) => Self::Matrix(t.mul_scalar(factor)),
        }
    }

    /// Sum of squares, `[1]`.
    pub fn square_sum(&self) -> Tensor<1> {
        match self {
            Self::Vector(t) => square_sum(t.clone()),
            Self::Matrix(t) => square_sum(t.clone()),
        }
    }

    /// Copies the values to the host, as f32.
    pub async fn to_host(&self) -> Result<HostTensor> {
        let flat = match self {
            Self::Vector(t) => t.clone(),
            Self::Matrix(t) => t.clone().flatten(0, 1),
        };
        Ok(HostTensor { shape: self.shape(), values: read_vector(flat).await? })
    }

    /// Brings host values to `device`. `name` is for messages.
    pub fn from_host(tensor: HostTensor, name: &str, device: &Device) -> Result<Self> {
        let HostTensor { shape, values } = tensor;
        if shape.iter().product::<usize>() != values.len() {
            return Err(Error::Internal(format!("{name}: {} values for shape {shape:?}", values.len())));
        }
        match shape.len() {
            1 => Ok(Self::Vector(Tensor::from_data(TensorData::new(values, shape), device))),
            2 => Ok(Self::Matrix(Tensor::from_data(TensorData::new(values, shape), device))),
            _ => Err(Error::input(name, format!("shape {shape:?}"), "a vector or a matrix")),
        }
    }
}

/// Reads `N` scalars from their device at once, without blocking. Each is `[1]`.
pub async fn read_scalars<const N: usize>(scalars: [Tensor<1>; N]) -> Result<[f32; N]> {
    let scalars = Tensor::cat(scalars.to_vec(), 0);
    let device = scalars.device();
    let values = <[f32; N]>::try_from(read_vector(scalars).await?);
    values.map_err(|v| read_failed(&device, format!("{} values for {N} scalars", v.len())))
}

/// Reads a vector from its device, without blocking.
pub async fn read_vector(vector: Tensor<1>) -> Result<Vec<f32>> {
    let device = vector.device();
    let data = vector.into_data_async().await.map_err(|e| e.to_string());
    let values = data.and_then(|d| d.try_into_vec_as::<f32>().map_err(|e| e.to_string()));
    values.map_err(|problem| read_failed(&device, problem))
}

fn read_failed(device: &Device, problem: String) -> Error {
    Error::Device {
        device: format!("{device:?}"),
        problem: format!("values could not be read back: {problem}"),
        advice: "choose another device or a smaller batch".into(),
    }
}
