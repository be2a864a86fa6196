//! `sweep.proto`: what a person asks for, as a formula: axes, grids, policies and whole sweeps.

use slalom_proto::v1;

use super::{WireError, ascending, duration, duration_ms, in_range, no_longer_than, present, text};
use crate::axis::Axis;
use crate::filter::Filter;
use crate::grid::{Axes, Grid};
use crate::run::Family;
use crate::sweep::{BLOCKS_MAX, CorpusFacts, Draft, Policy, StepsPerEpoch, Sweep};

/// The most filters of one grid.
pub const FILTERS_MAX: usize = 1_000;
/// The longest text by which a corpus is called, in bytes: a path is at most this long.
pub const CORPUS_WRITTEN_BYTES_MAX: usize = 4_096;

impl Axis {
    /// As a message.
    pub fn to_wire(&self) -> v1::Axis {
        v1::Axis { values: self.values().to_vec() }
    }

    /// From a message.
    ///
    /// # Errors
    /// If `field` has no values, or any that do not rise.
    pub fn from_wire(field: &'static str, wire: v1::Axis) -> Result<Self, WireError> {
        ascending(field, &wire.values)?;
        Self::new(wire.values).map_err(|source| WireError::Axis { field, source })
    }
}

impl Grid {
    /// As a message.
    pub fn to_wire(&self) -> v1::Grid {
        let Axes { nodes, batch_size, unrollings, epochs, seed } = self.axes();
        v1::Grid {
            nodes: Some(nodes.to_wire()),
            batch_size: Some(batch_size.to_wire()),
            unrollings: Some(unrollings.to_wire()),
            epochs: Some(epochs.to_wire()),
            seed: Some(seed.to_wire()),
            exclude: self.exclude().map(|filter| filter.source().to_owned()).collect(),
        }
    }

    /// From a message.
    ///
    /// # Errors
    /// Names the axis or the filter that is none, or why together they are no grid.
    pub fn from_wire(wire: v1::Grid) -> Result<Self, WireError> {
        let axis = |field, axis| Axis::from_wire(field, present(field, axis)?);
        let axes = Axes {
            nodes: axis("Grid.nodes", wire.nodes)?,
            batch_size: axis("Grid.batch_size", wire.batch_size)?,
            unrollings: axis("Grid.unrollings", wire.unrollings)?,
            epochs: axis("Grid.epochs", wire.epochs)?,
            seed: axis("Grid.seed", wire.seed)?,
        };
        no_longer_than("Grid.exclude", &wire.exclude, FILTERS_MAX)?;
        let filters = wire.exclude.iter().enumerate().map(|(index, source)| {
            Filter::compile(source).map_err(|source| WireError::Filter {
                field: "Grid.exclude",
                index,
                source,
            })
        });
        Ok(Self::new(axes, filters.collect::<Result<_, _>>()?)?)
    }
}

impl Policy {
    /// As a message.
    pub fn to_wire(&self) -> v1::Policy {
        let checkpoint_every_ms = self.checkpoint_every.map(duration_ms);
        v1::Policy { max_attempts: self.max_attempts, checkpoint_every_ms }
    }

    /// From a message.
    ///
    /// # Errors
    /// Names the field out of its range.
    pub fn from_wire(wire: v1::Policy) -> Result<Self, WireError> {
        in_range("Policy.max_attempts", wire.max_attempts.into(), 1..=u32::MAX.into())?;
        let checkpoint_every = wire.checkpoint_every_ms.map(|ms| duration("Policy.checkpoint_every_ms", ms));
        Ok(Self { max_attempts: wire.max_attempts, checkpoint_every: checkpoint_every.transpose()? })
    }
}

impl Draft {
    /// As a message.
    pub fn to_wire(&self) -> v1::Sweep {
        v1::Sweep {
            name: self.name.as_ref().map(|name| name.as_str().to_owned()),
            family: Some(self.family.to_wire()),
            corpus_written: self.corpus.written.clone(),
            corpus_chars: self.corpus.chars,
            blocks: self.blocks.iter().map(Grid::to_wire).collect(),
            steps_per_epoch: Some(match self.steps_per_epoch {
                StepsPerEpoch::Steps(steps) => v1::sweep::StepsPerEpoch::Steps(steps),
                StepsPerEpoch::FullPass => v1::sweep::StepsPerEpoch::FullPass(true),
            }),
            eval_every: (self.eval_every > 0).then_some(self.eval_every),
            policy: Some(self.policy.to_wire()),
        }
    }

    /// From a message; whether it is a sweep, [`Sweep::new`] says.
    ///
    /// # Errors
    /// Names the field that is not of a sweep.
    pub fn from_wire(wire: v1::Sweep) -> Result<Self, WireError> {
        let name = wire.name.map(|name| name.parse());
        let name = name.transpose().map_err(|source| WireError::Name { field: "Sweep.name", source })?;
        no_longer_than("Sweep.blocks", &wire.blocks, BLOCKS_MAX)?;
        let eval_every = wire.eval_every.map(|every| in_range("Sweep.eval_every", every, 1..=u64::MAX));
        Ok(Self {
            name,
            family: Family::from_wire(&present("Sweep.family", wire.family)?)?,
            corpus: CorpusFacts {
                written: text("Sweep.corpus_written", wire.corpus_written, CORPUS_WRITTEN_BYTES_MAX)?,
                chars: wire.corpus_chars,
            },
            blocks: wire.blocks.into_iter().map(Grid::from_wire).collect::<Result<_, _>>()?,
            steps_per_epoch: match present("Sweep.steps_per_epoch", wire.steps_per_epoch)? {
                v1::sweep::StepsPerEpoch::Steps(steps) => StepsPerEpoch::Steps(steps),
                v1::sweep::StepsPerEpoch::FullPass(_) => StepsPerEpoch::FullPass,
            },
            eval_every: eval_every.transpose()?.unwrap_or(0),
            policy: Policy::from_wire(present("Sweep.policy", wire.policy)?)?,
        })
    }
}

