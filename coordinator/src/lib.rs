//! The coordinator: schedules the runs of sweeps over workers, records what comes back, answers people.

pub mod announce;
pub mod driver;
pub mod scheduler;
pub mod store;
