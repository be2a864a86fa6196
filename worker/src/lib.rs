//! The worker: trains runs on its own cores and reports what it measured.

pub mod agent;
mod chain;
pub mod config;
pub mod kernels;
pub mod lstm;
pub mod process;
pub mod trainer;
