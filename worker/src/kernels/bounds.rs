//! Every algorithm at every size from 1 to 67 in each of its dimensions, where the tests beside it have but a few: it
//! writes all that it should and nothing beyond, and reads nothing beyond that counts.

use super::activation::exp_minus;
use super::classifier::{Logits, Loss, Probabilities};
use super::gradient::{ClassifierGradients, GateGradients};
use super::lines::tests::{in_gate_lines, in_lines, out_of_gate_lines, out_of_lines};
use super::lines::{Line, groups};
use super::pack::{BackwardWeights, ForwardWeights, PackBackward, PackForward, Weights};
use super::portable::Portable;
use super::recurrence::{Reading, ReadingProducts, TimeStepBackward, TimeStepForward, dh_lines};
use super::reduce::SumOfSquares;
use super::simd::{LANES, Simd as _};
use super::softmax::{CLASS_LINES, CLASSES};
use super::tests::{bits, every_isa, noise, sizes};
use super::update::Update;
use super::{IsaName, Kernels};

/// Numbers between two fences, which are NaN: read, they would show; written, [`Fenced::held`] would.
struct Fenced {
    values: Vec<f32>,
}

const FENCE: usize = 3 * LANES;

impl Fenced {
    fn new(inside: &[f32]) -> Self {
        let fence = [f32::NAN; FENCE];
        Self { values: [&fence, inside, &fence].concat() }
    }

    /// So many that nothing has written yet.
    fn unwritten(len: usize) -> Self {
        Self::new(&vec![f32::NAN; len])
    }

    fn inside(&mut self) -> &mut [f32] {
        let end = self.values.len() - FENCE;
        &mut self.values[FENCE..end]
    }

    /// What is inside, both fences being as they were.
    fn held(&self) -> &[f32] {
        let (inside, last) = self.values[FENCE..].split_at(self.values.len() - 2 * FENCE);
        let mut fences = self.values[..FENCE].iter().chain(last);
        assert!(
            fences.all(|value| value.to_bits() == f32::NAN.to_bits()),
            "something wrote beyond its slice"
        );
        inside
    }
}

/// Weights of `n` nodes.
struct Model([Vec<f32>; 5]);

impl Model {
    fn new(n: usize) -> Self {
        let lengths = [CLASSES * 4 * n, n * 4 * n, 4 * n, n * CLASSES, CLASSES];
        let mut seed = 50;
        Self(lengths.map(|len| {
            seed += 1;
            noise(seed, len)
        }))
    }

    fn weights(&self) -> Weights<'_> {
        let [input_kernel, recurrent_kernel, bias, classifier, classifier_bias] = &self.0;
        Weights { input_kernel, recurrent_kernel, bias, classifier, classifier_bias }
    }

    fn forward(&self, kernels: Kernels, n: usize) -> ForwardWeights {
        let mut packed = ForwardWeights::new(n).expect("it fits");
        kernels.run(PackForward { weights: self.weights(), packed: &mut packed });
        packed
    }

    fn backward(&self, kernels: Kernels, n: usize) -> BackwardWeights {
        let mut packed = BackwardWeights::new(n).expect("it fits");
        kernels.run(PackBackward { weights: self.weights(), packed: &mut packed });
        packed
    }

    /// The product of a row of h and the classifier, k ascending from zero, fused.
    fn naive_logits(&self, h: &[f32]) -> [f32; CLASSES] {
        let column = |class| {
            let weights = self.weights().classifier.iter().skip(class).step_by(CLASSES);
            h.iter().zip(weights).fold(0.0, |sum, (&a, &b)| libm::fmaf(a, b, sum))
        };
        std::array::from_fn(column)
    }
}

fn some_symbols(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 11 % CLASSES) as u8).collect()
}

#[test]
fn an_update_of_any_length_rounds_once_a_weight_and_touches_no_other() {
    for len in 1..=67 {
        let (gradient, weights) = (noise(60, len), noise(61, len));
        let naive = gradient.iter().zip(&weights).map(|(&g, &w)| libm::fmaf(-0.3, g, w));
        let expected: Vec<f32> = naive.collect();
        for kernels in every_isa() {
            let (mut gradient, mut weights) = (Fenced::new(&gradient), Fenced::new(&weights));
            kernels.run(Update { factor: 0.3, gradient: gradient.inside(), weights: weights.inside() });
            assert_eq!(bits(weights.held()), bits(&expected), "{}: {len}", kernels.name());
        }
    }
}

