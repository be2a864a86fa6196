//! The arithmetic of training behind one safe door: the same bits on every instruction set.
//!
//! An algorithm is written once, over sixteen lanes of f32 (`simd::Simd`), and compiled for each instruction set.
//! [`Kernels`] is the proof that the processor has one: only detection makes it, and it is passed down. Every
//! algorithm is a struct of named slices and sizes; `Kernels::run` checks that they fit and carries it out.
//! Nothing here allocates (making room for packed weights apart), blocks, or keeps state.
#![cfg_attr(
    any(target_arch = "x86_64", target_arch = "aarch64"),
    expect(
        unsafe_code,
        reason = "vector instructions: loads, stores, and calls that need a detected feature"
    )
)]
#![expect(
    clippy::needless_range_loop,
    reason = "loops over arrays of vectors by index are unrolled, so that they stay in registers; iterators were not always"
)]
#![expect(
    clippy::inline_always,
    reason = "lane operations must melt into the function that enables the feature"
)]

mod activation;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(test)]
mod bounds;
mod cell;
pub(crate) mod classifier;
pub(crate) mod gradient;
#[cfg(test)]
mod lanes;
pub(crate) mod lines;
#[cfg(target_arch = "aarch64")]
mod neon;
pub(crate) mod pack;
pub(crate) mod peak;
mod portable;
mod product;
pub(crate) mod recurrence;
pub(crate) mod reduce;
pub(crate) mod simd;
pub(crate) mod softmax;
pub(crate) mod update;

use std::fmt;
use std::str::FromStr;

use simd::{Algorithm, Simd as _};

/// An instruction set that kernels are compiled for; its name is what `SLALOM_ISA` takes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum IsaName {
    /// `avx512`: sixteen lanes in one register.
    Avx512,
    /// `avx2`: AVX2 and FMA, two registers of eight lanes.
    Avx2,
    /// `neon`: four registers of four lanes.
    Neon,
    /// `portable`: any processor, and slow: fused multiply-add may be a software routine.
    Portable,
}

impl IsaName {
    /// All of them, the fastest first.
    pub const ALL: [Self; 4] = [Self::Avx512, Self::Avx2, Self::Neon, Self::Portable];

    /// The word of `SLALOM_ISA`, logs and hellos.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Neon => "neon",
            Self::Portable => "portable",
        }
    }

    const fn needs(self) -> &'static str {
        match self {
            Self::Avx512 => "an x86-64 processor with AVX-512F",
            Self::Avx2 => "an x86-64 processor with AVX2 and FMA",
            Self::Neon => "an aarch64 processor with NEON",
            Self::Portable => "any processor",
        }
    }
}

impl fmt::Display for IsaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What is not the name of an instruction set.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is not an instruction set: `avx512`, `avx2`, `neon` or `portable`")]
pub struct NotAnIsa(String);

impl FromStr for IsaName {
    type Err = NotAnIsa;

    fn from_str(word: &str) -> Result<Self, NotAnIsa> {
        Self::ALL.into_iter().find(|name| name.word() == word).ok_or_else(|| NotAnIsa(word.to_owned()))
    }
}

/// This processor cannot run what was asked for.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` needs {needs}, which this one is not", needs = .0.needs())]
pub struct IsaMissing(pub IsaName);

/// Kernels that this processor can run. Whichever they are, they give the same bits.
#[derive(Clone, Copy, Debug)]
pub struct Kernels(Isa);

#[derive(Clone, Copy, Debug)]
enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2<2>),
    /// Of which only the lower half is computed.
    #[cfg(target_arch = "x86_64")]
    Avx2Half(avx2::Avx2<1>),
    #[cfg(target_arch = "aarch64")]
    Neon(neon::Neon),
    Portable(portable::Portable),
}

impl Kernels {
    /// The fastest that this processor has.
    pub fn detect() -> Self {
        let first = IsaName::ALL.into_iter().find_map(|name| Self::of(name).ok());
        first.unwrap_or(Self(Isa::Portable(portable::Portable)))
    }