impl Sweep {
    /// As a message, its name spelled out: how a default name is made may change, what was named so may not.
    pub fn to_wire(&self) -> v1::Sweep {
        v1::Sweep { name: Some(self.name().as_str().to_owned()), ..self.draft().to_wire() }
    }

    /// From a message.
    ///
    /// # Errors
    /// Names the field that is not of a sweep, or why all of them together are none.
    pub fn from_wire(wire: v1::Sweep) -> Result<Self, WireError> {
        Ok(Self::new(Draft::from_wire(wire)?)?)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::id::{ContentHash, NumericsVersion};
    use crate::settings::TrainingSettings;

    fn block(nodes: &str, exclude: &[&str]) -> Grid {
        let axis = |text: &str| text.parse().expect("an axis");
        let axes = Axes {
            nodes: axis(nodes),
            batch_size: axis("16..=64:x2"),
            unrollings: axis("1,6"),
            epochs: axis("500,1000"),
            seed: axis("0,1"),
        };
        let filters = exclude.iter().map(|source| Filter::compile(source).expect("a filter")).collect();
        Grid::new(axes, filters).expect("a grid")
    }

    fn draft() -> Draft {
        Draft {
            name: Some("ski-slope".parse().expect("a name")),
            family: Family {
                corpus: ContentHash::of(b"snow"),
                valid_size: 1000,
                training: TrainingSettings::default(),
                numerics: NumericsVersion::new(1),
            },
            corpus: CorpusFacts { written: "synthetic".to_owned(), chars: 1_000_000 },
            blocks: vec![
                block("8,16", &["unrollings > nodes && batch_size == 16", "seed > 9"]),
                block("32", &[]),
            ],
            steps_per_epoch: StepsPerEpoch::Steps(1),
            eval_every: 100,
            policy: Policy { max_attempts: 3, checkpoint_every: Some(Duration::from_millis(2500)) },
        }
    }

    #[test]
    fn a_draft_arrives_as_it_was_sent() {
        let others = [
            Draft { name: None, ..draft() },
            Draft { steps_per_epoch: StepsPerEpoch::FullPass, eval_every: 0, ..draft() },
            Draft { policy: Policy::default(), ..draft() },
            draft(),
        ];
        for draft in others {
            assert_eq!(Draft::from_wire(draft.to_wire()), Ok(draft));
        }
    }

    #[test]
    fn a_sweep_arrives_with_its_name_even_if_that_was_made_for_it() {
        let sweep = Sweep::new(Draft { name: None, ..draft() }).expect("a sweep");
        let arrived = Sweep::from_wire(sweep.to_wire()).expect("the same sweep");
        assert_eq!(arrived, sweep);
    }

    fn axis(sweep: &mut v1::Sweep) -> &mut Vec<u64> {
        &mut sweep.blocks[0].nodes.as_mut().expect("it was made with one").values
    }

    #[test]
    fn what_is_no_sweep_is_refused_by_field() {
        let refused = |change: fn(&mut v1::Sweep)| {
            let mut wire = draft().to_wire();
            change(&mut wire);
            Sweep::from_wire(wire).expect_err("not a sweep")
        };
        let said = |change| refused(change).to_string();
        assert_eq!(said(|sweep| axis(sweep).swap(0, 1)), "`Grid.nodes` does not rise at its element 1");
        assert_eq!(said(|sweep| axis(sweep).clear()), "`Grid.nodes` is no axis");
        assert_eq!(said(|sweep| axis(sweep)[0] = 0), "`nodes` is 0: it must be from 1 to 16384");
        assert_eq!(
            said(|sweep| sweep.blocks[0].exclude[1] = "sed > 9".to_owned()),
            "`Grid.exclude` is no filter at its element 1"
        );
        assert_eq!(said(|sweep| sweep.name = Some("No".to_owned())), "`Sweep.name` is no name");
        assert_eq!(said(|sweep| sweep.eval_every = Some(0)), {
            format!("`Sweep.eval_every` is 0: it must be from 1 to {}", u64::MAX)
        });
        assert_eq!(
            said(|sweep| sweep.corpus_chars = 1010),
            "`batch_size` is 16, more than the 10 characters to train on"
        );
        assert!(matches!(
            refused(|sweep| sweep.blocks = vec![v1::Grid::default(); BLOCKS_MAX + 1]),
            WireError::TooLong { field: "Sweep.blocks", .. }
        ));
        for absent in [
            |sweep: &mut v1::Sweep| sweep.family = None,
            |sweep: &mut v1::Sweep| sweep.steps_per_epoch = None,
            |sweep: &mut v1::Sweep| sweep.policy = None,
            |sweep: &mut v1::Sweep| sweep.blocks[0].seed = None,
        ] {
            assert!(matches!(refused(absent), WireError::Absent { .. }));
        }
    }
}
