//! The container of everything a run needs to go on elsewhere, and each way that one is refused.
//!
//! A checkpoint is a safetensors file. Its tensors are the weights (as the model keeps them), the carried state, the
//! cursors and the column read last; its one metadata entry, `slalom`, is a line of JSON that says whose they are.
//! One entry, since safetensors keeps metadata in a `HashMap`: so the same state is the same bytes, and the SHA-256
//! of the whole file is its name in every store. Bytes come from outside: nothing in them makes this module panic.

use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::id::{NumericsVersion, RunKey, Step};
use crate::run::{Run, Shape};

/// Symbols of the alphabet, and so rows of the input kernel and predictions of the classifier.
const SYMBOLS: usize = 27;
/// The version of this container.
const FORMAT: u32 = 1;
/// The metadata entry that holds [`Head`].
const HEAD: &str = "slalom";

/// A run after so many steps, whole: training that goes on from it gives the bits that it would have given.
#[derive(Clone, PartialEq, Debug)]
pub struct Checkpoint {
    /// Whose state this is.
    pub run: RunKey,
    /// What its bits are promised under; part of the key too, but said here so that a refusal can say why.
    pub numerics: NumericsVersion,
    /// The run's sizes: `N`, `B`, `T` below.
    pub shape: Shape,
    /// Steps applied.
    pub step: Step,
    /// Loss of the last step applied, in nats per character; none before the first.
    pub loss: Option<f64>,
    /// The model.
    pub weights: Weights,
    /// The carried hidden state, `[B, N]`.
    pub h: Vec<f32>,
    /// The carried cells, `[B, N]`.
    pub c: Vec<f32>,
    /// Each row's place in the training text, `[B]`.
    pub cursors: Vec<u64>,
    /// The column of symbols read last, which the next step begins with, `[B]`.
    pub last_column: Vec<u8>,
}

/// The model's parameters, each row by row; `4N` is the gates i, f, g, o side by side.
#[derive(Clone, PartialEq, Debug)]
pub struct Weights {
    /// `[27, 4N]`.
    pub input_kernel: Vec<f32>,
    /// `[N, 4N]`.
    pub recurrent_kernel: Vec<f32>,
    /// `[4N]`.
    pub bias: Vec<f32>,
    /// `[N, 27]`.
    pub classifier: Vec<f32>,
    /// `[27]`.
    pub classifier_bias: Vec<f32>,
}

