//! Frozen matrices that stay packed in memory: each operation unpacks what it needs, the backward pass again
//! (QLoRA, 2305.14314).

use super::cpu::gemm::{Factor, Matrix, Term, product};
use super::cpu::packed::{PackedMatrix, Way, unpacked_rows};
use super::cpu::{tensor, values};
use crate::store::{Form, HostPacked};
use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind, unary},
};
#[cfg(feature = "gpu")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::ops::IntTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, AutodiffBackend, Backend, Dispatch, ExtensionType, Flex, backend_extension};
use burn::tensor::{DType, Device, Int, IntDType, Shape, Tensor, TensorData};

/// A packed matrix on a device. It takes no part in a graph.
#[derive(Clone, Debug)]
pub struct Packed {
    words: Tensor<1, Int>,
    scales: Tensor<1>,
    mins: Tensor<1>,
    shape: [usize; 2],
    form: Form,
}

impl Packed {
    /// Brings a packed matrix to a device.
    pub fn from_host(host: HostPacked, device: &Device) -> Self {
        let HostPacked { shape, form, words, scales, mins } = host;
        let floats = |values: Vec<f32>| {
            // No GPU binds a buffer of nothing.
            let values = if values.is_empty() { vec![0.0] } else { values };
            let len = values.len();
            Tensor::from_data(TensorData::new(values, [len]), device)
        };
        let n_words = words.len();
        let words = TensorData::new(words, [n_words]);
        Self {
            words: Tensor::from_data(words, (device, DType::U32)),
            scales: floats(scales),
            mins: floats(mins),
            shape,
            form,
        }
    }

    /// Rows and columns.
    pub fn dims(&self) -> [usize; 2] {
        self.shape
    }

    /// How its values lie.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Where it lies.
    pub fn device(&self) -> Device {
        self.words.device()
    }

    /// `x·Wᵀ`
    ///
    /// # Shapes
    /// `x`: `[n, columns]` · result: `[n, rows]`
    pub fn times_turned(&self, x: Tensor<2>) -> Tensor<2> {
        let y = <Dispatch as PackedOps>::packed_product(x.into_dispatch(), self.parts(), true);
        Tensor::from_dispatch(y)
    }

    /// `x·W`
    ///
    /// # Shapes
    /// `x`: `[n, rows]` · result: `[n, columns]`
    pub fn times(&self, x: Tensor<2>) -> Tensor<2> {
        let y = <Dispatch as PackedOps>::packed_product(x.into_dispatch(), self.parts(), false);
        Tensor::from_dispatch(y)
    }

    /// Rows by number.
    ///
    /// # Shapes
    /// `ids`: `[n]` · result: `[n, columns]`
    pub fn rows(&self, ids: Tensor<1, Int>) -> Tensor<2> {
        Tensor::from_dispatch(<Dispatch as PackedOps>::packed_rows(ids.into_dispatch(), self.parts()))
    }

    /// The whole matrix, unpacked.
    pub fn to_dense(&self) -> Tensor<2> {
        let rows = self.shape[0] as i64;
        self.rows(Tensor::arange(0..rows, &self.device()))
    }

    /// Its tensors, as operations take them.
    pub(super) fn parts(&self) -> PackedParts<Dispatch> {
        PackedParts {
            words: self.words.clone().into_dispatch(),
            scales: self.scales.clone().into_dispatch(),
            mins: self.mins.clone().into_dispatch(),
            shape: self.shape,
            form: self.form,
        }
    }
}

/// A packed matrix as a backend has it.
#[derive(Clone, Debug, ExtensionType)]
#[cfg_attr(feature = "gpu", extension_type(fusion))]
pub(super) struct PackedParts<B: Backend> {
    /// The values.
    pub words: IntTensor<B>,
    /// One a block.
    pub scales: FloatTensor<B>,
    /// As many, or one that means nothing.
    pub mins: FloatTensor<B>,
    /// Rows and columns.
    pub shape: [usize; 2],
    /// How the values lie.
    pub form: Form,
}

impl<B: Backend, C: CheckpointStrategy> PackedParts<Autodiff<B, C>> {
    /// The same outside autodiff.
    pub fn inner(self) -> PackedParts<B> {
        let Self { words, scales, mins, shape, form } = self;
        let (scales, mins) = (scales.into_primitive(), mins.into_primitive());
        PackedParts { words, scales, mins, shape, form }
    }
}

