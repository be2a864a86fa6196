//! The worker: trains runs on its own cores and reports what it measured.

pub mod agent;
pub mod bench;
pub mod config;
pub mod kernels;
pub mod lstm;
pub mod process;
pub mod trainer;
