//! Parameters as a safetensors file with the names and the layout of `PyTorch`'s `LSTM` and `Linear`.
//! `PyTorch` keeps each kernel with a row per output, so each is transposed; the gates' order, i, f, g, o, is ours too.

use ndarray::{Array2, ArrayView2};
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView};

use super::params::Parameters;
use super::{SYMBOLS, flat, flat_mut};

const INPUT_KERNEL: &str = "lstm.weight_ih_l0";
const RECURRENT_KERNEL: &str = "lstm.weight_hh_l0";
const BIAS: &str = "lstm.bias_ih_l0";
const CLASSIFIER: &str = "classifier.weight";
const CLASSIFIER_BIAS: &str = "classifier.bias";

/// Why a file does not hold the parameters of a model of so many nodes.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// Torn, or not safetensors at all.
    #[error("not a whole safetensors file")]
    Container(#[source] SafeTensorError),
    /// A tensor that the model has is not there.
    #[error("no tensor `{0}`")]
    Absent(&'static str),
    /// A tensor that the model does not have; to ignore it would be to train another model than the file holds.
    #[error("unexpected tensor `{0}`")]
    Unexpected(String),
    /// Not f32.
    #[error("tensor `{name}` is {found:?}, not F32")]
    Dtype {
        /// Its name.
        name: &'static str,
        /// What it holds.
        found: Dtype,
    },
    /// Other dimensions than a model of so many nodes has.
    #[error("tensor `{name}` is {found:?}; a model of {nodes} nodes has {wanted:?}")]
    Shape {
        /// Its name.
        name: &'static str,
        /// Its dimensions.
        found: Vec<usize>,
        /// What they must be.
        wanted: Vec<usize>,
        /// The model's nodes.
        nodes: usize,
    },
    /// They do not fit into memory.
    #[error(transparent)]
    OutOfMemory(#[from] super::OutOfMemory),
}

impl Parameters {
    /// Reads the parameters of a model of `nodes`.
    ///
    /// # Errors
    /// Each way in which `bytes` are not that.
    pub fn from_safetensors(bytes: &[u8], nodes: usize) -> Result<Self, WeightsError> {
        let file = SafeTensors::deserialize(bytes).map_err(WeightsError::Container)?;
        let known = [INPUT_KERNEL, RECURRENT_KERNEL, BIAS, CLASSIFIER, CLASSIFIER_BIAS];
        let mut parameters = Self::zeros(nodes)?;
        let Self { input_kernel, recurrent_kernel, bias, classifier, classifier_bias } = &mut parameters;
        read_transposed(&file, INPUT_KERNEL, nodes, input_kernel)?;
        read_transposed(&file, RECURRENT_KERNEL, nodes, recurrent_kernel)?;
        read(&file, BIAS, nodes, &[4 * nodes], flat_mut(bias))?;
        read_transposed(&file, CLASSIFIER, nodes, classifier)?;
        read(&file, CLASSIFIER_BIAS, nodes, &[SYMBOLS], flat_mut(classifier_bias))?;
        match file.names().into_iter().find(|name| !known.contains(name)) {
            Some(name) => Err(WeightsError::Unexpected(name.to_owned())),
            None => Ok(parameters),
        }
    }

    /// The file; the same parameters give the same bytes.
    pub fn to_safetensors(&self) -> Vec<u8> {
        let transposed = |kernel: &Array2<f32>| -> (Vec<usize>, Vec<u8>) {
            (vec![kernel.ncols(), kernel.nrows()], bytes_of(kernel.t().iter()))
        };
        let (input_kernel, recurrent_kernel) =
            (transposed(&self.input_kernel), transposed(&self.recurrent_kernel));
        let bias = (vec![self.bias.len()], bytes_of(self.bias.iter()));
        let classifier = transposed(&self.classifier);
        let classifier_bias = (vec![SYMBOLS], bytes_of(self.classifier_bias.iter()));
        let tensors = [
            (INPUT_KERNEL, &input_kernel),
            (RECURRENT_KERNEL, &recurrent_kernel),
            (BIAS, &bias),
            (CLASSIFIER, &classifier),
            (CLASSIFIER_BIAS, &classifier_bias),
        ];
        let views = tensors.map(|(name, (shape, data))| {
            let view = TensorView::new(Dtype::F32, shape.clone(), data);
            (name, view.expect("the arrays of the parameters have the sizes of their shapes"))
        });
        safetensors::serialize(views, None).expect("five tensors of distinct names make a container")
    }
}

fn bytes_of<'a>(values: impl Iterator<Item = &'a f32>) -> Vec<u8> {
    values.flat_map(|value| value.to_le_bytes()).collect()
}

fn read_transposed(
    file: &SafeTensors<'_>,
    name: &'static str,
    nodes: usize,
    kernel: &mut Array2<f32>,
) -> Result<(), WeightsError> {
    let shape = [kernel.ncols(), kernel.nrows()];
    let mut values = vec![0.0; kernel.len()];
    read(file, name, nodes, &shape, &mut values)?;
    let values = ArrayView2::from_shape(shape, &values).expect("as many values as the shape has places");
    kernel.assign(&values.t());
    debug_assert_eq!(flat(kernel).len(), values.len());
    Ok(())
}

fn read(
    file: &SafeTensors<'_>,
    name: &'static str,
    nodes: usize,
    shape: &[usize],
    values: &mut [f32],
) -> Result<(), WeightsError> {
    let view = file.tensor(name).map_err(|_| WeightsError::Absent(name))?;
    if view.dtype() != Dtype::F32 {
        return Err(WeightsError::Dtype { name, found: view.dtype() });
    }
    if view.shape() != shape {
        let (found, wanted) = (view.shape().to_vec(), shape.to_vec());
        return Err(WeightsError::Shape { name, found, wanted, nodes });
    }
    for (value, &bytes) in values.iter_mut().zip(view.data().as_chunks().0) {
        *value = f32::from_le_bytes(bytes);
    }
    Ok(())
}