#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Fusion: cfg(feature = "gpu"), Autodiff)]
pub(super) trait PackedOps: Backend {
    /// `x·Wᵀ`, or `x·W` where it is not turned.
    #[fusion(dtype = x, shape = product_shape(x, weight.shape, *is_turned))]
    fn packed_product(
        x: FloatTensor<Self>,
        #[extension_type] weight: PackedParts<Self>,
        is_turned: bool,
    ) -> FloatTensor<Self>;
    /// Rows of the matrix by number.
    #[fusion(meta = |ids, weight| TensorSpec::new(Shape::new([ids.shape[0], weight.shape[1]]), weight.scales.dtype))]
    fn packed_rows(ids: IntTensor<Self>, #[extension_type] weight: PackedParts<Self>) -> FloatTensor<Self>;
}

pub(super) fn product_shape(x: &Shape, [rows, columns]: [usize; 2], is_turned: bool) -> Shape {
    Shape::new([x[0], if is_turned { rows } else { columns }])
}

impl<B: PackedOps, C: CheckpointStrategy> PackedOps for Autodiff<B, C> {
    fn packed_product(x: FloatTensor<Self>, weight: PackedParts<Self>, is_turned: bool) -> FloatTensor<Self> {
        let weight = weight.inner();
        let (x, node) = x.into_parts();
        let y = B::packed_product(x, weight.clone(), is_turned);
        match PackedProductBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((weight, is_turned), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn packed_rows(ids: IntTensor<Self>, weight: PackedParts<Self>) -> FloatTensor<Self> {
        Self::from_inner(B::packed_rows(ids, weight.inner()))
    }
}

#[derive(Debug)]
struct PackedProductBackward;

impl<B: PackedOps> Backward<B, 1> for PackedProductBackward {
    type State = (PackedParts<B>, bool);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (weight, is_turned) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |grad| B::packed_product(grad, weight, !is_turned));
    }
}

impl PackedParts<Flex> {
    /// The matrix in this memory.
    pub fn matrix(&self) -> PackedMatrix<'_> {
        let words = self.words.storage::<u32>();
        PackedMatrix::new(self.form, self.shape, words, values(&self.scales), values(&self.mins))
    }
}

impl PackedOps for Flex {
    fn packed_product(x: FloatTensor<Self>, weight: PackedParts<Self>, is_turned: bool) -> FloatTensor<Self> {
        let shape = product_shape(x.layout().shape(), weight.shape, is_turned);
        let way = if is_turned { Way::Turned } else { Way::AsIs };
        let term = Term { lhs: Matrix::of(&x), rhs: Factor::Packed(weight.matrix(), way) };
        tensor(product(&[term]), shape)
    }

    fn packed_rows(ids: IntTensor<Self>, weight: PackedParts<Self>) -> FloatTensor<Self> {
        let ids = Self::int_cast(ids, IntDType::I64).to_contiguous();
        let ids = &ids.storage::<i64>()[..ids.layout().num_elements()];
        let shape = Shape::new([ids.len(), weight.shape[1]]);
        tensor(unpacked_rows(weight.matrix(), ids.iter().map(|&id| id as usize)), shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random};
    use crate::store::StoredType;

    /// One matrix of each form, and its values.
    fn matrices(shape: [usize; 2]) -> Vec<HostPacked> {
        let values = random::<2>(shape, 9).into_data().try_into_vec_as::<f32>().expect("floats");
        let bf16: Vec<u8> = values.iter().flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()).collect();
        let six: Vec<u8> =
            (0..shape[0] * shape[1] / 256 * 210).map(|i| (i * 151 + 43) as u8 & 0xBB).collect();
        let five: Vec<u8> = (0..shape[0] * shape[1] / 32 * 24).map(|i| (i * 151 + 43) as u8 & 0xBB).collect();
        [
            HostPacked::from_stored(StoredType::BF16, &bf16, shape),
            HostPacked::four(&values, shape),
            HostPacked::eight(&values, shape),
            HostPacked::from_stored(StoredType::Q6K, &six, shape),
            HostPacked::from_stored(StoredType::Q5_1, &five, shape),
        ]
        .into_iter()
        .map(|packed| packed.expect("whole blocks"))
        .collect()
    }

    #[test]
    fn packed_products_equal_those_with_the_same_values_unpacked() {
        for [n, rows, columns] in [[1, 200, 256], [2, 7, 256], [3, 5, 256], [130, 300, 512], [700, 96, 1024]]
        {
            for host in matrices([rows, columns]) {
                let form = host.form;
                let dense = TensorData::new(host.decode(), [rows, columns]);
                let dense = Tensor::<2>::from_data(dense, &Device::flex());
                let largest: f32 = dense.clone().abs().max().into_scalar();
                let dense = dense.div_scalar(largest);
                let packed = Packed::from_host(host, &Device::flex());
                let run = |f: &dyn Fn(Tensor<2>) -> Tensor<2>, d_in: usize| {
                    let x = random::<2>([n, d_in], 1).autodiff().require_grad();
                    let y = f(x.clone());
                    let grads = (y.clone() * random::<2>(y.dims(), 3)).sum().backward();
                    (y.inner(), x.grad(&grads).expect("x is tracked"))
                };
                let ours = run(&|x| packed.times_turned(x).div_scalar(largest), columns);
                let plain = run(&|x| x.matmul(dense.clone().transpose()), columns);
                eprintln!("{form:?}");
                assert_close(ours.0, plain.0, 1e-4);
                assert_close(ours.1, plain.1, 1e-4);
                let ours = run(&|x| packed.times(x).div_scalar(largest), rows);
                let plain = run(&|x| x.matmul(dense.clone()), rows);
                assert_close(ours.0, plain.0, 1e-4);
                assert_close(ours.1, plain.1, 1e-4);
                assert_close(packed.to_dense().div_scalar(largest), dense, 1e-6);
            }
        }
    }
}
