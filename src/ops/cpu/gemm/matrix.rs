//! Views of matrices in memory.

use burn::backend::flex::FlexTensor;

/// A matrix in any order.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) struct Matrix<'a> {
    pub(super) values: &'a [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_step: usize,
    pub(super) column_step: usize,
}

impl<'a> Matrix<'a> {
    /// A view of an f32 tensor of two dimensions. None is flipped: nothing here makes strides negative.
    pub fn of(x: &'a FlexTensor) -> Self {
        let (layout, [rows, columns]) = (x.layout(), x.layout().shape().dims());
        let step = |axis: usize| usize::try_from(layout.strides()[axis]).expect("strides go forward");
        let (row_step, column_step) = (step(0), step(1));
        let values = x.storage::<f32>().get(layout.start_offset()..).unwrap_or_default();
        Self::new(values, [rows, columns], [row_step, column_step])
    }

    /// # Panics
    /// `values` ends before the matrix does.
    pub fn new(values: &'a [f32], [rows, columns]: [usize; 2], [row_step, column_step]: [usize; 2]) -> Self {
        let last = (rows.max(1) - 1) * row_step + (columns.max(1) - 1) * column_step;
        assert!(rows * columns == 0 || last < values.len(), "a matrix lies within its values");
        Self { values, rows, columns, row_step, column_step }
    }

    /// Its rows as columns.
    pub fn turned(self) -> Self {
        let Self { values, rows, columns, row_step, column_step } = self;
        Self { values, rows: columns, columns: rows, row_step: column_step, column_step: row_step }
    }
}
