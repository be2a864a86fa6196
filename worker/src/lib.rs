//! The worker: trains runs on its own cores and reports what it measured.

pub mod agent;
pub mod kernels;
pub mod lstm;
pub mod trainer;
