//! The character LSTM as a reader of the paper would write it: SEMANTICS.md, Model and Step, line by line.
//!
//! | symbol | |
//! | --- | --- |
//! | N, B, T | `nodes`, `batch_size`, `unrollings` |
//! | row | `t * B + b`: time step t of the batch's row b |
//! | i, f, o | the input, forget and output gate, sigmoids of their sums |
//! | g | the candidate, a tanh of its sum |
//! | c, h | the cell and the hidden state; `c' = f c + i g`, `h' = o tanh(c')` |
//! | p, y | the softmax of the logits, and the label as a row of 26 zeros and a one |
//! | d before a letter | the loss's gradient by it |
//!
//! Gates stand side by side in the order i, f, g, o: `[.., 4N]`. Arrays are in standard layout. Of what SEMANTICS.md
//! leaves open: a gate's sum is (recurrent product + row of the input kernel) + bias; what reaches h is (through the
//! classifier) + (through the next time step); p - y is multiplied by f32(1 / (T B)); the f64 sums of the norm are
//! made tensor by tensor and added in the order of the tensors.

pub mod backward;
pub mod evaluate;
pub mod forward;
pub mod params;
pub mod safetensors;
pub mod step;

use std::collections::TryReserveError;

use ndarray::{Array, Array1, Array2, ArrayBase, Data, DataMut, Dimension};

use crate::kernels::softmax::CLASSES;

/// Symbols of the alphabet: rows of the input kernel, columns of the classifier.
pub const SYMBOLS: usize = CLASSES;

/// A run's arrays do not fit into memory.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the arrays of the run do not fit into memory")]
pub struct OutOfMemory(#[from] TryReserveError);

/// `[rows, columns]` zeros.
fn zeros_2(rows: usize, columns: usize) -> Result<Array2<f32>, OutOfMemory> {
    // A length that saturates is one that no memory has.
    let values = zeros(rows.saturating_mul(columns))?;
    Ok(Array::from_shape_vec((rows, columns), values).expect("as many zeros as the shape has places"))
}

/// `[len]` zeros.
fn zeros_1(len: usize) -> Result<Array1<f32>, OutOfMemory> {
    zeros(len).map(Array1::from_vec)
}

fn zeros(len: usize) -> Result<Vec<f32>, OutOfMemory> {
    let mut values = Vec::new();
    values.try_reserve_exact(len)?;
    values.resize(len, 0.0);
    Ok(values)
}

/// The numbers of an array, row by row, as kernels take them.
fn flat<S: Data<Elem = f32>, D: Dimension>(array: &ArrayBase<S, D>) -> &[f32] {
    array.as_slice().expect("arrays of the model are in standard layout")
}

/// As [`flat`], to write to.
fn flat_mut<S: DataMut<Elem = f32>, D: Dimension>(array: &mut ArrayBase<S, D>) -> &mut [f32] {
    array.as_slice_mut().expect("arrays of the model are in standard layout")
}
