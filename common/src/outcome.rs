//! What a run can come to: a perplexity, a divergence, or a failure with one of five reasons.

use std::fmt;

use crate::id::Step;

/// A validation perplexity: finite, and equal to another only if all 64 bits are.
#[derive(Clone, Copy, Debug)]
pub struct Perplexity(f64);

impl Perplexity {
    /// `None` if `value` is not finite: that is a divergence, and never stored as a number.
    pub fn new(value: f64) -> Option<Self> {
        value.is_finite().then_some(Self(value))
    }

    /// The number.
    pub const fn value(self) -> f64 {
        self.0
    }

    /// Its bits, by which it is stored, sent and compared.
    pub const fn bits(self) -> u64 {
        self.0.to_bits()
    }
}

impl PartialEq for Perplexity {
    fn eq(&self, other: &Self) -> bool {
        self.bits() == other.bits()
    }
}

impl Eq for Perplexity {}

impl fmt::Display for Perplexity {
    /// The shortest decimal that reads back to the same bits; with a precision, rounded to it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What a validation found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Measured {
    /// The model's perplexity on the validation text.
    Perplexity(Perplexity),
    /// A prediction was not a finite number: a result, not a failure.
    Diverged,
}

/// A wanted step of a run and what was measured there.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Milestone {
    /// Steps applied before measuring.
    pub step: Step,
    /// The answer.
    pub measured: Measured,
    /// Training loss of the last step applied, in nats per character; none before the first. For people: never compared.
    pub loss: Option<f64>,
}

/// Why a run could not be trained. There are no other reasons.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FailureReason {
    /// The trainer panicked.
    Panic,
    /// The run does not fit the worker's memory.
    Memory,
    /// A slot made no step for far longer than predicted.
    Hung,
    /// The corpus could not be had, or is too short for the run.
    Corpus,
    /// Twenty workers in a row went silent over it.
    Lost,
}

impl FailureReason {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Panic, Self::Memory, Self::Hung, Self::Corpus, Self::Lost];

    /// The word in logs, tables and the store.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Memory => "memory",
            Self::Hung => "hung",
            Self::Corpus => "corpus",
            Self::Lost => "lost",
        }
    }

    /// The reason of this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.word() == word)
    }
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}
