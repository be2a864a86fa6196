//! The coordinator: schedules the runs of sweeps over workers, records what comes back, answers people.

pub mod aggregate;
pub mod announce;
pub mod batch;
pub mod config;
pub mod driver;
pub mod process;
pub mod scheduler;
pub mod service;
pub mod store;