#[test]
fn a_sum_of_squares_of_any_length_counts_each_number_once() {
    for len in 1..=67_usize {
        // Whole numbers: every order of additions gives the same sum.
        let values: Vec<f32> = (1..=len).map(|value| value as f32).collect();
        let expected = (len * (len + 1) * (2 * len + 1) / 6) as f64;
        for kernels in every_isa() {
            let sum = kernels.run(SumOfSquares { values: Fenced::new(&values).inside() });
            assert_eq!(sum.to_bits(), expected.to_bits(), "{}: {len}", kernels.name());
        }
    }
}

/// Of each pair (N, rows), the rows being some of more.
#[test]
fn the_classifier_is_the_naive_one_bit_for_bit_at_any_size() {
    const FIRST: usize = 3;
    let exp = |x: f32| exp_minus(Portable, Portable.splat(x))[0];
    for [n, rows] in sizes([(130, 97)]) {
        let model = Model::new(n);
        let weight = 1.0 / rows as f32;
        let h = noise(62, (FIRST + rows + 1) * n);
        let labels = some_symbols(rows);
        let (mut loss, mut logits, mut dlogits, mut probabilities) = (0.0, vec![], vec![], vec![]);
        for (h, &label) in h.chunks_exact(n).skip(FIRST).zip(&labels) {
            let product = model.naive_logits(h);
            let mut row = product;
            for (logit, bias) in row.iter_mut().zip(model.weights().classifier_bias) {
                *logit += bias;
            }
            let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let e = row.map(|logit| exp(max - logit));
            let sum = e.iter().fold(0.0_f32, |sum, e| sum + e);
            let label = usize::from(label);
            loss += libm::log(f64::from(sum)) - f64::from(row[label] - max);
            probabilities.push(e[label] / sum);
            let y = |class| if class == label { weight } else { 0.0 };
            dlogits.extend(e.iter().enumerate().map(|(class, e)| e * (weight / sum) - y(class)));
            logits.extend(product);
        }
        let h = in_lines(&h, n);
        for kernels in every_isa() {
            let what = format!("{}: {n}, {rows}", kernels.name());
            let weights = &model.forward(kernels, n);
            let unwritten = vec![Line([f32::NAN; LANES]); CLASS_LINES * rows];
            let numbers = |lines: &[Line]| bits(&out_of_lines(lines, CLASSES));

            let mut out = unwritten.clone();
            kernels.run(Logits { weights, h: &h, first: FIRST, out: &mut out });
            assert_eq!(numbers(&out), bits(&logits), "{what}");

            let mut out = unwritten.clone();
            let labels = &labels;
            let found = kernels.run(Loss { weights, h: &h, first: FIRST, labels, weight, dlogits: &mut out });
            assert_eq!(found.to_bits(), f64::to_bits(loss), "{what}");
            assert_eq!(numbers(&out), bits(&dlogits), "{what}");

            let (mut scratch, mut out) = (unwritten, Fenced::unwritten(rows));
            let (logits, out_of) = (&mut scratch, out.inside());
            kernels.run(Probabilities { weights, h: &h, first: FIRST, labels, logits, out: out_of });
            assert_eq!(bits(out.held()), bits(&probabilities), "{what}");
        }
    }
}

/// Of each pair (N, T B): the values are `gradient`'s own test's.
#[test]
fn the_gradients_fill_their_slices_and_no_more_at_any_size() {
    for [n, rows] in sizes([]) {
        let symbols = some_symbols(rows);
        let h = in_lines(&noise(63, (rows + 1) * n), n);
        let gates = in_gate_lines(&noise(64, rows * 4 * n), n);
        let dlogits = in_lines(&noise(65, rows * CLASSES), CLASSES);
        for kernels in every_isa() {
            let lengths = [n * 4 * n, n * CLASSES, CLASSES * 4 * n, 4 * n, CLASSES];
            let mut found = lengths.map(Fenced::unwritten);
            let [recurrent_kernel, classifier, input_kernel, bias, classifier_bias] =
                found.each_mut().map(Fenced::inside);
            let (h, gates, dlogits) = (&h, &gates, &dlogits);
            kernels.for_columns(n).run(GateGradients {
                nodes: n,
                symbols: &symbols,
                h,
                gates,
                recurrent_kernel,
                input_kernel,
                bias,
            });
            kernels.run(ClassifierGradients { nodes: n, h, dlogits, classifier, classifier_bias });
            let mut written = found.iter().flat_map(Fenced::held);
            assert!(written.all(|value| value.is_finite()), "{}: {n}, {rows}", kernels.name());
        }
    }
}

