//! `slalom bench`: how fast one core of this machine trains, against its own peak.

use std::time::Duration;

use serde::Serialize;
use slalom_common::cost::Coefficients;
use slalom_common::run::Shape;
use slalom_worker::bench::{
    self, Effort, Probe, SHAPES, StepRate, VALID_SIZE, VALIDATED_NODES, ValidationRate,
};
use slalom_worker::kernels::{IsaName, Kernels};

use super::kernels;
use crate::args::BenchArgs;
use crate::failure::{Exit, Failure};
use crate::output::columns::{Columns, Side};
use crate::output::{Mode, Output, note, number, print, print_json};

/// Prints what it measures: objects as they come, or a table in the end.
///
/// # Errors
/// A shape for which there is no memory, or too little text.
pub(crate) fn run(args: &BenchArgs, output: Output) -> anyhow::Result<Exit> {
    let kernels = kernels(args.isa)?;
    if cfg!(debug_assertions) {
        note("this build checks itself as it goes and is half as fast: measure with `cargo build --release`");
    }
    if args.fit {
        return fit(kernels, args.seconds, output);
    }
    let (shapes, validations) = asked(args);
    let rows = shapes.len() + validations.len();
    let effort = match args.seconds {
        Duration::ZERO => Effort::LEAST,
        // One part more for the head.
        seconds => Effort::lasting(seconds / (rows as u32 + 1)),
    };
    let mut printer = Printer::new(output, kernels.name());
    printer.core(bench::peak(kernels, effort))?;
    for &shape in &shapes {
        let rate = bench::step_rate(kernels, shape, effort).map_err(|error| {
            Failure::error(format!("cannot time a step of {shape}: {error}")).help(SMALLER)
        })?;
        printer.step(&rate)?;
    }
    for &nodes in &validations {
        let rate = bench::validation_rate(kernels, nodes, effort).map_err(|error| {
            Failure::error(format!("cannot time a validation of {nodes} nodes: {error}")).help(SMALLER)
        })?;
        printer.validation(&rate)?;
    }
    printer.finish()?;
    Ok(Exit::Done)
}

const SMALLER: &str = "take a smaller model or batch";

/// What was named; all that `docs/performance.md` has where nothing was.
fn asked(args: &BenchArgs) -> (Vec<Shape>, Vec<u32>) {
    if args.shapes.is_empty() && args.validations.is_empty() {
        (SHAPES.to_vec(), VALIDATED_NODES.to_vec())
    } else {
        (args.shapes.clone(), args.validations.clone())
    }
}

/// Prints the coefficients of the cost model for a core of this machine, and how far they are off what was timed.
fn fit(kernels: Kernels, time: Duration, output: Output) -> anyhow::Result<Exit> {
    let isa = kernels.name().word();
    let probes = bench::timed(kernels, time).map_err(|error| {
        Failure::error(format!("cannot time the small shapes of the fit: {error}")).help(SMALLER)
    })?;
    let cost = Coefficients::fit(&probes.iter().map(|(_, timed)| *timed).collect::<Vec<_>>());
    let mut columns = Columns::new([
        ("nodes", Side::Right),
        ("batch", Side::Right),
        ("unroll", Side::Right),
        ("µs", Side::Right),
        ("µs fitted", Side::Right),
        ("off", Side::Right),
    ]);
    for (probe, timed) in probes {
        let (nodes, sizes) = match probe {
            Probe::Step(Shape { nodes, batch_size, unrollings }) => (nodes, Some((batch_size, unrollings))),
            Probe::Validation(nodes) => (nodes, None),
        };
        let (fastest_us, fitted_us) = (timed.seconds * 1e6, cost.seconds(&timed.work) * 1e6);
        match output.mode() {
            Mode::Json => {
                let (batch_size, unrollings) = sizes.unzip();
                print_json(&Line::Probe { isa, nodes, batch_size, unrollings, fastest_us, fitted_us })?;
            }
            Mode::Table => columns.row([
                nodes.to_string(),
                sizes.map_or_else(|| "validation".to_owned(), |(batch_size, _)| batch_size.to_string()),
                sizes.map_or_else(|| "-".to_owned(), |(_, unrollings)| unrollings.to_string()),
                microseconds(fastest_us),
                microseconds(fitted_us),
                format!("{:+.1}%", (fitted_us / fastest_us - 1.0) * 100.0),
            ]),
            Mode::Quiet => {}
        }
    }
    let Coefficients { step, time_step, activation, product, update, character, character_product } = cost;
    match output.mode() {
        Mode::Json => print_json(&Line::Cost {
            isa,
            step,
            time_step,
            activation,
            product,
            update,
            character,
            character_product,
        })?,
        Mode::Table => {
            output.columns(&columns)?;
            print(&format!(
                "\nseconds of one {isa} core, as `REFERENCE` in common/src/cost.rs has them:\n    \
                 step: {step:.2e},\n    time_step: {time_step:.2e},\n    activation: {activation:.2e},\n    \
                 product: {product:.2e},\n    update: {update:.2e},\n    character: {character:.2e},\n    \
                 character_product: {character_product:.2e},\n"
            ))?;
        }
        Mode::Quiet => {}
    }
    Ok(Exit::Done)
}

