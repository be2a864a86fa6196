//! `cargo bench -p slalom-worker`: time per training step, per validation, and the core's own peak.
//!
//! Criterion tells times and characters a second. Beside each step stands what only a ratio tells on a shared machine:
//! GFLOP/s and the share of the peak that was measured in turn with that very step.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use slalom_worker::bench::{
    self, Effort, SHAPES, StepRate, VALID_SIZE, VALIDATED_NODES, ValidationRate, fused_multiply_adds,
};
use slalom_worker::kernels::Kernels;

criterion_group! {
    name = core;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20);
    targets = peak, steps, validations
}
criterion_main!(core);

/// What is beside criterion's own measuring. Cargo says `--bench` to a benchmark, and nothing to a test.
fn effort() -> Effort {
    let said = |word: &str| std::env::args().any(|arg| arg == word);
    if said("--bench") && !said("--test") { Effort::lasting(Duration::from_secs(1)) } else { Effort::LEAST }
}

/// Elements a second are FLOPs a second.
fn peak(criterion: &mut Criterion) {
    let kernels = Kernels::detect();
    let mut group = criterion.benchmark_group("peak");
    group.throughput(Throughput::Elements(fused_multiply_adds(kernels) as u64));
    group.bench_function(kernels.name().word(), |bencher| bencher.iter(|| fused_multiply_adds(kernels)));
    group.finish();
}

/// Elements a second are characters a second.
fn steps(criterion: &mut Criterion) {
    let kernels = Kernels::detect();
    let mut group = criterion.benchmark_group("step");
    group.sampling_mode(SamplingMode::Flat);
    for shape in SHAPES {
        group.throughput(Throughput::Elements(shape.predictions_per_step()));
        let mut rate: Option<StepRate> = None;
        group.bench_function(BenchmarkId::from_parameter(shape), |bencher| {
            rate.get_or_insert_with(|| bench::step_rate(kernels, shape, effort()).expect("it fits"));
            let mut trainer = bench::trainer(kernels, shape).expect("it fits");
            bencher.iter(|| trainer.step());
        });
        // None where a filter leaves the shape out.
        if let Some(StepRate { flops_per_second, share_of_peak, peak_flops_per_second, .. }) = rate {
            println!(
                "{shape}: {:.1} GFLOP/s, {:.1}% of the {:.1} GFLOP/s measured in turn",
                flops_per_second / 1e9,
                share_of_peak * 100.0,
                peak_flops_per_second / 1e9,
            );
        }
    }
    group.finish();
}

/// Elements a second are characters a second.
fn validations(criterion: &mut Criterion) {
    let kernels = Kernels::detect();
    let mut group = criterion.benchmark_group("validation");
    for nodes in VALIDATED_NODES {
        group.throughput(Throughput::Elements(VALID_SIZE as u64));
        let mut rate: Option<ValidationRate> = None;
        group.bench_function(BenchmarkId::from_parameter(nodes), |bencher| {
            rate.get_or_insert_with(|| bench::validation_rate(kernels, nodes, effort()).expect("it fits"));
            bencher.iter(bench::validation(kernels, nodes).expect("it fits"));
        });
        if let Some(ValidationRate { over_products, flops_per_second, .. }) = rate {
            println!(
                "{nodes} nodes: {over_products:.2} times its matrix products alone ({:.1} GFLOP/s)",
                flops_per_second / 1e9,
            );
        }
    }
    group.finish();
}