/// Of each pair (N, characters).
#[test]
fn reading_any_number_of_characters_is_as_many_time_steps_of_one_row() {
    for [n, characters] in sizes([(130, 9)]) {
        let model = Model::new(n);
        let symbols = some_symbols(characters);
        // The first state comes in; behind it is what must be written before it is read.
        let state = |seed| {
            let nan = vec![f32::NAN; characters * n];
            in_lines(&[noise(seed, n), nan].concat(), n)
        };
        let first = |lines: &[Line]| -> Vec<Line> { lines.iter().step_by(characters + 1).copied().collect() };
        for kernels in every_isa() {
            let weights = &model.forward(kernels, n);
            let (mut h, mut c) = (state(66), state(67));
            let (mut read, mut c_read) = (h.clone(), first(&c));
            let mut tanh_c = in_lines(&vec![f32::NAN; characters * n], n);
            let mut gates = in_gate_lines(&vec![f32::NAN; characters * 4 * n], n);
            for t in 0..characters {
                kernels.for_columns(n).run(TimeStepForward {
                    weights,
                    t,
                    symbols: &symbols[t..=t],
                    h: &mut h,
                    c: &mut c,
                    tanh_c: &mut tanh_c,
                    gates: &mut gates,
                });
            }
            kernels.for_columns(n).run(Reading { weights, symbols: &symbols, h: &mut read, c: &mut c_read });
            let what = format!("{}: {n}, {characters}", kernels.name());
            let expected = out_of_lines(&h, n);
            assert!(expected.iter().all(|h| h.is_finite()), "{what}");
            assert_eq!(bits(&out_of_lines(&read, n)), bits(&expected), "{what}");
            let c = out_of_lines(&c, n);
            assert_eq!(bits(&out_of_lines(&c_read, n)), bits(&c[characters * n..]), "{what}");
            // It gives nothing: that it stays within its slices is all.
            kernels.for_columns(n).run(ReadingProducts { weights, characters, h: &read });
        }
    }
}

/// Of each T, on the way back through all of them, with some N and B.
#[test]
fn time_steps_backward_have_the_same_bits_on_every_instruction_set_at_any_number_of_them() {
    for [n, unrollings] in sizes([]) {
        let b = unrollings % 4 + 1;
        let rows = unrollings * b;
        let model = Model::new(n);
        let dlogits = in_lines(&noise(68, rows * CLASSES), CLASSES);
        let (c, tanh_c) = (in_lines(&noise(69, (rows + b) * n), n), in_lines(&noise(70, rows * n), n));
        let back = |kernels: Kernels| {
            let weights = &model.backward(kernels, n);
            let mut gates = in_gate_lines(&noise(71, rows * 4 * n), n);
            let mut dc = vec![Line::ZERO; groups(n) * b];
            let mut dh = vec![Line([f32::NAN; LANES]); dh_lines(n, b)];
            for t in (0..unrollings).rev() {
                kernels.for_columns(n).run(TimeStepBackward {
                    weights,
                    batch_size: b,
                    t,
                    dlogits: &dlogits,
                    c: &c,
                    tanh_c: &tanh_c,
                    gates: &mut gates,
                    dc: &mut dc,
                    dh: &mut dh,
                });
            }
            [out_of_gate_lines(&gates, n), out_of_lines(&dc, n)]
        };
        let expected = back(Kernels::of(IsaName::Portable).expect("portable is everywhere"));
        assert!(expected.concat().iter().all(|value| value.is_finite()), "{n}, {b}, {unrollings}");
        for kernels in every_isa() {
            let found = back(kernels);
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(bits(found), bits(expected), "{}: {n}, {b}, {unrollings}", kernels.name());
            }
        }
    }
}
