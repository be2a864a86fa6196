//! The parameters: what is drawn, trained, written and read. A gradient has the same form.

use ndarray::{Array1, Array2};
use slalom_common::rng::{self, Purpose};

use super::{OutOfMemory, SYMBOLS, flat, flat_mut, zeros_1, zeros_2};
use crate::kernels::pack::Weights;

/// All that training changes, in the order in which its norm is taken.
#[derive(Clone, PartialEq, Debug)]
pub struct Parameters {
    /// `[27, 4N]`: a symbol's row is what it adds to the gates' sums.
    pub input_kernel: Array2<f32>,
    /// `[N, 4N]`.
    pub recurrent_kernel: Array2<f32>,
    /// `[4N]`.
    pub bias: Array1<f32>,
    /// `[N, 27]`: W.
    pub classifier: Array2<f32>,
    /// `[27]`: b.
    pub classifier_bias: Array1<f32>,
}

/// A kernel that is drawn, by its number in the counter of the draw.
#[derive(Clone, Copy)]
enum Drawn {
    InputKernel = 0,
    RecurrentKernel = 1,
    Classifier = 2,
}

impl Parameters {
    /// Zeros for a model of `nodes`.
    ///
    /// # Errors
    /// If they do not fit into memory.
    pub fn zeros(nodes: usize) -> Result<Self, OutOfMemory> {
        Ok(Self {
            input_kernel: zeros_2(SYMBOLS, 4 * nodes)?,
            recurrent_kernel: zeros_2(nodes, 4 * nodes)?,
            bias: zeros_1(4 * nodes)?,
            classifier: zeros_2(nodes, SYMBOLS)?,
            classifier_bias: zeros_1(SYMBOLS)?,
        })
    }

    /// The initial weights of `seed`: biases zero, the rest drawn from a truncated normal (SEMANTICS.md, Model).
    ///
    /// # Errors
    /// If they do not fit into memory.
    pub fn initial(nodes: usize, seed: u64) -> Result<Self, OutOfMemory> {
        let mut parameters = Self::zeros(nodes)?;
        draw(seed, Drawn::InputKernel, flat_mut(&mut parameters.input_kernel));
        draw(seed, Drawn::RecurrentKernel, flat_mut(&mut parameters.recurrent_kernel));
        draw(seed, Drawn::Classifier, flat_mut(&mut parameters.classifier));
        Ok(parameters)
    }

    /// `N`.
    pub fn nodes(&self) -> usize {
        self.recurrent_kernel.nrows()
    }

    /// The tensors in order: input kernel, recurrent kernel, bias, classifier, its bias; each row by row.
    pub fn tensors(&self) -> [&[f32]; 5] {
        let Self { input_kernel, recurrent_kernel, bias, classifier, classifier_bias } = self;
        [flat(input_kernel), flat(recurrent_kernel), flat(bias), flat(classifier), flat(classifier_bias)]
    }

    /// As kernels take them.
    pub(crate) fn weights(&self) -> Weights<'_> {
        let [input_kernel, recurrent_kernel, bias, classifier, classifier_bias] = self.tensors();
        Weights { input_kernel, recurrent_kernel, bias, classifier, classifier_bias }
    }

    /// As [`Parameters::tensors`], to write to.
    pub fn tensors_mut(&mut self) -> [&mut [f32]; 5] {
        let Self { input_kernel, recurrent_kernel, bias, classifier, classifier_bias } = self;
        [
            flat_mut(input_kernel),
            flat_mut(recurrent_kernel),
            flat_mut(bias),
            flat_mut(classifier),
            flat_mut(classifier_bias),
        ]
    }
}

fn draw(seed: u64, kernel: Drawn, weights: &mut [f32]) {
    for (element, weight) in weights.iter_mut().enumerate() {
        *weight = initial_weight(seed, kernel as u32, element as u32);
    }
}

/// Mean -0.1 (the notebook passes it so), deviation 0.1, redrawn beyond two deviations. At most 2^30 elements are
/// drawn for one kernel, so an index is always a u32.
fn initial_weight(seed: u64, tensor: u32, element: u32) -> f32 {
    let mut attempt = 0;
    loop {
        let (u1, u2) =
            rng::uniform_pair(rng::words(seed, Purpose::InitialWeights, [element, tensor, attempt]));
        let z = (-2.0 * libm::log(u1)).sqrt() * libm::cos(std::f64::consts::TAU * u2);
        if z.abs() <= 2.0 {
            return (-0.1 + 0.1 * z) as f32;
        }
        attempt += 1;
    }
}