/// Why bytes are not a checkpoint that this run can go on from.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Torn, or never a checkpoint: the container does not hold together.
    #[error("not a whole checkpoint file")]
    Torn(#[source] SafeTensorError),
    /// A safetensors file, but not one of ours.
    #[error("a safetensors file without the entry `slalom` of a checkpoint")]
    NotACheckpoint,
    /// The entry `slalom` is not what a checkpoint says of itself.
    #[error("the checkpoint's entry `slalom` cannot be read")]
    Head(#[source] serde_json::Error),
    /// Written by another version of Slalom.
    #[error("a checkpoint of format {0}; this build reads format {FORMAT}")]
    Format(u32),
    /// Its bits are promised under another numerics version.
    #[error("a checkpoint of numerics version {found}; the run has version {wanted}")]
    Numerics {
        /// The checkpoint's.
        found: u32,
        /// The run's.
        wanted: NumericsVersion,
    },
    /// Its sizes are not the run's.
    #[error("a checkpoint of nodes, batch_size, unrollings {found:?}; the run has {wanted:?}")]
    Shape {
        /// The checkpoint's.
        found: [u32; 3],
        /// The run's.
        wanted: [u32; 3],
    },
    /// Another run's: other corpus, seed or settings.
    #[error("a checkpoint of run {found}, not of run {wanted}")]
    Run {
        /// The checkpoint's key.
        found: String,
        /// The run's.
        wanted: RunKey,
    },
    /// A step beyond what any run may have.
    #[error("a checkpoint of step {0}: steps are below 2^40")]
    Step(u64),
    /// A tensor that a checkpoint has is not there.
    #[error("a checkpoint without the tensor `{0}`")]
    TensorAbsent(&'static str),
    /// A tensor is not as long as the shape has it, or holds another type.
    #[error("tensor `{name}` of the checkpoint is {found:?}; the shape has {wanted:?}")]
    Tensor {
        /// Its name.
        name: &'static str,
        /// Its type and dimensions.
        found: (Dtype, Vec<usize>),
        /// What they must be.
        wanted: (Dtype, Vec<usize>),
    },
    /// A symbol of the last column is none of the 27.
    #[error("symbol {symbol} in row {row} of the checkpoint's last column: ids are 0 to 26")]
    Symbol {
        /// The row of the batch.
        row: usize,
        /// What stands there.
        symbol: u8,
    },
}

/// What a checkpoint says of itself.
#[derive(Serialize, Deserialize)]
struct Head {
    format: u32,
    run: String,
    numerics: u32,
    nodes: u32,
    batch_size: u32,
    unrollings: u32,
    step: u64,
    /// As bits, so that what is read is what was written.
    loss_bits: Option<u64>,
}

/// Only the version, so that a head of another one can still say which it is.
#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

impl Checkpoint {
    /// The file: the same state gives the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let [n, b] = [self.shape.nodes as usize, self.shape.batch_size as usize];
        let head = Head {
            format: FORMAT,
            run: self.run.to_string(),
            numerics: self.numerics.number(),
            nodes: self.shape.nodes,
            batch_size: self.shape.batch_size,
            unrollings: self.shape.unrollings,
            step: self.step.number(),
            loss_bits: self.loss.map(f64::to_bits),
        };
        let head =
            serde_json::to_string(&head).expect("a struct of numbers and one hexadecimal word is JSON");
        let Weights { input_kernel, recurrent_kernel, bias, classifier, classifier_bias } = &self.weights;
        let tensors: [(&str, Dtype, Vec<usize>, Vec<u8>); 9] = [
            ("input_kernel", Dtype::F32, vec![SYMBOLS, 4 * n], f32_bytes(input_kernel)),
            ("recurrent_kernel", Dtype::F32, vec![n, 4 * n], f32_bytes(recurrent_kernel)),
            ("bias", Dtype::F32, vec![4 * n], f32_bytes(bias)),
            ("classifier", Dtype::F32, vec![n, SYMBOLS], f32_bytes(classifier)),
            ("classifier_bias", Dtype::F32, vec![SYMBOLS], f32_bytes(classifier_bias)),
            ("h", Dtype::F32, vec![b, n], f32_bytes(&self.h)),
            ("c", Dtype::F32, vec![b, n], f32_bytes(&self.c)),
            ("cursors", Dtype::U64, vec![b], self.cursors.iter().flat_map(|c| c.to_le_bytes()).collect()),
            ("last_column", Dtype::U8, vec![b], self.last_column.clone()),
        ];
        let views = tensors.iter().map(|(name, dtype, dimensions, data)| {
            let view = TensorView::new(*dtype, dimensions.clone(), data);
            (*name, view.expect("the arrays of a checkpoint have the sizes of its shape"))
        });
        let metadata = [(HEAD.to_owned(), head)].into_iter().collect();
        safetensors::serialize(views, Some(metadata))
            .expect("nine tensors of distinct names make a container")
    }

    /// Reads a file that `run` can go on from.
    ///
    /// # Errors
    /// Each way in which `bytes` are not that.
    pub fn from_bytes(bytes: &[u8], run: &Run) -> Result<Self, CheckpointError> {
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(CheckpointError::Torn)?;
        let head = metadata.metadata().as_ref().and_then(|entries| entries.get(HEAD));
        let head = read_head(head.ok_or(CheckpointError::NotACheckpoint)?)?;
        check_head(&head, run)?;

        let tensors = SafeTensors::deserialize(bytes).map_err(CheckpointError::Torn)?;
        let [n, b] = [run.shape.nodes as usize, run.shape.batch_size as usize];
        let weights = Weights {
            input_kernel: f32_tensor(&tensors, "input_kernel", &[SYMBOLS, 4 * n])?,
            recurrent_kernel: f32_tensor(&tensors, "recurrent_kernel", &[n, 4 * n])?,
            bias: f32_tensor(&tensors, "bias", &[4 * n])?,
            classifier: f32_tensor(&tensors, "classifier", &[n, SYMBOLS])?,
            classifier_bias: f32_tensor(&tensors, "classifier_bias", &[SYMBOLS])?,
        };
        let cursors = tensor(&tensors, "cursors", Dtype::U64, &[b])?;
        let last_column = tensor(&tensors, "last_column", Dtype::U8, &[b])?.to_vec();
        if let Some(row) = last_column.iter().position(|&symbol| usize::from(symbol) >= SYMBOLS) {
            return Err(CheckpointError::Symbol { row, symbol: last_column[row] });
        }
        Ok(Self {
            run: run.key(),
            numerics: run.family.numerics,
            shape: run.shape,
            step: Step::new(head.step),
            loss: head.loss_bits.map(f64::from_bits),
            weights,
            h: f32_tensor(&tensors, "h", &[b, n])?,
            c: f32_tensor(&tensors, "c", &[b, n])?,
            cursors: cursors.as_chunks().0.iter().map(|&bytes| u64::from_le_bytes(bytes)).collect(),
            last_column,
        })
    }
}

fn read_head(json: &str) -> Result<Head, CheckpointError> {
    let FormatOnly { format } = serde_json::from_str(json).map_err(CheckpointError::Head)?;
    if format != FORMAT {
        return Err(CheckpointError::Format(format));
    }
    serde_json::from_str(json).map_err(CheckpointError::Head)
}

/// What differs is named in the order in which it explains the most: the key covers version and shape as well.
fn check_head(head: &Head, run: &Run) -> Result<(), CheckpointError> {
    if head.numerics != run.family.numerics.number() {
        return Err(CheckpointError::Numerics { found: head.numerics, wanted: run.family.numerics });
    }
    let found = [head.nodes, head.batch_size, head.unrollings];
    let wanted = [run.shape.nodes, run.shape.batch_size, run.shape.unrollings];
    if found != wanted {
        return Err(CheckpointError::Shape { found, wanted });
    }
    let wanted = run.key();
    if head.run != wanted.to_string() {
        return Err(CheckpointError::Run { found: head.run.clone(), wanted });
    }
    if head.step >= 1 << 40 {
        return Err(CheckpointError::Step(head.step));
    }
    Ok(())
}

fn tensor<'a>(
    tensors: &SafeTensors<'a>,
    name: &'static str,
    dtype: Dtype,
    dimensions: &[usize],
) -> Result<&'a [u8], CheckpointError> {
    let view = tensors.tensor(name).map_err(|_| CheckpointError::TensorAbsent(name))?;
    if view.dtype() != dtype || view.shape() != dimensions {
        return Err(CheckpointError::Tensor {
            name,
            found: (view.dtype(), view.shape().to_vec()),
            wanted: (dtype, dimensions.to_vec()),
        });
    }
    Ok(view.data())
}

