//! Parameters as a safetensors file with the names and the layout of `PyTorch`'s `LSTM` and `Linear`.
//! `PyTorch` keeps each kernel with a row per output, so each is transposed; the gates' order, i, f, g, o, is ours too.

use ndarray::{Array2, ArrayView2};
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView};

use super::params::Parameters;
use super::{SYMBOLS, flat_mut};

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
    /// Infinite, or not a number at all.
    #[error("number {index} of tensor `{name}` is not finite")]
    NotFinite {
        /// Its name.
        name: &'static str,
        /// Which, from 0, in the order of the file.
        index: usize,
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
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(WeightsError::NotFinite { name, index }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of a model of two nodes, whose tensors `change` has had its way with.
    fn file(change: impl FnOnce(&mut Vec<(&'static str, Dtype, Vec<usize>)>)) -> Vec<u8> {
        let mut tensors = vec![
            (INPUT_KERNEL, Dtype::F32, vec![8, 27]),
            (RECURRENT_KERNEL, Dtype::F32, vec![8, 2]),
            (BIAS, Dtype::F32, vec![8]),
            (CLASSIFIER, Dtype::F32, vec![27, 2]),
            (CLASSIFIER_BIAS, Dtype::F32, vec![27]),
        ];
        change(&mut tensors);
        let zeros = [0; 8 * 8 * 27];
        let views = tensors.into_iter().map(|(name, dtype, shape)| {
            let bytes = shape.iter().product::<usize>() * dtype.bitsize() / 8;
            (name, TensorView::new(dtype, shape, &zeros[..bytes]).expect("zeros are of any type"))
        });
        safetensors::serialize(views, None).expect("tensors of distinct names")
    }

    #[test]
    fn what_was_written_is_read_and_written_again_as_the_same_bytes() {
        let parameters = Parameters::initial(5, 3).expect("it fits");
        let bytes = parameters.to_safetensors();
        let read = Parameters::from_safetensors(&bytes, 5).expect("our own file");
        assert_eq!(read, parameters);
        assert_eq!(read.to_safetensors(), bytes);
        assert!(Parameters::from_safetensors(&file(|_| ()), 2).is_ok());
    }

    #[test]
    fn a_file_of_another_model_is_refused_by_what_is_wrong() {
        let refused =
            |bytes: &[u8]| Parameters::from_safetensors(bytes, 2).expect_err("another model's file");
        let torn = refused(&file(|_| ())[..100]);
        assert!(matches!(torn, WeightsError::Container(_)), "{torn}");
        let absent = refused(&file(|tensors| drop(tensors.remove(3))));
        assert!(matches!(absent, WeightsError::Absent(CLASSIFIER)), "{absent}");
        let second_bias = refused(&file(|tensors| tensors.push(("lstm.bias_hh_l0", Dtype::F32, vec![8]))));
        assert!(matches!(&second_bias, WeightsError::Unexpected(name) if name == "lstm.bias_hh_l0"));
        let double = refused(&file(|tensors| tensors[2].1 = Dtype::F64));
        assert!(matches!(double, WeightsError::Dtype { name: BIAS, found: Dtype::F64 }), "{double}");
        let transposed = refused(&file(|tensors| tensors[0].2 = vec![27, 8]));
        assert!(matches!(transposed, WeightsError::Shape { name: INPUT_KERNEL, .. }), "{transposed}");
        let mut infinite = file(|_| ());
        let last = infinite.len() - 4;
        infinite[last..].copy_from_slice(&f32::INFINITY.to_le_bytes());
        let infinite = refused(&infinite);
        assert!(matches!(infinite, WeightsError::NotFinite { .. }), "{infinite}");
        let of_two = Parameters::from_safetensors(&file(|_| ()), 3).expect_err("a model of two nodes");
        let expected = "tensor `lstm.weight_ih_l0` is [8, 27]; a model of 3 nodes has [12, 27]";
        assert_eq!(of_two.to_string(), expected);
    }
}