    /// Those of one instruction set.
    ///
    /// # Errors
    /// If this processor lacks it.
    pub fn of(name: IsaName) -> Result<Self, IsaMissing> {
        let isa = match name {
            #[cfg(target_arch = "x86_64")]
            IsaName::Avx512 => avx512::Avx512::detect().map(Isa::Avx512),
            #[cfg(target_arch = "x86_64")]
            IsaName::Avx2 => avx2::Avx2::detect().map(Isa::Avx2),
            #[cfg(not(target_arch = "x86_64"))]
            IsaName::Avx512 | IsaName::Avx2 => None,
            #[cfg(target_arch = "aarch64")]
            IsaName::Neon => neon::Neon::detect().map(Isa::Neon),
            #[cfg(not(target_arch = "aarch64"))]
            IsaName::Neon => None,
            IsaName::Portable => Some(Isa::Portable(portable::Portable)),
        };
        isa.map(Self).ok_or(IsaMissing(name))
    }

    /// All that this processor has, the fastest first.
    pub fn available() -> Vec<Self> {
        IsaName::ALL.into_iter().filter_map(|name| Self::of(name).ok()).collect()
    }

    /// Which they are.
    pub const fn name(self) -> IsaName {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) => IsaName::Avx512,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) | Isa::Avx2Half(_) => IsaName::Avx2,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon(_) => IsaName::Neon,
            Isa::Portable(_) => IsaName::Portable,
        }
    }

    /// For algorithms whose vectors are of so many columns: of eight or fewer, two registers of eight lanes would compute
    /// one for nothing.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(unused_variables, reason = "there are no halves to leave out")
    )]
    pub(crate) fn for_columns(self, columns: usize) -> Self {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(isa) if columns <= 8 => Self(Isa::Avx2Half(isa.lower_half())),
            _ => self,
        }
    }

    /// Carries out `algorithm`.
    ///
    /// # Panics
    /// If its slices do not have the sizes that its fields say.
    pub(crate) fn run<A: Algorithm>(self, algorithm: A) -> A::Output {
        algorithm.check();
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(isa) => isa.run(algorithm),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(isa) => isa.run(algorithm),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2Half(isa) => isa.run(algorithm),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon(isa) => isa.run(algorithm),
            Isa::Portable(isa) => isa.run(algorithm),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use slalom_common::rng::philox4x32_10;

    use super::*;

    /// Pseudo-random numbers from -1 to 1.
    pub(crate) fn noise(seed: u32, len: usize) -> Vec<f32> {
        let word = |index: usize| philox4x32_10([index as u32, 0, 0, 0], [seed, 0])[0];
        (0..len).map(|index| (f64::from(word(index)) * (-31.0_f64).exp2() - 1.0) as f32).collect()
    }

    /// Every size from 1 to 67 in either place, and these pairs.
    pub(crate) fn sizes<const MORE: usize>(more: [(usize, usize); MORE]) -> Vec<[usize; 2]> {
        let other = |size: usize| size * 29 % 67 + 1;
        let every = (1..=67).flat_map(|size| [[size, other(size)], [other(size + 1), size]]);
        every.chain(more.map(|(a, b)| [a, b])).collect()
    }

    /// As bits, so that a failed comparison is about what it says.
    pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    /// The kernels of each instruction set; what this processor lacks is skipped by name.
    pub(crate) fn every_isa() -> Vec<Kernels> {
        let mut all = Vec::new();
        for name in IsaName::ALL {
            match Kernels::of(name) {
                Ok(kernels) => all.push(kernels),
                Err(missing) => eprintln!("SKIPPED {name}: {missing}"),
            }
        }
        all
    }

    #[test]
    fn an_instruction_set_is_named_as_it_is_parsed() {
        for name in IsaName::ALL {
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        let refused = "avx10".parse::<IsaName>().expect_err("not one of ours");
        assert_eq!(
            refused.to_string(),
            "`avx10` is not an instruction set: `avx512`, `avx2`, `neon` or `portable`"
        );
    }

    #[test]
    fn detection_finds_the_first_that_the_processor_has() {
        let first = Kernels::available()[0].name();
        assert_eq!(Kernels::detect().name(), first);
        assert_eq!(Kernels::of(IsaName::Portable).map(Kernels::name), Ok(IsaName::Portable));
    }

    #[cfg(target_arch = "aarch64")]
    #[test]
    fn on_aarch64_neon_is_what_is_detected() {
        assert_eq!(Kernels::detect().name(), IsaName::Neon);
    }
}
