//! What a trainer allocates: all of it when it is made, as much as the estimate says, and nothing in a step.

use std::sync::Arc;

use slalom_common::id::ContentHash;
use slalom_common::run::{Family, NUMERICS, Run, Shape};
use slalom_common::settings::TrainingSettings;
use slalom_worker::kernels::Kernels;
use slalom_worker::lstm::step::Stepped;
use slalom_worker::trainer::memory::bytes_needed;
use slalom_worker::trainer::{Initial, Trainer};

const SHAPES: [[u32; 3]; 6] = [[1, 1, 1], [8, 16, 5], [17, 3, 40], [64, 64, 10], [130, 2, 3], [33, 70, 1]];

fn trainer([nodes, batch_size, unrollings]: [u32; 3], symbols: &Arc<[u8]>) -> Trainer {
    let family = Family {
        corpus: ContentHash::of(symbols),
        valid_size: 30,
        training: TrainingSettings::default(),
        numerics: NUMERICS,
    };
    let run = Run { family, shape: Shape { nodes, batch_size, unrollings }, seed: 1 };
    Trainer::new(Kernels::detect(), &run, Arc::clone(symbols), Initial::Seed).expect("it fits")
}

fn symbols() -> Arc<[u8]> {
    (0..500_u32).map(|index| (index * index % 27) as u8).collect()
}

#[test]
fn a_trainer_allocates_what_the_estimate_says() {
    let symbols = symbols();
    for shape in SHAPES {
        let mut made = None;
        let allocated = allocation_counter::measure(|| made = Some(trainer(shape, &symbols)));
        let [nodes, batch_size, unrollings] = shape;
        let estimate = bytes_needed(&Shape { nodes, batch_size, unrollings });
        assert_eq!(allocated.bytes_current as u64, estimate, "{shape:?}");
        drop(made);
    }
}

#[test]
fn steps_and_validations_allocate_nothing() {
    let symbols = symbols();
    for shape in SHAPES {
        let mut trainer = trainer(shape, &symbols);
        let allocated = allocation_counter::measure(|| {
            for _ in 0..3 {
                assert!(matches!(trainer.step(), Stepped::Applied { .. }));
            }
            trainer.validate();
        });
        assert_eq!(allocated.count_total, 0, "{shape:?}");
    }
}
