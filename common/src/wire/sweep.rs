//! `sweep.proto`: the words of Slalom, whoever sends them.

use slalom_proto::v1;

use super::{WireError, finite, hash, in_range, present, step};
use crate::id::NumericsVersion;
use crate::outcome::{FailureReason, Measured, Milestone, Perplexity};
use crate::run::{Family, Run, Shape};
use crate::settings::TrainingSettings;

impl TrainingSettings {
    /// As a message.
    pub fn to_wire(&self) -> v1::TrainingSettings {
        let Self { learning_rate, decay_rate, decay_steps, clip_norm } = *self;
        v1::TrainingSettings { learning_rate, decay_rate, decay_steps, clip_norm }
    }

    /// From a message.
    ///
    /// # Errors
    /// Names the setting out of its range.
    pub fn from_wire(wire: &v1::TrainingSettings) -> Result<Self, WireError> {
        let v1::TrainingSettings { learning_rate, decay_rate, decay_steps, clip_norm } = *wire;
        let settings = Self { learning_rate, decay_rate, decay_steps, clip_norm };
        settings.check()?;
        Ok(settings)
    }
}

impl Family {
    /// As a message.
    pub fn to_wire(&self) -> v1::Family {
        v1::Family {
            corpus_sha256: self.corpus.bytes().to_vec(),
            valid_size: self.valid_size,
            training: Some(self.training.to_wire()),
            numerics_version: self.numerics.number(),
        }
    }

    /// From a message.
    ///
    /// # Errors
    /// Names the field that is not of a family.
    pub fn from_wire(wire: &v1::Family) -> Result<Self, WireError> {
        let training = present("Family.training", wire.training.as_ref())?;
        Ok(Self {
            corpus: hash("Family.corpus_sha256", &wire.corpus_sha256)?,
            valid_size: in_range("Family.valid_size", wire.valid_size, 1..=u64::MAX)?,
            training: TrainingSettings::from_wire(training)?,
            numerics: NumericsVersion::new(wire.numerics_version),
        })
    }
}

impl Run {
    /// As a message.
    pub fn to_wire(&self) -> v1::Run {
        let Shape { nodes, batch_size, unrollings } = self.shape;
        v1::Run { family: Some(self.family.to_wire()), nodes, batch_size, unrollings, seed: self.seed }
    }

    /// From a message.
    ///
    /// # Errors
    /// Names the field that is not of a run.
    pub fn from_wire(wire: &v1::Run) -> Result<Self, WireError> {
        in_range("Run.nodes", wire.nodes.into(), 1..=Shape::NODES_MAX)?;
        in_range("Run.batch_size", wire.batch_size.into(), 1..=Shape::BATCH_SIZE_MAX)?;
        in_range("Run.unrollings", wire.unrollings.into(), 1..=Shape::UNROLLINGS_MAX)?;
        Ok(Self {
            family: Family::from_wire(present("Run.family", wire.family.as_ref())?)?,
            shape: Shape { nodes: wire.nodes, batch_size: wire.batch_size, unrollings: wire.unrollings },
            seed: wire.seed,
        })
    }
}

impl Milestone {
    /// As a message.
    pub fn to_wire(&self) -> v1::Milestone {
        let measured = match self.measured {
            Measured::Perplexity(perplexity) => v1::milestone::Measured::PerplexityBits(perplexity.bits()),
            Measured::Diverged => v1::milestone::Measured::Diverged(v1::Diverged {}),
        };
        v1::Milestone { step: self.step.number(), measured: Some(measured), loss: self.loss }
    }

    /// From a message.
    ///
    /// # Errors
    /// Names the field that is not of a milestone.
    pub fn from_wire(wire: &v1::Milestone) -> Result<Self, WireError> {
        let measured = match present("Milestone.measured", wire.measured.as_ref())? {
            v1::milestone::Measured::PerplexityBits(bits) => {
                let value = f64::from_bits(*bits);
                let field = "Milestone.perplexity_bits";
                let perplexity = Perplexity::new(value);
                Measured::Perplexity(perplexity.ok_or(WireError::Float {
                    field,
                    value,
                    must_be: "finite",
                })?)
            }
            v1::milestone::Measured::Diverged(v1::Diverged {}) => Measured::Diverged,
        };
        let loss = wire.loss.map(|loss| finite("Milestone.loss", loss)).transpose()?;
        Ok(Self { step: step("Milestone.step", wire.step)?, measured, loss })
    }
}