fn f32_tensor(
    tensors: &SafeTensors<'_>,
    name: &'static str,
    dimensions: &[usize],
) -> Result<Vec<f32>, CheckpointError> {
    let bytes = tensor(tensors, name, Dtype::F32, dimensions)?;
    Ok(bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
}

/// A NaN's sign and payload differ between processors, so it is written in one form (a learning rate beyond f32 can
/// leave one in the weights one step before the run is found to diverge).
fn f32_bytes(values: &[f32]) -> Vec<u8> {
    let canonical = |value: &f32| if value.is_nan() { f32::NAN } else { *value };
    values.iter().flat_map(|value| canonical(value).to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ContentHash;
    use crate::run::{Family, NUMERICS};
    use crate::settings::TrainingSettings;

    fn run() -> Run {
        let family = Family {
            corpus: ContentHash::of(b"snow"),
            valid_size: 10,
            training: TrainingSettings::default(),
            numerics: NUMERICS,
        };
        Run { family, shape: Shape { nodes: 3, batch_size: 2, unrollings: 5 }, seed: 7 }
    }

    fn checkpoint() -> Checkpoint {
        let run = run();
        let values = |len: usize| (0..len).map(|i| i as f32 * 0.37 - 1.0).collect::<Vec<_>>();
        Checkpoint {
            run: run.key(),
            numerics: run.family.numerics,
            shape: run.shape,
            step: Step::new(41),
            loss: Some(2.5),
            weights: Weights {
                input_kernel: values(27 * 12),
                recurrent_kernel: values(3 * 12),
                bias: values(12),
                classifier: values(3 * 27),
                classifier_bias: values(27),
            },
            h: values(6),
            c: vec![f32::MIN_POSITIVE / 2.0; 6],
            cursors: vec![u64::MAX, 5],
            last_column: vec![0, 26],
        }
    }

    /// The bytes of [`checkpoint`] with `old` replaced in the JSON of its header, whose length may not change.
    fn with_header(old: &str, new: &str) -> Vec<u8> {
        assert_eq!(old.len(), new.len());
        let mut bytes = checkpoint().to_bytes();
        let place = bytes.windows(old.len()).position(|window| window == old.as_bytes());
        let place = place.expect("the header has what is to be replaced");
        bytes[place..place + old.len()].copy_from_slice(new.as_bytes());
        bytes
    }

    #[test]
    fn what_was_written_is_read_and_written_again_as_the_same_bytes() {
        let written = checkpoint();
        let bytes = written.to_bytes();
        let read = Checkpoint::from_bytes(&bytes, &run()).expect("the bytes are whole");
        assert_eq!(read, written);
        assert_eq!(read.to_bytes(), bytes);
    }

    #[test]
    fn a_file_cut_short_anywhere_or_grown_is_refused_as_torn() {
        let mut bytes = checkpoint().to_bytes();
        for len in 0..bytes.len() {
            let refused = Checkpoint::from_bytes(&bytes[..len], &run());
            assert!(matches!(refused, Err(CheckpointError::Torn(_))), "{len} bytes: {refused:?}");
        }
        bytes.push(0);
        assert!(matches!(Checkpoint::from_bytes(&bytes, &run()), Err(CheckpointError::Torn(_))));
    }

    #[test]
    fn another_run_is_refused_by_what_differs() {
        let bytes = checkpoint().to_bytes();
        let refused = |change: fn(&mut Run)| {
            let mut other = run();
            change(&mut other);
            Checkpoint::from_bytes(&bytes, &other).expect_err("another run's checkpoint")
        };
        let newer = refused(|run| run.family.numerics = NumericsVersion::new(NUMERICS.number() + 1));
        assert!(
            matches!(newer, CheckpointError::Numerics { found, .. } if found == NUMERICS.number()),
            "{newer}"
        );
        let wider = refused(|run| run.shape.batch_size = 3);
        assert!(matches!(wider, CheckpointError::Shape { found: [3, 2, 5], wanted: [3, 3, 5] }), "{wider}");
        for change in [|run: &mut Run| run.seed = 8, |run: &mut Run| run.family.training.learning_rate = 1.0]
        {
            let other = refused(change);
            assert!(matches!(other, CheckpointError::Run { .. }), "{other}");
        }
    }

    #[test]
    fn a_container_that_is_not_quite_a_checkpoint_is_refused_by_what_is_wrong() {
        let refused = |old: &str, new: &str| {
            Checkpoint::from_bytes(&with_header(old, new), &run()).expect_err("the header was changed")
        };
        let foreign = refused("\"slalom\"", "\"salmon\"");
        assert!(matches!(foreign, CheckpointError::NotACheckpoint), "{foreign}");
        let newer = refused("\\\"format\\\":1", "\\\"format\\\":2");
        assert!(matches!(newer, CheckpointError::Format(2)), "{newer}");
        let garbled = refused("\\\"step\\\"", "\\\"stop\\\"");
        assert!(matches!(garbled, CheckpointError::Head(_)), "{garbled}");
        let absent = refused("\"cursors\"", "\"curlers\"");
        assert!(matches!(absent, CheckpointError::TensorAbsent("cursors")), "{absent}");
        let transposed = refused("[3,27]", "[27,3]");
        assert!(matches!(transposed, CheckpointError::Tensor { name: "classifier", .. }), "{transposed}");
        let retyped = refused("\"U64\"", "\"I64\"");
        assert!(matches!(retyped, CheckpointError::Tensor { name: "cursors", .. }), "{retyped}");
    }

    #[test]
    fn a_step_or_a_symbol_out_of_range_is_refused() {
        let late = Checkpoint { step: Step::new(1 << 40), ..checkpoint() };
        let late = Checkpoint::from_bytes(&late.to_bytes(), &run());
        assert!(matches!(late, Err(CheckpointError::Step(_))), "{late:?}");
        let strange = Checkpoint { last_column: vec![0, 27], ..checkpoint() };
        let strange = Checkpoint::from_bytes(&strange.to_bytes(), &run());
        assert!(matches!(strange, Err(CheckpointError::Symbol { row: 1, symbol: 27 })), "{strange:?}");
    }
}