/// One line of `--output json`. Times are of one step or validation, rates of one core.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Line {
    Core {
        isa: &'static str,
        peak_gflops: f64,
    },
    Step {
        isa: &'static str,
        nodes: u32,
        batch_size: u32,
        unrollings: u32,
        median_us: f64,
        characters_per_second: f64,
        gflops: f64,
        share_of_peak: f64,
        peak_gflops: f64,
    },
    Validation {
        isa: &'static str,
        nodes: u32,
        valid_size: usize,
        median_us: f64,
        products_us: f64,
        over_products: f64,
        products_gflops: f64,
    },
    /// A step, or a validation where there is no batch size.
    Probe {
        isa: &'static str,
        nodes: u32,
        batch_size: Option<u32>,
        unrollings: Option<u32>,
        fastest_us: f64,
        fitted_us: f64,
    },
    Cost {
        isa: &'static str,
        step: f64,
        time_step: f64,
        activation: f64,
        product: f64,
        update: f64,
        character: f64,
        character_product: f64,
    },
}

enum Report {
    Json,
    Table(Box<Table>),
    Quiet,
}

/// What is printed in the end: columns are as wide as their widest cells.
struct Table {
    output: Output,
    head: String,
    steps: Columns<7>,
    validations: Columns<5>,
}

struct Printer {
    isa: &'static str,
    report: Report,
}

impl Printer {
    fn new(output: Output, isa: IsaName) -> Self {
        let report = match output.mode() {
            Mode::Json => Report::Json,
            Mode::Quiet => Report::Quiet,
            Mode::Table => Report::Table(Box::new(Table {
                output,
                head: String::new(),
                steps: Columns::new([
                    ("nodes", Side::Right),
                    ("batch", Side::Right),
                    ("unroll", Side::Right),
                    ("µs a step", Side::Right),
                    ("characters/s", Side::Right),
                    ("GFLOP/s", Side::Right),
                    ("of the peak", Side::Right),
                ]),
                validations: Columns::new([
                    ("nodes", Side::Right),
                    ("µs a validation", Side::Right),
                    ("µs its products", Side::Right),
                    ("times these", Side::Right),
                    ("GFLOP/s of these", Side::Right),
                ]),
            })),
        };
        Self { isa: isa.word(), report }
    }

    fn core(&mut self, peak: f64) -> std::io::Result<()> {
        let isa = self.isa;
        match &mut self.report {
            Report::Json => print_json(&Line::Core { isa, peak_gflops: peak / 1e9 }),
            Report::Table(table) => {
                table.head = format!(
                    "{isa}, one core: {:.1} GFLOP/s at its peak, fused multiply-adds only",
                    peak / 1e9
                );
                Ok(())
            }
            Report::Quiet => Ok(()),
        }
    }

    fn step(&mut self, rate: &StepRate) -> std::io::Result<()> {
        let Shape { nodes, batch_size, unrollings } = rate.shape;
        let (median_us, gflops) = (rate.seconds * 1e6, rate.flops_per_second / 1e9);
        match &mut self.report {
            Report::Json => print_json(&Line::Step {
                isa: self.isa,
                nodes,
                batch_size,
                unrollings,
                median_us,
                characters_per_second: rate.characters_per_second(),
                gflops,
                share_of_peak: rate.share_of_peak,
                peak_gflops: rate.peak_flops_per_second / 1e9,
            }),
            Report::Table(table) => {
                table.steps.row([
                    nodes.to_string(),
                    batch_size.to_string(),
                    unrollings.to_string(),
                    microseconds(median_us),
                    number::count(rate.characters_per_second().round() as u64),
                    format!("{gflops:.1}"),
                    format!("{:.1}%", rate.share_of_peak * 100.0),
                ]);
                Ok(())
            }
            Report::Quiet => Ok(()),
        }
    }

    fn validation(&mut self, rate: &ValidationRate) -> std::io::Result<()> {
        let nodes = rate.nodes;
        let (median_us, products_us) = (rate.seconds * 1e6, rate.products_seconds * 1e6);
        let products_gflops = rate.flops_per_second / 1e9;
        match &mut self.report {
            Report::Json => print_json(&Line::Validation {
                isa: self.isa,
                nodes,
                valid_size: VALID_SIZE,
                median_us,
                products_us,
                over_products: rate.over_products,
                products_gflops,
            }),
            Report::Table(table) => {
                table.validations.row([
                    nodes.to_string(),
                    microseconds(median_us),
                    microseconds(products_us),
                    format!("{:.2}", rate.over_products),
                    format!("{products_gflops:.1}"),
                ]);
                Ok(())
            }
            Report::Quiet => Ok(()),
        }
    }

    fn finish(self) -> std::io::Result<()> {
        let Report::Table(table) = self.report else { return Ok(()) };
        let Table { output, head, steps, validations } = *table;
        print(&format!("{head}\n"))?;
        if !steps.is_empty() {
            print("\n")?;
            output.columns(&steps)?;
        }
        if !validations.is_empty() {
            print("\n")?;
            output.columns(&validations)?;
        }
        Ok(())
    }
}

/// `4.62`, `366.1`, `177,883`.
fn microseconds(value: f64) -> String {
    match value {
        _ if value < 100.0 => format!("{value:.2}"),
        _ if value < 1000.0 => format!("{value:.1}"),
        _ => number::count(value.round() as u64),
    }
}