impl FailureReason {
    /// As a message's number.
    pub fn to_wire(self) -> v1::FailureReason {
        match self {
            Self::Panic => v1::FailureReason::Panic,
            Self::Memory => v1::FailureReason::Memory,
            Self::Hung => v1::FailureReason::Hung,
            Self::Corpus => v1::FailureReason::Corpus,
            Self::Lost => v1::FailureReason::Lost,
        }
    }

    /// From `field`'s number.
    ///
    /// # Errors
    /// If it is no reason.
    pub fn from_wire(field: &'static str, wire: i32) -> Result<Self, WireError> {
        match v1::FailureReason::try_from(wire) {
            Ok(v1::FailureReason::Panic) => Ok(Self::Panic),
            Ok(v1::FailureReason::Memory) => Ok(Self::Memory),
            Ok(v1::FailureReason::Hung) => Ok(Self::Hung),
            Ok(v1::FailureReason::Corpus) => Ok(Self::Corpus),
            Ok(v1::FailureReason::Lost) => Ok(Self::Lost),
            Ok(v1::FailureReason::Unspecified) | Err(_) => Err(WireError::NotInEnum { field, value: wire }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ContentHash, Step};

    fn run() -> Run {
        let family = Family {
            corpus: ContentHash::of(b"snow"),
            valid_size: 1000,
            training: TrainingSettings::default(),
            numerics: NumericsVersion::new(1),
        };
        Run { family, shape: Shape { nodes: 8, batch_size: 16, unrollings: 5 }, seed: u64::MAX }
    }

    #[test]
    fn a_run_arrives_as_it_was_sent() {
        assert_eq!(Run::from_wire(&run().to_wire()), Ok(run()));
    }

    #[test]
    fn a_run_that_nobody_can_train_is_refused_by_field() {
        let refused = |change: fn(&mut v1::Run)| {
            let mut wire = run().to_wire();
            change(&mut wire);
            Run::from_wire(&wire).expect_err("a run out of bounds").to_string()
        };
        assert_eq!(refused(|run| run.nodes = 0), "`Run.nodes` is 0: it must be from 1 to 16384");
        assert_eq!(
            refused(|run| run.unrollings = 65_537),
            "`Run.unrollings` is 65537: it must be from 1 to 65536"
        );
        assert!(refused(|run| run.family = None).starts_with("`Run.family` is absent"));
        let family = |run: &mut v1::Run, change: fn(&mut v1::Family)| {
            change(run.family.as_mut().expect("it was made with one"));
        };
        let mut wire = run().to_wire();
        family(&mut wire, |family| {
            family.corpus_sha256.pop();
        });
        let short = WireError::ByteCount { field: "Family.corpus_sha256", found: 31, wanted: 32 };
        assert_eq!(Run::from_wire(&wire), Err(short));
        let mut wire = run().to_wire();
        family(&mut wire, |family| {
            family.training.as_mut().expect("it was made with them").clip_norm = f64::NAN;
        });
        assert!(matches!(Run::from_wire(&wire), Err(WireError::Settings(_))));
    }

    #[test]
    fn a_milestone_arrives_with_all_its_bits_and_never_as_a_number_that_is_none() {
        let perplexity = Perplexity::new(4.25 + f64::EPSILON).expect("finite");
        let sent =
            Milestone { step: Step::new(7), measured: Measured::Perplexity(perplexity), loss: Some(1.5) };
        assert_eq!(Milestone::from_wire(&sent.to_wire()), Ok(sent));
        let diverged = Milestone { measured: Measured::Diverged, loss: None, ..sent };
        assert_eq!(Milestone::from_wire(&diverged.to_wire()), Ok(diverged));

        let bits = f64::NAN.to_bits();
        let nan =
            v1::Milestone { measured: Some(v1::milestone::Measured::PerplexityBits(bits)), ..sent.to_wire() };
        assert!(matches!(Milestone::from_wire(&nan), Err(WireError::Float { .. })));
        let unmeasured = v1::Milestone { measured: None, ..sent.to_wire() };
        assert_eq!(Milestone::from_wire(&unmeasured), Err(WireError::Absent { field: "Milestone.measured" }));
        let endless = v1::Milestone { step: 1 << 40, ..sent.to_wire() };
        assert!(matches!(Milestone::from_wire(&endless), Err(WireError::OutOfRange { .. })));
    }

    #[test]
    fn every_reason_survives_the_wire_and_no_other_number_is_one() {
        for reason in FailureReason::ALL {
            assert_eq!(FailureReason::from_wire("Failed.reason", reason.to_wire() as i32), Ok(reason));
        }
        for value in [0, 6, -1] {
            let refused = FailureReason::from_wire("Failed.reason", value);
            assert_eq!(refused, Err(WireError::NotInEnum { field: "Failed.reason", value }));
        }
    }
}
