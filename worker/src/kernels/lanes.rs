//! What `simd` says of each lane operation, held on every instruction set.

use super::simd::{Algorithm, LANES, ROUNDER, Simd};
use super::tests::{bits, every_isa, noise};

/// Numbers that arithmetic treats each in its own way.
const ODD: [f32; 24] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.1,
    -3.7,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    f32::MAX,
    f32::MIN,
    f32::MIN_POSITIVE,
    -f32::MIN_POSITIVE,
    f32::EPSILON,
    1.0e-45,
    -1.0e-45,
    1.0e-40,
    -3.0e-39,
    1.0e-20,
    -1.0e-19,
    1.0e20,
    -3.0e19,
    16_777_217.0,
    0.333_333_34,
];

/// An operation by name, on three operands, and what it means.
type Operation = (&'static str, fn(f32, f32, f32) -> f32);

const OPERATIONS: [Operation; 8] = [
    ("add", |a, b, _| a + b),
    ("sub", |a, b, _| a - b),
    ("mul", |a, b, _| a * b),
    ("div", |a, b, _| a / b),
    ("fma", libm::fmaf),
    ("fnma", |a, b, c| libm::fmaf(-a, b, c)),
    ("max", |a, b, _| if a > b { a } else { b }),
    ("min", |a, b, _| if a < b { a } else { b }),
];

struct Apply<'a> {
    operation: &'a str,
    operands: &'a [[f32; LANES]; 3],
}

impl Algorithm for Apply<'_> {
    type Output = [f32; LANES];

    fn check(&self) {}

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> [f32; LANES] {
        let [a, b, c] = self.operands.each_ref().map(|operand| s.load(operand));
        let result = match self.operation {
            "add" => s.add(a, b),
            "sub" => s.sub(a, b),
            "mul" => s.mul(a, b),
            "div" => s.div(a, b),
            "fma" => s.fma(a, b, c),
            "fnma" => s.fnma(a, b, c),
            "max" => s.max(a, b),
            "min" => s.min(a, b),
            "scale" => s.scale(a, b),
            other => unreachable!("no operation is called {other}"),
        };
        let mut values = [0.0; LANES];
        s.store(result, &mut values);
        values
    }
}

/// As bits; the signs and payloads of NaNs are nobody's promise.
fn told_apart(values: [f32; LANES]) -> [u32; LANES] {
    values.map(|value| if value.is_nan() { f32::NAN } else { value }.to_bits())
}

#[test]
fn each_operation_means_what_simd_says_of_it() {
    for (operation, meaning) in OPERATIONS {
        for turn in 0..ODD.len() {
            for c in ODD {
                for half in [0, ODD.len() - LANES] {
                    let a: [f32; LANES] = std::array::from_fn(|lane| ODD[half + lane]);
                    let b: [f32; LANES] = std::array::from_fn(|lane| ODD[(half + lane + turn) % ODD.len()]);
                    let expected = std::array::from_fn(|lane| meaning(a[lane], b[lane], c));
                    for kernels in every_isa() {
                        let found = kernels.run(Apply { operation, operands: &[a, b, [c; LANES]] });
                        let what = format!("{operation} of {a:?}, {b:?}, {c} on {}", kernels.name());
                        assert_eq!(told_apart(found), told_apart(expected), "{what}");
                    }
                }
            }
        }
    }
}

/// By f64, in which every power and product here is exact; and so is the one f32, a normal number.
#[test]
fn a_power_of_two_scales_exactly_and_nan_stays_nan() {
    let two_to = |n: f32| libm::exp2(f64::from(n));
    let xs: [f32; LANES] =
        std::array::from_fn(|lane| (1.0 + lane as f32 / 16.0) * if lane % 3 == 0 { -1.0 } else { 1.0 });
    for kernels in every_isa() {
        let scaled = |x, n: f32| {
            kernels.run(Apply { operation: "scale", operands: &[x, [ROUNDER + n; LANES], [0.0; LANES]] })
        };
        for n in -126..=127_i16 {
            let n = f32::from(n);
            let expected = xs.map(|x| (f64::from(x) * two_to(n)) as f32);
            assert_eq!(bits(&scaled(xs, n)), bits(&expected), "2^{n} on {}", kernels.name());
        }
        let nan = scaled([f32::NAN; LANES], f32::NAN);
        assert!(nan.iter().all(|x| x.is_nan()), "{}", kernels.name());
    }
}

struct Part<'a> {
    from: &'a [f32],
    to: &'a mut [f32],
}

impl Algorithm for Part<'_> {
    /// The lanes between load and store.
    type Output = [f32; LANES];

    fn check(&self) {}

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> [f32; LANES] {
        let lanes = s.load_part(self.from);
        s.store_part(lanes, self.to);
        let mut values = [f32::NAN; LANES];
        s.store(lanes, &mut values);
        values
    }
}

#[test]
fn a_part_is_loaded_and_stored_and_nothing_beyond_it() {
    let memory = noise(80, 64);
    for (loaded, stored) in (0..=20).flat_map(|loaded| (0..=20).map(move |stored| (loaded, stored))) {
        let expected: [f32; LANES] =
            std::array::from_fn(|lane| if lane < loaded { memory[20 + lane] } else { 0.0 });
        for kernels in every_isa() {
            let mut to = vec![f32::NAN; 64];
            let found = kernels.run(Part { from: &memory[20..20 + loaded], to: &mut to[20..20 + stored] });
            assert_eq!(bits(&found), bits(&expected), "{loaded} on {}", kernels.name());
            for (at, value) in to.iter().enumerate() {
                let lane = at.wrapping_sub(20);
                let expected = if lane < stored.min(LANES) { expected[lane] } else { f32::NAN };
                assert_eq!(value.to_bits(), expected.to_bits(), "{stored} on {}: {at}", kernels.name());
            }
        }
    }
}

struct Transpose([[f32; LANES]; LANES]);

impl Algorithm for Transpose {
    type Output = [[f32; LANES]; LANES];

    fn check(&self) {}

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> [[f32; LANES]; LANES] {
        let columns = s.transpose(self.0.map(|row| s.load(&row)));
        let mut values = [[0.0; LANES]; LANES];
        for (values, column) in values.iter_mut().zip(columns) {
            s.store(column, values);
        }
        values
    }
}

#[test]
fn a_square_is_transposed() {
    let square: [[f32; LANES]; LANES] =
        std::array::from_fn(|row| std::array::from_fn(|column| (100 * row + column) as f32));
    for kernels in every_isa() {
        let found = kernels.run(Transpose(square));
        for (column, row) in (0..LANES).flat_map(|column| (0..LANES).map(move |row| (column, row))) {
            assert_eq!(found[column][row], square[row][column], "{}: {row}, {column}", kernels.name());
        }
    }
}
