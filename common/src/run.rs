//! What is trained: a family of runs, the shape of one, and the key it is known by in every store.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::id::{ContentHash, NumericsVersion, RunKey};
use crate::settings::TrainingSettings;

/// What this build's bits are promised under: raised whenever any run's bits change (`worker/tests/numerics.toml`).
pub const NUMERICS: NumericsVersion = NumericsVersion::new(3);

/// What the known run of [`NUMERICS`] comes to wherever build, processor and memory are sound: a worker says in its hello what
/// it came to there. Renewed with `NUMERICS`, from what `worker/src/trainer/known.rs` computes.
pub const KNOWN_RUN: ContentHash = ContentHash::new([
    0x8e, 0x83, 0x54, 0x62, 0x29, 0x6b, 0x0c, 0xf1, 0xa5, 0x91, 0x3a, 0xc9, 0xf0, 0x08, 0xa6, 0xe7, 0xe3,
    0xa2, 0xda, 0xd1, 0x92, 0x41, 0x1c, 0x9b, 0x0e, 0x52, 0x4e, 0x9e, 0xe7, 0xa1, 0x94, 0x4e,
]);

/// What runs whose perplexities may stand in one table have in common: everything that moves bits but shape and seed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Family {
    /// SHA-256 of the final text of 27 symbols.
    pub corpus: ContentHash,
    /// Leading characters of the corpus that validate and never train.
    pub valid_size: u64,
    /// Rates, decay and clipping.
    pub training: TrainingSettings,
    /// What the bits are promised under.
    pub numerics: NumericsVersion,
}

/// The sizes of one model and of its training step.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Shape {
    /// Memory cells of the one LSTM layer; `N`.
    pub nodes: u32,
    /// Rows trained side by side; `B`.
    pub batch_size: u32,
    /// Time steps between two updates; `T`.
    pub unrollings: u32,
}

impl Shape {
    /// The largest `nodes`.
    pub const NODES_MAX: u64 = 16_384;
    /// The largest `batch_size`.
    pub const BATCH_SIZE_MAX: u64 = 65_536;
    /// The largest `unrollings`.
    pub const UNROLLINGS_MAX: u64 = 65_536;

    /// Predictions per training step.
    pub const fn predictions_per_step(&self) -> u64 {
        self.batch_size as u64 * self.unrollings as u64
    }
}

/// What is not a shape within bounds.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ShapeError {
    /// Not three whole numbers.
    #[error("`{0}` is not a shape: nodes, batch_size and unrollings are three whole numbers, as in 64,32,16")]
    Form(String),
    /// A size that no sweep may have.
    #[error("{size} is {value}: it goes from 1 to {max}")]
    OutOfRange {
        /// Which.
        size: &'static str,
        /// As given.
        value: u64,
        /// The largest.
        max: u64,
    },
}

/// `64,32,16` or, as it is shown, `64/32/16`.
impl FromStr for Shape {
    type Err = ShapeError;

    fn from_str(text: &str) -> Result<Self, ShapeError> {
        let form = || ShapeError::Form(text.to_owned());
        let sizes: Vec<u64> = text
            .split([',', '/'])
            .map(|size| size.trim().parse().map_err(|_| form()))
            .collect::<Result<_, _>>()?;
        let [nodes, batch_size, unrollings] = sizes[..] else { return Err(form()) };
        Ok(Self {
            nodes: bounded("nodes", nodes, Self::NODES_MAX)?,
            batch_size: bounded("batch_size", batch_size, Self::BATCH_SIZE_MAX)?,
            unrollings: bounded("unrollings", unrollings, Self::UNROLLINGS_MAX)?,
        })
    }
}

fn bounded(size: &'static str, value: u64, max: u64) -> Result<u32, ShapeError> {
    let within = u32::try_from(value).ok().filter(|_| (1..=max).contains(&value));
    within.ok_or(ShapeError::OutOfRange { size, value, max })
}

/// `64/32/16`: nodes, `batch_size`, unrollings.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.nodes, self.batch_size, self.unrollings)
    }
}

/// One training trajectory; it answers every trial that differs from it only in how long it trains.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Run {
    /// What it shares with the runs it may be compared to.
    pub family: Family,
    /// Its sizes.
    pub shape: Shape,
    /// Decides the initial weights and nothing else.
    pub seed: u64,
}

impl Run {
    /// SHA-256 over all that moves the run's bits, in the order of `DESIGN.md`, each integer as 8 little-endian bytes.
    pub fn key(&self) -> RunKey {
        let Family { corpus, valid_size, training, numerics } = &self.family;
        let mut hash = Sha256::new();
        hash.update(b"slalom-run-1");
        hash.update(corpus.bytes());
        let words = [
            *valid_size,
            self.shape.nodes.into(),
            self.shape.batch_size.into(),
            self.shape.unrollings.into(),
            self.seed,
            training.learning_rate.to_bits(),
            training.decay_rate.to_bits(),
            training.clip_norm.to_bits(),
            training.decay_steps,
            numerics.number().into(),
        ];
        for word in words {
            hash.update(word.to_le_bytes());
        }
        RunKey::new(hash.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_reads_as_it_is_shown_and_has_the_bounds_of_a_sweep() {
        let shape = Shape { nodes: 64, batch_size: 32, unrollings: 16 };
        assert_eq!(["64,32,16", &shape.to_string()].map(str::parse), [Ok(shape), Ok(shape)]);
        for text in ["", "64", "64,32", "64,32,16,1", "64,32,x", "64,32,-1", "99999999999999999999,1,1"] {
            assert_eq!(text.parse::<Shape>(), Err(ShapeError::Form(text.to_owned())));
        }
        for (text, size) in
            [("0,1,1", "nodes"), ("16385,1,1", "nodes"), ("1,65537,1", "batch_size"), ("1,1,0", "unrollings")]
        {
            let refused = text.parse::<Shape>();
            assert!(
                matches!(refused, Err(ShapeError::OutOfRange { size: of, .. }) if of == size),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn each_setting_that_moves_bits_moves_the_key() {
        let family = Family {
            corpus: ContentHash::of(b"a"),
            valid_size: 1000,
            training: TrainingSettings::default(),
            numerics: NumericsVersion::new(1),
        };
        let run = Run { family, shape: Shape { nodes: 8, batch_size: 16, unrollings: 5 }, seed: 0 };
        let mut others = vec![run; 10];
        others[0].family.corpus = ContentHash::of(b"b");
        others[1].family.valid_size = 999;
        others[2].shape.nodes = 9;
        others[3].shape.batch_size = 17;
        others[4].shape.unrollings = 6;
        others[5].seed = 1;
        others[6].family.training.learning_rate = 1.0;
        others[7].family.training.decay_rate = 0.5;
        others[8].family.training.clip_norm = 1.0;
        others[9].family.training.decay_steps = 1;
        let mut newer = run;
        newer.family.numerics = NumericsVersion::new(3);
        others.extend([newer, run]);
        let keys: std::collections::BTreeSet<RunKey> = others.iter().map(Run::key).collect();
        assert_eq!(keys.len(), 12);
    }
}
